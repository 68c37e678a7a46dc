//! Quotas of organizations, for who looks at them or clears them. Checks know them with the key.

use tidegate_proto::keys::v1::GetOrganizationRequest;
use tokio::time::timeout;
use tonic::Code;
use uuid::Uuid;

use super::{Keys, KeysError, record};
use crate::limiter::KeyLimit;

impl Keys {
    /// The monthly quota of an organization, by the keys service; nothing if it has none, or is none of its organizations.
    ///
    /// # Errors
    ///
    /// The keys service cannot be asked.
    pub(crate) async fn quota(&self, organization: Uuid) -> Result<Option<KeyLimit>, KeysError> {
        let inner = &self.0;
        let Ok(_place) = inner.views.try_acquire() else {
            inner.metrics.refused.inc();
            return Err(KeysError::QuotaUnknown);
        };
        let request = GetOrganizationRequest { organization_id: organization.to_string() };
        let mut client = inner.client.get();
        let answered = timeout(inner.config.deadline.get(), client.get_organization(request)).await;
        let failed = |what: String| {
            inner.metrics.failures.inc();
            tracing::debug!(what, "the keys service did not say what the quota of an organization is");
            KeysError::QuotaUnknown
        };
        match answered {
            Ok(Ok(answer)) => match answer.into_inner().organization {
                Some(of) => record::quota(&of, inner.replicas).map_err(failed),
                None => Err(failed("an organization that is not told".to_owned())),
            },
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            Ok(Err(status)) => Err(failed(status.to_string())),
            Err(_) => Err(failed("it took too long".to_owned())),
        }
    }
}
