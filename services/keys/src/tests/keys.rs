use std::time::Duration;

use rstest::rstest;
use tidegate_credentials::{Environment, KeyShape, ScopeExpression, Standing, key_hash, key_shape};

use super::*;
use crate::{
    api_keys::{ImportedKey, KeyUpdate, Leak, key_status},
    domain::{Action, ApiKey, KeyLimit, RevokeReason},
    error::KeysError,
    jobs,
    resolve::key_standing,
    store::KeyStatus,
};

#[tokio::test]
async fn a_new_key_is_whose_it_was_made_for_and_its_value_is_kept_nowhere() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await;
    let created = replica.key(organization.id).await;
    assert_eq!(key_shape(created.value.expose()), KeyShape::Ours);
    let found = replica.resolver.resolve_value(created.value.expose()).await.expect("asked");
    let (key, of) = found.expect("it is there");
    assert_eq!((&key, of.id), (&created.key, organization.id));
    assert_eq!((key.version, key.expires_us), (1, Some(NOW_US + 365 * DAY_US)));
    assert_eq!(key.lineage_id.0, key.id.0);
    let event = replica.event(Action::ApiKeyCreate).await;
    assert_eq!(event.resource_id, key.id.to_string());
    assert!(!format!("{key:?}{of:?}{:?}", event.details).contains(&created.value.expose()[15..]));
}

#[tokio::test]
async fn a_rotated_key_is_followed_by_one_that_is_as_good() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await;
    let limits = vec![KeyLimit { name: "day".to_owned(), limit: 5, period_s: 86_400 }];
    let new = NewKey { limits, expiry: Expiry::At(NOW_US + 30 * DAY_US), ..new_key("Production API Key") };
    let old = replica.keys.create(&by(), organization.id, new, Keep::nothing()).await.expect("made");
    replica.hand.set_us(NOW_US + 10 * DAY_US);
    let rotated =
        replica.keys.rotate(&by(), organization.id, old.key.id, Duration::ZERO, Keep::nothing()).await;
    let rotated = rotated.expect("rotated");
    let expected = ApiKey {
        id: rotated.new.key.id,
        name: "Production API Key (Rotated)".to_owned(),
        key_prefix: rotated.new.value.key_prefix().to_owned(),
        created_us: NOW_US + 10 * DAY_US,
        changed_us: NOW_US + 10 * DAY_US,
        // As long as the old one had.
        expires_us: Some(NOW_US + 40 * DAY_US),
        ..old.key.clone()
    };
    assert_eq!(rotated.new.key, expected);
    assert_eq!(rotated.old.revoked, Some((NOW_US + 10 * DAY_US, RevokeReason::Rotated)));
    assert_eq!(rotated.old.replaced_by, Some(rotated.new.key.id));
    for (value, key) in [(&old.value, &rotated.old), (&rotated.new.value, &rotated.new.key)] {
        let found = replica.resolver.resolve_value(value.expose()).await.expect("asked");
        assert_eq!(&found.expect("it is there").0, key);
    }
    let again =
        replica.keys.rotate(&by(), organization.id, old.key.id, Duration::ZERO, Keep::nothing()).await;
    assert!(matches!(again, Err(KeysError::KeyRevoked)), "{again:?}");
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_sees_that_a_key_is_revoked() {
    let store = sqlite().await;
    let (ahead, behind) = (Replica::new(Arc::clone(&store)).await, Replica::new(store).await);
    ahead.hand.set_us(NOW_US + 60_000_000);
    let organization = ahead.organization().await;
    let (revoked, rotated) = (ahead.key(organization.id).await, ahead.key(organization.id).await);
    ahead.keys.revoke(&by(), organization.id, revoked.key.id, Keep::nothing()).await.expect("revoked");
    let at_once = Duration::ZERO;
    ahead
        .keys
        .rotate(&by(), organization.id, rotated.key.id, at_once, Keep::nothing())
        .await
        .expect("rotated");
    for old in [revoked, rotated] {
        let found = behind.resolver.resolve_value(old.value.expose()).await.expect("asked");
        let (key, organization) = found.expect("it is there");
        let required = ScopeExpression::parse("").expect("no scopes");
        let standing = key_standing(&key, &organization, NOW_US, None, &required);
        assert_eq!((key_status(&key, NOW_US), standing), (KeyStatus::Revoked, Standing::KeyRevoked));
    }
}

#[tokio::test]
async fn a_key_is_good_in_its_grace_period_and_can_be_revoked_within_it() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let old = replica.key(organization).await.key.id;
    let hour = Duration::from_secs(3_600);
    let rotated =
        replica.keys.rotate(&by(), organization, old, hour, Keep::nothing()).await.expect("rotated");
    assert_eq!(key_status(&rotated.old, NOW_US + 3_599_000_000), KeyStatus::Active);
    assert_eq!(key_status(&rotated.old, NOW_US + 3_600_000_000), KeyStatus::Revoked);
    let again = replica.keys.rotate(&by(), organization, old, hour, Keep::nothing()).await;
    assert!(matches!(again, Err(KeysError::KeyRevoked)), "a key has one successor: {again:?}");
    let revoked = replica.keys.revoke(&by(), organization, old, Keep::nothing()).await.expect("revoked");
    assert_eq!(revoked.revoked, Some((NOW_US, RevokeReason::Revoked)));
}

#[tokio::test]
async fn the_name_of_a_rotated_key_is_no_longer_than_names_are() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let new = new_key(&"ü".repeat(128));
    let old = replica.keys.create(&by(), organization, new, Keep::nothing()).await.expect("made").key.id;
    let rotated = replica.keys.rotate(&by(), organization, old, Duration::ZERO, Keep::nothing()).await;
    let name = rotated.expect("rotated").new.key.name;
    assert_eq!((name.chars().count(), name.ends_with("ü (Rotated)")), (128, true));
}

#[tokio::test]
async fn what_was_revoked_stays_so_and_can_be_revoked_again() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let id = replica.key(organization).await.key.id;
    let first = replica.keys.revoke(&by(), organization, id, Keep::nothing()).await.expect("revoked");
    replica.hand.set_us(NOW_US + 1_000_000);
    let second = replica.keys.revoke(&by(), organization, id, Keep::nothing()).await.expect("revoked");
    assert_eq!(first, second);
    let enable = KeyUpdate { enabled: Some(true), ..KeyUpdate::default() };
    let enabled = replica.keys.update(&by(), organization, id, enable, Keep::nothing()).await;
    assert!(matches!(enabled, Err(KeysError::KeyRevoked)), "{enabled:?}");
    let revocations = replica.events().await.into_iter().filter(|event| event.action == Action::ApiKeyRevoke);
    assert_eq!(revocations.count(), 1);
}

#[tokio::test]
async fn a_key_is_changed_at_the_version_that_is_meant() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await;
    let key = replica.key(organization.id).await.key;
    let update = |etag: &str| KeyUpdate {
        enabled: Some(false),
        expiry: Some(Expiry::Never),
        scopes: Some(Vec::new()),
        etag: Some(etag.to_owned()),
        ..KeyUpdate::default()
    };
    let changed = replica.keys.update(&by(), organization.id, key.id, update("1"), Keep::nothing()).await;
    let changed = changed.expect("changed");
    assert_eq!(changed, replica.keys.get(organization.id, key.id).await.expect("there"));
    assert_eq!((changed.expires_us, changed.disabled_us, changed.version), (None, Some(NOW_US), 2));
    assert_eq!((changed.name, changed.scopes), (key.name, Vec::new()));
    let again = replica.keys.update(&by(), organization.id, key.id, update("1"), Keep::nothing()).await;
    assert!(matches!(again, Err(KeysError::EtagMismatch(now)) if now == "2"));
    let generation = replica.organizations.get(organization.id).await.expect("there").generation;
    assert_eq!(generation, organization.generation + 1);
}

#[rstest]
#[case::now(Expiry::At(NOW_US))]
#[case::long_ago(Expiry::At(1))]
#[tokio::test]
async fn a_key_is_not_made_to_have_expired(#[case] expiry: Expiry) {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let new = NewKey { expiry, ..new_key("Key") };
    let created = replica.keys.create(&by(), organization, new, Keep::nothing()).await;
    let Err(KeysError::Invalid(violations)) = created else { panic!("made") };
    assert_eq!(violations.iter().next().expect("one").field, "expires_at_ms");
}

fn imported(value: &str) -> ImportedKey {
    ImportedKey {
        hash: key_hash(value),
        name: "Imported".to_owned(),
        key_prefix: "old_".to_owned(),
        environment: Environment::Live,
        scopes: Vec::new(),
        expiry: Expiry::Never,
        metadata: BTreeMap::new(),
    }
}

#[tokio::test]
async fn imported_keys_are_found_by_their_values_and_taken_in_once() {
    let store = sqlite().await;
    let replica = Replica::new(Arc::clone(&store)).await;
    let organization = replica.organization().await.id;
    let keys = vec![imported("old_1"), imported("old_2")];
    let made = replica.keys.import(&by(), organization, keys, Keep::nothing()).await.expect("imported");
    let (found, _) = replica.resolver.resolve_value("old_2").await.expect("asked").expect("there");
    assert_eq!(found, made[1]);
    // Under another pepper too, where the hash in the database would be another.
    let other = Replica::with(store, &[], 2).await;
    let elsewhere = other.organization().await.id;
    for keys in [vec![imported("old_3"), imported("old_1")], vec![imported("old_2")]] {
        let refused = other.keys.import(&by(), elsewhere, keys, Keep::nothing()).await;
        assert!(matches!(refused, Err(KeysError::KeyExists)), "{refused:?}");
    }
    assert!(other.resolver.resolve_value("old_3").await.expect("asked").is_none(), "all or none");
    let twins = vec![imported("old_4"), imported("old_4")];
    let twins = other.keys.import(&by(), elsewhere, twins, Keep::nothing()).await;
    assert!(matches!(twins, Err(KeysError::Invalid(_))), "{twins:?}");
}

#[tokio::test]
async fn a_leaked_key_is_revoked_and_where_it_was_found_is_told_without_it() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let created = replica.key(organization).await;
    let url = format!("https://example.com/a?key={}#x", created.value.expose());
    let leak = Leak { source: "scanner".to_owned(), url };
    let revoked = replica.keys.revoke_leaked(&by(), &created.key, &leak).await.expect("revoked");
    assert_eq!(revoked.revoked, Some((NOW_US, RevokeReason::Leaked)));
    let event = replica.event(Action::ApiKeyLeak).await;
    assert_eq!(event.details["url"], "https://example.com/a");
}

#[tokio::test]
async fn keys_that_expire_soon_are_announced_once_by_whichever_replica() {
    let stores = postgres(2).await;
    let (first, second) = (Replica::new(stores[0].clone()).await, Replica::new(stores[1].clone()).await);
    let organization = first.organization().await.id;
    for day in 1..=20 {
        let expiry = Expiry::At(NOW_US + day * DAY_US);
        let new = NewKey { expiry, ..new_key("Key") };
        first.keys.create(&by(), organization, new, Keep::nothing()).await.expect("made");
    }
    let before = Duration::from_secs(14 * 86_400);
    let both = tokio::join!(jobs::announce(&first.changes, before), jobs::announce(&second.changes, before));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    jobs::announce(&first.changes, before).await.expect("announced");
    let mut announced: Vec<_> = first
        .events()
        .await
        .into_iter()
        .filter(|event| event.action == Action::ApiKeyExpiring)
        .map(|event| event.resource_id)
        .collect();
    let all = announced.len();
    announced.sort();
    announced.dedup();
    // Those that expire before the end of the fourteenth day.
    assert_eq!((all, announced.len()), (13, 13));
}

#[tokio::test]
async fn nothing_of_another_organization_is_touched() {
    let replica = Replica::new(sqlite().await).await;
    let (own, other) = (replica.organization().await.id, replica.organization().await.id);
    let id = replica.key(other).await.key.id;
    let keys = &replica.keys;
    let denied = [
        keys.get(own, id).await.map(drop),
        keys.update(&by(), own, id, KeyUpdate::default(), Keep::nothing()).await.map(drop),
        keys.rotate(&by(), own, id, Duration::ZERO, Keep::nothing()).await.map(drop),
        keys.revoke(&by(), own, id, Keep::nothing()).await.map(drop),
        replica.credits.get(own, id).await.map(drop),
        replica
            .credits
            .grant(&by(), own, id, crate::credits::Grant::default(), Keep::nothing())
            .await
            .map(drop),
    ];
    for (index, denied) in denied.into_iter().enumerate() {
        assert!(matches!(denied, Err(KeysError::KeyNotFound)), "{index}: {denied:?}");
    }
    assert!(keys.list(own, "", None, None, None, 10).await.expect("asked").is_empty());
    assert_eq!(keys.get(other, id).await.expect("there").version, 1);
}
