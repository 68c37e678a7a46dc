//! Who asks for what, as handlers take it in.

use std::net::IpAddr;

use tidegate_chassis::{
    auth::{self, Caller, Role},
    error::Violations,
};
use tonic::{Request, Status, metadata::MetadataMap};
use uuid::Uuid;

use super::{idempotency::Asked, origin::TrustedProxies};
pub(super) use crate::identity::names::all_good as refuse;
use crate::{changes::By, domain::OrganizationId, error::KeysError, identity::names, origin::Actor};

/// A request with its caller.
pub(super) struct Asking<R> {
    pub(super) caller: Caller,
    pub(super) by: By,
    pub(super) request: R,
    metadata: MetadataMap,
    /// The caller as idempotency keys are told apart.
    name: String,
}

impl<R> Asking<R> {
    /// Takes a request in.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED if nobody is named.
    pub(super) fn read(request: Request<R>, proxies: &TrustedProxies) -> Result<Self, Status> {
        let caller = auth::caller(&request)?.clone();
        let by = By { actor: Actor::caller(&caller), origin: proxies.origin(&request) };
        let organization = caller.organization.map_or_else(String::new, |id| id.to_string());
        let name = format!("{}/{}/{}", caller.role.name(), organization, caller.subject);
        let (metadata, _, request) = request.into_parts();
        Ok(Self { caller, by, request, metadata, name })
    }

    /// What tells this request from others with the same idempotency key.
    pub(super) fn asked(&self, method: &'static str) -> Asked<'_> {
        Asked { caller: Some(&self.name), method, metadata: &self.metadata }
    }

    /// The organization that is meant; see [`names::organization_among`].
    pub(super) fn organization(
        &self,
        text: &str,
        violations: &mut Violations,
    ) -> Result<OrganizationId, KeysError> {
        names::organization_among(&self.caller, text, violations)
    }

    /// Lets only callers pass that are for all organizations.
    ///
    /// # Errors
    ///
    /// [`KeysError::RoleMissing`].
    pub(super) fn must_be_for_all(&self) -> Result<(), KeysError> {
        match self.caller.organization {
            None => Ok(()),
            Some(_) => Err(KeysError::RoleMissing("this needs credentials that are for all organizations")),
        }
    }

    /// Refuses callers that are none of our own services: what replicas are told and take off accounts is not for every backend.
    ///
    /// # Errors
    ///
    /// [`KeysError::RoleMissing`].
    pub(super) fn must_be_ours(&self) -> Result<(), KeysError> {
        match self.caller.is_internal() {
            true => Ok(()),
            false => Err(KeysError::RoleMissing("this is for Tidegate's own services")),
        }
    }

    /// Whether the caller may do everything, everywhere. There is no `admin` of one organization.
    pub(super) fn is_admin(&self) -> bool {
        self.caller.role == Role::Admin
    }
}

/// An id of a request. A wrong one is added to `violations`, and is nil.
pub(super) fn id(field: &str, text: &str, violations: &mut Violations) -> Uuid {
    text.parse().unwrap_or_else(|_| {
        violations.add(field, "must be a UUID");
        Uuid::nil()
    })
}

/// An address of a request; empty is none.
pub(super) fn address(field: &str, text: &str, violations: &mut Violations) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        violations.add(field, "must be an IP address");
    }
    address
}

/// The caller of a method that is open to anybody, as events tell it.
pub(super) fn anybody<R>(request: &Request<R>, proxies: &TrustedProxies) -> By {
    let actor = match auth::caller(request) {
        Ok(caller) => Actor::caller(caller),
        Err(_) => Actor::anonymous(),
    };
    By { actor, origin: proxies.origin(request) }
}
