//! Keys that were found where they should not be.

use serde_json::Value;

use super::ApiKeys;
use crate::{
    changes::By,
    domain::{Action, ApiKey, RevokeReason},
    error::{KeysError, until_written},
    idempotency::Keep,
};

/// Who found a key, and where.
#[derive(Clone, Debug, Default)]
pub struct Leak {
    /// Who found it.
    pub source: String,
    /// Where. What follows `?` or `#` is not kept, since keys are found there.
    pub url: String,
}

impl ApiKeys {
    /// Revokes a key that was found where it should not be; one that is revoked stays as it is.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn revoke_leaked(&self, by: &By, key: &ApiKey, leak: &Leak) -> Result<ApiKey, KeysError> {
        let place = leak.url.split(['?', '#']).next().unwrap_or_default();
        let details = [("source", Value::from(leak.source.as_str())), ("url", Value::from(place))];
        let reason = (RevokeReason::Leaked, Action::ApiKeyLeak);
        let keep = Keep::nothing();
        let turn = self.changes.turn(key.organization_id).await;
        until_written(|| self.try_revoke(by, &turn, key.id, reason, &details, &keep)).await
    }
}
