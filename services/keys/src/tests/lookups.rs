use std::time::Duration;

use futures_util::future::join_all;
use tidegate_credentials::key_hash;
use tokio::time::timeout;

use super::*;
use crate::feed::Since;

#[tokio::test]
async fn a_key_is_found_that_another_replica_has_just_made() {
    let stores = postgres(2).await;
    let (first, second) = (Replica::new(stores[0].clone()).await, Replica::new(stores[1].clone()).await);
    let organization = first.organization().await.id;
    for _ in 0..20 {
        let created = first.key(organization).await;
        let found = second.resolver.resolve_value(created.value.expose()).await.expect("asked");
        assert_eq!(found.expect("it is there").0.id, created.key.id);
    }
}

#[tokio::test]
async fn keys_of_the_pepper_before_are_found() {
    let store = sqlite().await;
    let before = Replica::with(Arc::clone(&store), &[], 1).await;
    let organization = before.organization().await.id;
    let created = before.key(organization).await;
    let after = Replica::with(store, &[], 2).await;
    let found = after.resolver.resolve_value(created.value.expose()).await.expect("asked");
    assert_eq!(found.expect("it is there").0.id, created.key.id);
}

#[tokio::test]
async fn a_flood_of_keys_that_nobody_has_costs_few_questions() {
    let replica = Replica::new(sqlite().await).await;
    let before = replica.feed.rounds();
    let asked = (0..5_000).map(|number| {
        let resolver = replica.resolver.clone();
        async move { resolver.resolve(&key_hash(&format!("nobody's {number}"))).await }
    });
    for answer in join_all(asked).await {
        assert!(answer.expect("asked").key.is_none());
    }
    let rounds = replica.feed.rounds() - before;
    assert!((1..50).contains(&rounds), "{rounds} rounds");
}

#[tokio::test]
async fn what_another_replica_changes_is_told_with_its_generation() {
    let stores = postgres(2).await;
    let (first, second) = (Replica::new(stores[0].clone()).await, Replica::new(stores[1].clone()).await);
    let organization = first.organization().await.id;
    let key = first.key(organization).await.key.id;
    second.feed.catch_up().await.expect("asked");
    let before = second.feed.revision();
    first.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    timeout(Duration::from_secs(30), second.feed.later_than(before)).await.expect("it is told");
    let Since::Changes(_, changes) = second.feed.since(before) else { panic!("it was just now") };
    let [changed] = changes.as_slice() else { panic!("one change: {changes:?}") };
    assert_eq!((changed.organization, changed.generation, changed.key), (Some(organization), 1, Some(key)));
}

#[tokio::test]
async fn a_replica_that_starts_knows_what_was_told_lately() {
    let store = sqlite().await;
    let before = Replica::new(Arc::clone(&store)).await;
    let organization = before.organization().await.id;
    let key = before.key(organization).await.key.id;
    before.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    let after = Replica::new(store).await;
    assert_eq!(after.feed.generations().into_iter().collect::<Vec<_>>(), [(organization, 1)]);
    assert!(matches!(after.feed.since(0), Since::Changes(2, changes) if changes.len() == 2));
}
