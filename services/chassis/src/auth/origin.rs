//! Where a call comes from, for handlers.

use std::{net::IpAddr, sync::Arc};

use tonic::{Extensions, Request, Status};

use super::{AuthError, Caller};

/// Where a call comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who calls; nobody only where a method is open to anybody.
    pub caller: Option<Arc<Caller>>,
    /// The other end of the connection.
    pub peer: IpAddr,
}

/// Who calls.
///
/// # Errors
///
/// UNAUTHENTICATED if nobody is named, as it may be where a method is open to anybody.
pub fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    let caller = origin(request.extensions()).and_then(|origin| origin.caller.as_deref());
    caller.ok_or_else(|| AuthError::Missing.to_status())
}

/// The other end of the connection; absent if no server of the chassis took the call in.
pub fn peer<T>(request: &Request<T>) -> Option<IpAddr> {
    origin(request.extensions()).map(|origin| origin.peer)
}

fn origin(extensions: &Extensions) -> Option<&Origin> {
    extensions.get()
}
