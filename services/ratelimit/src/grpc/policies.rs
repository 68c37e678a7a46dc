//! The methods of policies.

use tidegate_chassis::error::Violations;
use tidegate_proto::ratelimit::v1 as pb;
use tonic::Status;

use super::{
    error::{change_status, invalid},
    fields,
    pages::Page,
};
use crate::{
    catalog::{Catalog, ChangeError, Expected, Wish},
    policies::Listed,
    store::catalog::{Entry, EntryKey, Kind},
};

type Answer<T> = Result<T, Status>;

/// Entries that are read and changed over the API.
pub(super) struct Entries<'c>(pub(super) &'c Catalog);

impl Entries<'_> {
    pub(super) async fn create_policy(
        &self,
        request: pb::CreatePolicyRequest,
    ) -> Answer<pb::CreatePolicyResponse> {
        let wish = policy_wish(request.policy, Expected::Absent, "")?;
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::CreatePolicyResponse { policy: Some(policy(&entry)) })
    }

    pub(super) async fn get_policy(&self, request: pb::GetPolicyRequest) -> Answer<pb::GetPolicyResponse> {
        let key = policy_key(&request.namespace, &request.name)?;
        let policy = match request.version {
            0 => {
                let listed = self.0.get(&key).await.ok_or_else(|| not_found(&key))?;
                fields::policy(&listed.fields, Some(fields::meta_of_listed(&listed)))
            }
            version => policy(&self.version(&key, version).await?),
        };
        Ok(pb::GetPolicyResponse { policy: Some(policy) })
    }

    pub(super) async fn list_policies(
        &self,
        request: pb::ListPoliciesRequest,
    ) -> Answer<pb::ListPoliciesResponse> {
        let (size, token) = (request.page_size, &request.page_token);
        let page = page(&["policies", &request.namespace], size, token)?;
        let scope = Some(&*request.namespace).filter(|namespace| !namespace.is_empty());
        let (listed, next_page_token) = self.page(Kind::Policy, scope, &page).await;
        let policy = |listed: &Listed| fields::policy(&listed.fields, Some(fields::meta_of_listed(listed)));
        Ok(pb::ListPoliciesResponse { policies: listed.iter().map(policy).collect(), next_page_token })
    }

    pub(super) async fn update_policy(
        &self,
        request: pb::UpdatePolicyRequest,
    ) -> Answer<pb::UpdatePolicyResponse> {
        let wish = policy_wish(request.policy, Expected::Present, &request.etag)?;
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::UpdatePolicyResponse { policy: Some(policy(&entry)) })
    }

    pub(super) async fn delete_policy(
        &self,
        request: pb::DeletePolicyRequest,
    ) -> Answer<pb::DeletePolicyResponse> {
        let key = policy_key(&request.namespace, &request.name)?;
        self.fulfil(removal(key, &request.etag), request.validate_only).await?;
        Ok(pb::DeletePolicyResponse {})
    }

    pub(super) async fn list_policy_versions(
        &self,
        request: pb::ListPolicyVersionsRequest,
    ) -> Answer<pb::ListPolicyVersionsResponse> {
        let key = policy_key(&request.namespace, &request.name)?;
        let list = ["versions", &request.namespace, &request.name];
        let page = page(&list, request.page_size, &request.page_token)?;
        let below = page.after_version().unwrap_or(u64::MAX);
        let limit = u32::try_from(page.size + 1).expect("a page has at most a hundred entries");
        let mut history = self.history(&key, below, limit).await?;
        if history.is_empty() && request.page_token.is_empty() {
            return Err(not_found(&key));
        }
        let more = history.len() > page.size;
        history.truncate(page.size);
        let last = history.last().filter(|_| more);
        let next_page_token = last.map(|entry| page.token_after_version(entry.version)).unwrap_or_default();
        let version = |entry: &Entry| pb::PolicyVersion {
            version: entry.version,
            time: Some(fields::timestamp(entry.changed_us)),
            deleted: entry.body.is_none(),
            policy: entry.body.is_some().then(|| policy(entry)),
        };
        Ok(pb::ListPolicyVersionsResponse {
            versions: history.iter().map(version).collect(),
            next_page_token,
        })
    }

    pub(super) async fn rollback_policy(
        &self,
        request: pb::RollbackPolicyRequest,
    ) -> Answer<pb::RollbackPolicyResponse> {
        let key = policy_key(&request.namespace, &request.name)?;
        let earlier = self.version(&key, request.version).await?;
        let wish = Wish {
            key,
            fields: Some(fields::of_stored(&earlier)),
            expected: Expected::Any,
            version: fields::version_of(&request.etag),
            path: "policy".to_owned(),
        };
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::RollbackPolicyResponse { policy: Some(policy(&entry)) })
    }

    /// Makes one change, and gives the entry as it is then.
    pub(super) async fn fulfil(&self, wish: Wish, validate_only: bool) -> Answer<Entry> {
        let changed =
            self.0.change(vec![wish], validate_only).await.map_err(|error| change_status(&error))?;
        changed.into_iter().next().ok_or_else(|| Status::internal("one wish makes one entry"))
    }

    /// A page of entries in force, and the token of the next one.
    pub(super) async fn page(&self, kind: Kind, scope: Option<&str>, page: &Page) -> (Vec<Listed>, String) {
        self.page_of_names(kind, scope, "", page).await
    }

    /// As [`page`](Self::page), only entries whose names begin with `names`.
    pub(super) async fn page_of_names(
        &self,
        kind: Kind,
        scope: Option<&str>,
        names: &str,
        page: &Page,
    ) -> (Vec<Listed>, String) {
        let after = page.after_key(kind);
        let mut listed = self.0.list(kind, scope, names, after.as_ref(), page.size + 1).await;
        let more = listed.len() > page.size;
        listed.truncate(page.size);
        let last = listed.last().filter(|_| more);
        let token = last.map(|listed| page.token_after_key(&listed.key)).unwrap_or_default();
        (listed, token)
    }

    /// An earlier version of an entry, which was not its removal.
    pub(super) async fn version(&self, key: &EntryKey, version: u64) -> Answer<Entry> {
        let found = self.history(key, version.saturating_add(1), 1).await?.pop();
        let found = found.filter(|entry| entry.version == version && entry.body.is_some());
        found.ok_or_else(|| not_found(key))
    }

    async fn history(&self, key: &EntryKey, below: u64, limit: u32) -> Answer<Vec<Entry>> {
        self.0.history(key.clone(), below, limit).await.map_err(|error| change_status(&error))
    }
}

/// What reads `page_size` and `page_token`.
pub(super) fn page(list: &[&str], size: i32, token: &str) -> Answer<Page> {
    let mut violations = Violations::default();
    let page = Page::read(list, size, token, &mut violations);
    if violations.is_empty() { Ok(page) } else { Err(invalid(violations)) }
}

/// A field that must be set.
pub(super) fn needed<T>(field: Option<T>, name: &str) -> Answer<T> {
    field.ok_or_else(|| {
        let mut violations = Violations::default();
        violations.add(name, "must be set");
        invalid(violations)
    })
}

/// The end of an entry.
pub(super) fn removal(key: EntryKey, etag: &str) -> Wish {
    let version = fields::version_of(etag);
    Wish { key, fields: None, expected: Expected::Present, version, path: String::new() }
}

pub(super) fn not_found(key: &EntryKey) -> Status {
    change_status(&ChangeError::NotFound(key.clone()))
}

fn policy_wish(policy: Option<pb::Policy>, expected: Expected, etag: &str) -> Answer<Wish> {
    let policy = needed(policy, "policy")?;
    Ok(Wish {
        key: EntryKey::policy(&policy.namespace, &policy.name),
        fields: Some(fields::of_policy(policy)),
        expected,
        version: fields::version_of(etag),
        path: "policy".to_owned(),
    })
}

fn policy_key(namespace: &str, name: &str) -> Answer<EntryKey> {
    let mut violations = Violations::default();
    for (field, value) in [("namespace", namespace), ("name", name)] {
        if value.is_empty() {
            violations.add(field, "must be set");
        }
    }
    if violations.is_empty() { Ok(EntryKey::policy(namespace, name)) } else { Err(invalid(violations)) }
}

fn policy(entry: &Entry) -> pb::Policy {
    fields::policy(&fields::of_stored(entry), Some(fields::meta_of_stored(entry)))
}
