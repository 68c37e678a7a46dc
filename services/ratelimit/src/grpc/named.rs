//! Limits beside those of policies, for who looks at them or clears them: those of the API key or the organization that is named.

use std::sync::Arc;

use smallvec::SmallVec;
use tidegate_chassis::auth::{AuthError, Caller, Role};
use tidegate_proto::view::CheckView;
use tonic::Status;
use uuid::Uuid;

use super::{
    Shared,
    error::keys_status,
    keyed,
    parse::{self, Asked},
    scope::{ORGANIZATION, Scope},
};
use crate::{
    keys::{Found, KeysError, Record},
    limiter::{KeyLimit, Question, Touches},
};

/// Full name of the monthly quota of an organization.
const QUOTA: &str = "organization/quota";

/// Whether a call that clears all limits, or the one of this name, means the quota of an organization. Who is of one may not: the
/// quota is set by who runs this, and whoever could clear it would have none.
///
/// # Errors
///
/// PERMISSION_DENIED: the caller is of an organization, and names the quota.
pub(super) fn clears_quota(caller: &Caller, limit: Option<&str>) -> Result<bool, Status> {
    match (caller.organization, limit) {
        (None, limit) => Ok(limit.is_none_or(|name| name == QUOTA)),
        (Some(_), Some(QUOTA)) => {
            Err(AuthError::RoleMissing { role: caller.role, needed: &[Role::Admin] }.to_status())
        }
        (Some(_), _) => Ok(false),
    }
}

/// Who is named.
pub(super) enum Named {
    /// An API key, whatever it is good for; and whether the quota of its organization is meant.
    Key(Arc<Record>, bool),
    /// An organization, or nobody: its quota, if there is one and it is meant.
    Organization(Box<[KeyLimit]>),
}

impl Named {
    /// Finds who is named by a view whose fields have been found valid, for a caller who may touch so much. The keys service is asked for
    /// the quota of an organization only `with_quota`.
    ///
    /// # Errors
    ///
    /// Nobody of whom the caller may know has the key, or the keys service cannot be asked.
    pub(super) async fn of(
        shared: &Shared,
        view: &CheckView<'_>,
        scope: Scope,
        with_quota: bool,
    ) -> Result<Self, Status> {
        if !view.api_key.is_empty() {
            let record = match shared.keys()?.find(view.api_key).await.map_err(keys_status)? {
                Found::Key(record) if scope.organization(record.organization).is_ok() => record,
                Found::Key(_) | Found::Nobody => return Err(keys_status(KeysError::NotFound)),
            };
            return Ok(Self::Key(record, with_quota));
        }
        // The last of a name counts.
        let organization = view.attributes.iter().rev().find(|(name, _)| *name == ORGANIZATION);
        let organization = organization.and_then(|(_, value)| Uuid::try_parse(value).ok());
        let (Some(keys), Some(organization), true) = (&shared.keys, organization, with_quota) else {
            return Ok(Self::Organization([].into()));
        };
        let quota = keys.quota(organization).await.map_err(keys_status)?;
        Ok(Self::Organization(quota.into_iter().collect()))
    }

    /// The attributes of the view, but for those that the key gives.
    pub(super) fn attributes<'v>(&'v self, view: &'v CheckView<'_>) -> SmallVec<[(&'v str, &'v str); 12]> {
        match self {
            Self::Key(record, _) => record.attributes(&view.attributes),
            Self::Organization(_) => view.attributes.iter().copied().collect(),
        }
    }

    /// Limits beside those of policies.
    pub(super) fn limits(&self) -> &[KeyLimit] {
        match self {
            Self::Key(record, true) => record.terms().limits,
            Self::Key(record, false) => record.own_limits(),
            Self::Organization(quota) => quota,
        }
    }

    /// Which counters are to be cleared.
    pub(super) fn question<'a>(
        &self,
        view: &'a CheckView<'_>,
        attributes: &'a [(&'a str, &'a str)],
        scope: Scope,
    ) -> Asked<'a> {
        let touches = match (scope, self) {
            (Scope::Internal | Scope::All, _) => Touches::All,
            // It is of the caller's organization, or it would not be named.
            (Scope::Of(_), Self::Key(record, _)) => keyed::touches(record),
            (Scope::Of(own), Self::Organization(_)) => Touches::Of(own),
        };
        Question { attributes, touches, ..parse::asked(view) }
    }
}

#[cfg(test)]
mod tests;
