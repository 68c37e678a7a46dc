//! Who may pass to the served service.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use hyper::body::Incoming;

use super::{
    call::{Handler, Worker},
    served::Served,
};
use crate::auth::{Access, AuthError, Origin, Verified};

/// Stands before the served service on one connection.
///
/// Who shows no credentials is whom the connection names, which was found when it opened: that costs a look for the header.
/// A token is compared with the one before it on the connection, then looked for among those that the worker has verified,
/// and verified only then.
pub(super) struct Gate<S> {
    service: S,
    worker: Arc<Worker>,
    /// Calls without credentials.
    connection: Origin,
    last: Option<Shown>,
}

/// Credentials that were good.
struct Shown {
    value: HeaderValue,
    verified: Verified,
    origin: Origin,
}

impl<S: Served> Gate<S> {
    pub(super) fn new(service: S, worker: Arc<Worker>, peer: IpAddr) -> Self {
        let connection = Origin { caller: None, peer };
        let mut gate = Self { service, worker, connection, last: None };
        gate.certified(&[]);
        gate
    }

    pub(super) fn certified(&mut self, names: &[String]) {
        self.connection.caller = self.worker.auth.of_connection(self.connection.peer, names).map(Arc::new);
    }

    /// Passes a call on.
    ///
    /// # Errors
    ///
    /// The caller may not make it. Whether it may is not always known at once; then the answer says so.
    pub(super) fn call(
        &mut self,
        request: Request<Incoming>,
        access: Access,
    ) -> Result<Handler<S::Future>, AuthError> {
        let Some(value) = request.headers().get(AUTHORIZATION) else {
            return pass(&mut self.service, request, &self.connection, access);
        };
        let is_last = |last: &&Shown| last.value == value && self.worker.auth.is_good(&last.verified);
        if let Some(last) = self.last.as_ref().filter(is_last) {
            return pass(&mut self.service, request, &last.origin, access);
        }
        match verify(&self.worker, value) {
            Ok(Some(verified)) => {
                let origin =
                    Origin { caller: Some(Arc::clone(&verified.caller)), peer: self.connection.peer };
                let last = self.last.insert(Shown { value: value.clone(), verified, origin });
                pass(&mut self.service, request, &last.origin, access)
            }
            // As if there were none: a login must not fail for a token that has expired.
            Ok(None) | Err(_) if access == Access::Public => {
                let nobody = Origin { caller: None, peer: self.connection.peer };
                pass(&mut self.service, request, &nobody, access)
            }
            Ok(None) => Ok(self.call_later(request, access)),
            Err(error) => Err(error),
        }
    }

    /// Passes a call on once the key is looked up that signed its token.
    #[cold]
    fn call_later(&self, request: Request<Incoming>, access: Access) -> Handler<S::Future> {
        let (mut service, worker, peer) =
            (self.service.clone(), Arc::clone(&self.worker), self.connection.peer);
        Handler::Boxed(Box::pin(async move {
            let admitted = async {
                let value = request.headers().get(AUTHORIZATION).ok_or(AuthError::Missing)?;
                let verified = worker.auth.verify(value.as_bytes()).await?;
                access.admit(Some(&verified.caller))?;
                Ok(Origin { caller: Some(verified.caller), peer })
            };
            match admitted.await {
                Ok(origin) => service.serve(request, &origin).await,
                Err(error) => {
                    worker.auth.count(error);
                    Ok(AuthError::to_status(error).into_http())
                }
            }
        }))
    }
}

#[inline]
fn pass<S: Served>(
    service: &mut S,
    request: Request<Incoming>,
    origin: &Origin,
    access: Access,
) -> Result<Handler<S::Future>, AuthError> {
    access.admit(origin.caller.as_deref())?;
    Ok(Handler::Own(service.serve(request, origin)))
}

/// Whom a header names; nothing if its key is not known yet.
fn verify(worker: &Worker, value: &HeaderValue) -> Result<Option<Verified>, AuthError> {
    let value = value.as_bytes();
    let mut tokens = worker.tokens.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(verified) = tokens.get(value) {
        if worker.auth.is_good(&verified) {
            return Ok(Some(verified));
        }
        tokens.remove(value);
    }
    let verified = worker.auth.verify_at_once(value)?;
    if let Some(verified) = &verified {
        tokens.insert(value, verified.clone());
    }
    Ok(verified)
}
