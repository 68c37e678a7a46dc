//! The methods of API keys.

use std::time::Duration;

use tidegate_chassis::error::Violations;
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Handlers,
    asking::{Asking, id, refuse},
    fields,
    pages::Page,
    render,
};
use crate::{
    api_keys::{CreatedKey, Expiry, ImportedKey, KeyUpdate, MAX_GRACE, NewKey, RotatedKey},
    domain::{ApiKey, KeyId, LineageId},
    error::KeysError,
};

/// Keys that are imported at a time.
const MAX_IMPORTED: usize = 1_000;
const MAX_IMPORTED_PREFIX_BYTES: usize = 32;

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Answer<pb::CreateApiKeyResponse> {
        let mut asking = Asking::read(request, &self.proxies)?;
        // A map has no order, and comes in another if it is sent again.
        asking.request.metadata.sort_by(|one, other| one.key.cmp(&other.key));
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let organization = asking.organization(&wanted.organization_id, &mut violations)?;
        let new = new_key(wanted, &mut violations);
        refuse(violations)?;
        let render = |created: &CreatedKey| pb::CreateApiKeyResponse {
            key: Some(just_written(&created.key)),
            key_value: created.value.expose().to_owned(),
        };
        let act = |keep| self.keys.create(&asking.by, organization, new, keep);
        let asked = asking.asked("KeysService.CreateApiKey");
        Ok(Response::new(self.idempotency.run(asked, &asking.request, render, act).await?))
    }

    pub(super) async fn import_api_keys(
        &self,
        request: Request<pb::ImportApiKeysRequest>,
    ) -> Answer<pb::ImportApiKeysResponse> {
        let mut asking = Asking::read(request, &self.proxies)?;
        // A map has no order, and comes in another if it is sent again.
        for key in &mut asking.request.keys {
            key.metadata.sort_by(|one, other| one.key.cmp(&other.key));
        }
        let mut violations = Violations::default();
        let organization = asking.organization(&asking.request.organization_id, &mut violations)?;
        let keys = imported_keys(&asking.request.keys, &mut violations);
        refuse(violations)?;
        let render =
            |keys: &Vec<ApiKey>| pb::ImportApiKeysResponse { keys: keys.iter().map(just_written).collect() };
        let act = |keep| self.keys.import(&asking.by, organization, keys, keep);
        let asked = asking.asked("KeysService.ImportApiKeys");
        Ok(Response::new(self.idempotency.run(asked, &asking.request, render, act).await?))
    }

    pub(super) async fn get_api_key(
        &self,
        request: Request<pb::GetApiKeyRequest>,
    ) -> Answer<pb::GetApiKeyResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let mut violations = Violations::default();
        let organization = asking.organization(&asking.request.organization_id, &mut violations)?;
        let id = KeyId(id("api_key_id", &asking.request.api_key_id, &mut violations));
        refuse(violations)?;
        let key = self.keys.get(organization, id).await?;
        Ok(Response::new(pb::GetApiKeyResponse { key: Some(render::api_key(&key, self.clock.now_us())) }))
    }

    pub(super) async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Answer<pb::ListApiKeysResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let organization = asking.organization(&wanted.organization_id, &mut violations)?;
        let search = fields::search(&wanted.search, &mut violations);
        let status = fields::key_status(wanted.status, &mut violations);
        let lineage = match wanted.lineage_id.as_str() {
            "" => None,
            lineage => Some(LineageId(id("lineage_id", lineage, &mut violations))),
        };
        let (tenant, state) = (organization.to_string(), wanted.status.to_string());
        let list = ["api keys", &tenant, &search, &state, &wanted.lineage_id];
        let (size, token) = (wanted.page_size, &wanted.page_token);
        let page = Page::read(&self.sealing, &list, size, token, &mut violations);
        refuse(violations)?;
        let after = page.after().and_then(|cursor| Uuid::from_slice(cursor).ok()).map(KeyId);
        let mut found = self.keys.list(organization, &search, status, lineage, after, page.limit()).await?;
        let next_page_token = page.cut(&mut found, |key| key.id.0.as_bytes().to_vec());
        let now_us = self.clock.now_us();
        let keys = found.iter().map(|key| render::api_key(key, now_us)).collect();
        Ok(Response::new(pb::ListApiKeysResponse { keys, next_page_token }))
    }

    pub(super) async fn update_api_key(
        &self,
        request: Request<pb::UpdateApiKeyRequest>,
    ) -> Answer<pb::UpdateApiKeyResponse> {
        let mut asking = Asking::read(request, &self.proxies)?;
        // A map has no order, and comes in another if it is sent again.
        if let Some(metadata) = &mut asking.request.metadata {
            metadata.entries.sort_by(|one, other| one.key.cmp(&other.key));
        }
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let organization = asking.organization(&wanted.organization_id, &mut violations)?;
        let id = KeyId(id("api_key_id", &wanted.api_key_id, &mut violations));
        let update = key_update(wanted, &mut violations);
        refuse(violations)?;
        let render = |key: &ApiKey| pb::UpdateApiKeyResponse { key: Some(just_written(key)) };
        let act = |keep| self.keys.update(&asking.by, organization, id, update, keep);
        let asked = asking.asked("KeysService.UpdateApiKey");
        let again = async || self.organizations.put_in_force(organization).await;
        let answer = self.idempotency.run_in_force(asked, &asking.request, render, act, again);
        Ok(Response::new(answer.await?))
    }

    pub(super) async fn rotate_api_key(
        &self,
        request: Request<pb::RotateApiKeyRequest>,
    ) -> Answer<pb::RotateApiKeyResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let organization = asking.organization(&wanted.organization_id, &mut violations)?;
        let id = KeyId(id("api_key_id", &wanted.api_key_id, &mut violations));
        let grace = Duration::from_secs(wanted.grace_period_s);
        if grace > MAX_GRACE {
            violations.add("grace_period_s", format!("must be at most {}", MAX_GRACE.as_secs()));
        }
        refuse(violations)?;
        let render = |rotated: &RotatedKey| pb::RotateApiKeyResponse {
            old_key: Some(just_written(&rotated.old)),
            new_key: Some(just_written(&rotated.new.key)),
            key_value: rotated.new.value.expose().to_owned(),
        };
        let act = |keep| self.keys.rotate(&asking.by, organization, id, grace, keep);
        let asked = asking.asked("KeysService.RotateApiKey");
        let again = async || self.organizations.put_in_force(organization).await;
        let answer = self.idempotency.run_in_force(asked, &asking.request, render, act, again);
        Ok(Response::new(answer.await?))
    }

    pub(super) async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Answer<pb::RevokeApiKeyResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let mut violations = Violations::default();
        let organization = asking.organization(&asking.request.organization_id, &mut violations)?;
        let id = KeyId(id("api_key_id", &asking.request.api_key_id, &mut violations));
        refuse(violations)?;
        let render = |key: &ApiKey| {
            // It may have been revoked before, after a grace period: so it is shown as of then.
            let at_us = key.revoked.map_or(key.changed_us, |(at_us, _)| at_us.max(key.changed_us));
            pb::RevokeApiKeyResponse { key: Some(render::api_key(key, at_us)) }
        };
        let act = |keep| self.keys.revoke(&asking.by, organization, id, keep);
        let asked = asking.asked("KeysService.RevokeApiKey");
        let again = async || self.organizations.put_in_force(organization).await;
        let answer = self.idempotency.run_in_force(asked, &asking.request, render, act, again);
        Ok(Response::new(answer.await?))
    }
}

/// Names and values of a map; each map has a message of its own for them.
macro_rules! pairs {
    ($entries:expr) => {
        $entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()))
    };
}

/// A key as it is at the time at which it was changed.
fn just_written(key: &ApiKey) -> pb::ApiKey {
    render::api_key(key, key.changed_us)
}

fn new_key(wanted: &pb::CreateApiKeyRequest, violations: &mut Violations) -> NewKey {
    NewKey {
        name: fields::name("name", &wanted.name, violations),
        environment: fields::environment("environment", wanted.environment, violations),
        scopes: fields::scopes("scopes", &wanted.scopes, violations),
        expiry: fields::expiry("expires_at_ms", wanted.expires_at_ms, Expiry::Default, violations),
        allowed_cidrs: fields::cidrs("allowed_cidrs", &wanted.allowed_cidrs, violations),
        metadata: fields::metadata("metadata", pairs!(wanted.metadata), violations),
        limits: fields::limits("limits", &wanted.limits, violations),
    }
}

fn key_update(wanted: &pb::UpdateApiKeyRequest, violations: &mut Violations) -> KeyUpdate {
    KeyUpdate {
        name: wanted.name.as_ref().map(|name| fields::name("name", name, violations)),
        scopes: wanted.scopes.as_ref().map(|list| fields::scopes("scopes.scopes", &list.scopes, violations)),
        enabled: wanted.enabled,
        expiry: wanted
            .expires_at_ms
            .map(|at_ms| fields::expiry("expires_at_ms", Some(at_ms), Expiry::Default, violations)),
        allowed_cidrs: wanted
            .allowed_cidrs
            .as_ref()
            .map(|list| fields::cidrs("allowed_cidrs.cidrs", &list.cidrs, violations)),
        metadata: wanted
            .metadata
            .as_ref()
            .map(|metadata| fields::metadata("metadata.entries", pairs!(metadata.entries), violations)),
        limits: wanted.limits.as_ref().map(|list| fields::limits("limits.limits", &list.limits, violations)),
        etag: fields::etag(&wanted.etag),
    }
}

fn imported_keys(wanted: &[pb::ImportedKey], violations: &mut Violations) -> Vec<ImportedKey> {
    if !(1..=MAX_IMPORTED).contains(&wanted.len()) {
        violations.add("keys", format!("must be 1 to {MAX_IMPORTED}"));
        return Vec::new();
    }
    let mut keys = Vec::with_capacity(wanted.len());
    for (index, wanted) in wanted.iter().enumerate() {
        let mut wrong = Violations::default();
        keys.push(ImportedKey {
            hash: sha256("key_sha256", &wanted.key_sha256, &mut wrong),
            name: fields::name("name", &wanted.name, &mut wrong),
            key_prefix: imported_prefix(&wanted.key_prefix, &mut wrong),
            environment: fields::environment("environment", wanted.environment, &mut wrong),
            scopes: fields::scopes("scopes", &wanted.scopes, &mut wrong),
            expiry: fields::expiry("expires_at_ms", wanted.expires_at_ms, Expiry::Never, &mut wrong),
            metadata: fields::metadata("metadata", pairs!(wanted.metadata), &mut wrong),
        });
        violations.add_all(&format!("keys[{index}]"), wrong);
    }
    keys
}

fn imported_prefix(text: &str, violations: &mut Violations) -> String {
    if text.len() > MAX_IMPORTED_PREFIX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        violations.add("key_prefix", "must be at most 32 printable ASCII characters");
    }
    text.to_owned()
}

/// A SHA-256; all zeros if it is none, which is added to `violations`.
pub(super) fn sha256(field: &str, bytes: &[u8], violations: &mut Violations) -> [u8; 32] {
    bytes.try_into().unwrap_or_else(|_| {
        violations.add(field, "must be 32 bytes");
        [0; 32]
    })
}

/// The organization and key that a request names.
pub(super) fn of_key<R>(
    asking: &Asking<R>,
    organization: &str,
    key: &str,
    violations: &mut Violations,
) -> Result<(crate::domain::OrganizationId, KeyId), KeysError> {
    let organization = asking.organization(organization, violations)?;
    Ok((organization, KeyId(id("api_key_id", key, violations))))
}
