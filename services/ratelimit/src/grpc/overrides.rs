//! The methods of overrides.

use std::collections::{BTreeMap, HashMap};

use tidegate_chassis::error::Violations;
use tidegate_proto::ratelimit::v1 as pb;
use tonic::Status;

use super::{
    error::{change_status, invalid},
    fields,
    policies::{Entries, needed, not_found, page, removal},
};
use crate::{
    catalog::{Expected, Wish},
    policies::Listed,
    store::catalog::{Entry, EntryKey, Kind},
};

type Answer<T> = Result<T, Status>;

/// The most overrides that are set at once.
const MAX_AT_ONCE: usize = 1_000;

/// What PostgreSQL does not hold.
const NUL: &str = "must not contain U+0000";

impl Entries<'_> {
    pub(super) async fn set_override(
        &self,
        request: pb::SetOverrideRequest,
    ) -> Answer<pb::SetOverrideResponse> {
        let set = needed(request.r#override, "override")?;
        let mut violations = Violations::default();
        let wish = set_wish(set, "override".to_owned(), &mut violations);
        if !violations.is_empty() {
            return Err(invalid(violations));
        }
        let wish = Wish { version: fields::version_of(&request.etag), ..wish };
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::SetOverrideResponse { r#override: Some(shown(&entry)) })
    }

    pub(super) async fn set_overrides(
        &self,
        request: pb::SetOverridesRequest,
    ) -> Answer<pb::SetOverridesResponse> {
        let mut violations = Violations::default();
        let count = request.overrides.len();
        if !(1..=MAX_AT_ONCE).contains(&count) {
            violations.add("overrides", format!("must be 1 to {MAX_AT_ONCE}, are {count}"));
            return Err(invalid(violations));
        }
        let (mut wishes, mut places) = (Vec::new(), HashMap::new());
        for (index, set) in request.overrides.into_iter().enumerate() {
            let path = format!("overrides[{index}]");
            let wish = set_wish(set, path.clone(), &mut violations);
            if let Some(first) = places.insert(wish.key.clone(), index) {
                violations.add(path, format!("is for the same limit and key as overrides[{first}]"));
            }
            wishes.push(wish);
        }
        if !violations.is_empty() {
            return Err(invalid(violations));
        }
        let changed = self.0.change(wishes, request.validate_only).await;
        let entries = changed.map_err(|error| change_status(&error))?;
        Ok(pb::SetOverridesResponse { overrides: entries.iter().map(shown).collect() })
    }

    pub(super) async fn get_override(
        &self,
        request: pb::GetOverrideRequest,
    ) -> Answer<pb::GetOverrideResponse> {
        let mut violations = Violations::default();
        let patterns = key(request.key.into_iter().map(|of| (of.key, of.value)), "", &mut violations);
        let key = target(&request.namespace, &request.policy, &request.limit, &patterns, violations)?;
        let found = match request.version {
            0 => {
                let listed = self.0.get(&key).await.ok_or_else(|| not_found(&key))?;
                fields::override_of(&listed.fields, Some(fields::meta_of_listed(&listed)))
            }
            version => shown(&self.version(&key, version).await?),
        };
        Ok(pb::GetOverrideResponse { r#override: Some(found) })
    }

    pub(super) async fn delete_override(
        &self,
        request: pb::DeleteOverrideRequest,
    ) -> Answer<pb::DeleteOverrideResponse> {
        let mut violations = Violations::default();
        let patterns = key(request.key.into_iter().map(|of| (of.key, of.value)), "", &mut violations);
        let key = target(&request.namespace, &request.policy, &request.limit, &patterns, violations)?;
        self.fulfil(removal(key, &request.etag), request.validate_only).await?;
        Ok(pb::DeleteOverrideResponse {})
    }

    pub(super) async fn list_overrides(
        &self,
        request: pb::ListOverridesRequest,
    ) -> Answer<pb::ListOverridesResponse> {
        let (namespace, policy) = (&*request.namespace, &*request.policy);
        if namespace.is_empty() && !policy.is_empty() {
            let mut violations = Violations::default();
            violations.add("namespace", "must be set where a policy is");
            return Err(invalid(violations));
        }
        let page = page(&["overrides", namespace, policy], request.page_size, &request.page_token)?;
        let scope = Some(namespace).filter(|namespace| !namespace.is_empty());
        let names = if policy.is_empty() { String::new() } else { format!("{policy}/") };
        let (listed, next_page_token) = self.page_of_names(Kind::Override, scope, &names, &page).await;
        let shown =
            |listed: &Listed| fields::override_of(&listed.fields, Some(fields::meta_of_listed(listed)));
        Ok(pb::ListOverridesResponse { overrides: listed.iter().map(shown).collect(), next_page_token })
    }
}

/// What is to be set. Notes attributes that are there twice: everything else is told by the reader.
fn set_wish(set: pb::Override, path: String, violations: &mut Violations) -> Wish {
    let entries = set.key.iter().map(|of| (of.key.clone(), of.value.clone()));
    let key = key(entries, &format!("{path}."), violations);
    Wish {
        key: EntryKey::of_override(&set.namespace, &set.policy, &set.limit, &key),
        fields: Some(fields::of_override(set)),
        expected: Expected::Any,
        version: None,
        path,
    }
}

/// Patterns by the names of their attributes.
fn key(
    entries: impl Iterator<Item = (String, String)>,
    path: &str,
    violations: &mut Violations,
) -> BTreeMap<String, String> {
    let mut key = BTreeMap::new();
    for (attribute, pattern) in entries {
        if let Some(first) = key.get(&attribute) {
            violations.add(format!("{path}key.{attribute}"), format!("is there twice, first as {first:?}"));
        }
        if attribute.contains('\0') || pattern.contains('\0') {
            violations.add(format!("{path}key"), NUL);
        }
        key.insert(attribute, pattern);
    }
    key
}

/// What an override is found by.
fn target(
    namespace: &str,
    policy: &str,
    limit: &str,
    key: &BTreeMap<String, String>,
    mut violations: Violations,
) -> Answer<EntryKey> {
    for (field, value) in [("namespace", namespace), ("policy", policy), ("limit", limit)] {
        if value.is_empty() {
            violations.add(field, "must be set");
        } else if value.contains('\0') {
            violations.add(field, NUL);
        }
    }
    match violations.is_empty() {
        true => Ok(EntryKey::of_override(namespace, policy, limit, key)),
        false => Err(invalid(violations)),
    }
}

fn shown(entry: &Entry) -> pb::Override {
    fields::override_of(&fields::of_stored(entry), Some(fields::meta_of_stored(entry)))
}
