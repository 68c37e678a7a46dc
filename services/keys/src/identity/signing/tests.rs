//! On a real store.

use std::{collections::BTreeMap, time::Duration};

use tidegate_chassis::{auth::AuthConfig, config::Secret};

use super::*;
use crate::identity::{
    IdentityConfig, ServiceTokenRequest,
    fixture::{self, START_US, admin, origin, replica},
};

fn keys(store: &Arc<dyn KeysStore>, secret: &str, previous: &str, clock: &Clock) -> SigningKeys {
    let sealing = Arc::new(Sealing::new(secret, previous));
    SigningKeys::new(Arc::clone(store), sealing, (clock.clone(), Random::system()), 1_800_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_make_one_key() {
    let store = fixture::store().await;
    let (clock, _hand) = Clock::manual(START_US);
    let replicas: Vec<_> = (0..6).map(|_| keys(&store, fixture::SECRET, "", &clock)).collect();
    let started = futures_util::future::join_all(replicas.iter().map(SigningKeys::ensure)).await;
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert_eq!(store.signing_keys().await.expect("asked").len(), 1);
    for replica in &replicas {
        assert_eq!(replica.current().await.expect("a key").kid, "ed-1");
    }
}

#[tokio::test]
async fn tokens_of_the_key_before_are_good_until_they_expire() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let new = replica.keys.rotate(&Actor::system(), &origin(), &Keep::nothing()).await.expect("rotated");
    assert_eq!(new.kid, "ed-2");
    let listed = |keys: Vec<SigningKey>| keys.into_iter().map(|key| key.kid).collect::<Vec<_>>();
    assert_eq!(listed(replica.keys.list().await.expect("asked")), ["ed-2", "ed-1"]);
    let next = replica.refresh(&admitted.tokens.refresh).await.expect("refreshed");
    let kid = jsonwebtoken::decode_header(&next.access).expect("a header").kid;
    assert_eq!(kid.as_deref(), Some("ed-2"), "the new one signs at once");
    // An unknown key is looked up at most once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(replica.caller(&next.access).await.is_some());
    assert!(replica.caller(&admitted.tokens.access).await.is_some());
    replica.hand.advance(Duration::from_secs(1_800 + 301));
    assert_eq!(listed(replica.keys.list().await.expect("asked")), ["ed-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rotations_at_the_same_time_each_makes_a_key_and_one_signs() {
    let replica = replica().await;
    let actor = Actor::system();
    let rotations = (0..4).map(|_| async {
        replica.keys.rotate(&actor, &origin(), &Keep::nothing()).await.expect("rotated").kid
    });
    let mut kids = futures_util::future::join_all(rotations).await;
    kids.sort();
    assert_eq!(kids, ["ed-2", "ed-3", "ed-4", "ed-5"]);
    let signing = replica.store.signing_keys().await.expect("asked");
    assert_eq!(signing.iter().filter(|key| key.retired_us.is_none()).count(), 1);
    assert_eq!(replica.keys.read().await.expect("a key").kid, "ed-5");
}

#[tokio::test]
async fn what_signs_is_the_key_that_is_not_retired_though_its_maker_has_a_clock_behind() {
    let replica = replica().await;
    replica.hand.set_us(START_US - 60_000_000);
    let made = replica.keys.rotate(&Actor::system(), &origin(), &Keep::nothing()).await.expect("rotated");
    let newest = replica.store.signing_keys().await.expect("asked").remove(0);
    assert_ne!(newest.kid, made.kid, "by its time it is the older one");
    assert_eq!(replica.keys.read().await.expect("a key").kid, made.kid);
}

#[tokio::test]
async fn a_key_is_listed_for_as_long_as_a_service_token_that_it_signed_is_good() {
    let replica = replica().await;
    let day = Duration::from_secs(86_400);
    let asked = ServiceTokenRequest {
        name: "billing".to_owned(),
        organization_id: String::new(),
        expires_us: Some(START_US + 30 * 86_400_000_000),
    };
    let made =
        replica.service_tokens.create(&admin(), &asked, &origin(), &Keep::nothing()).await.expect("made");
    replica.keys.rotate(&Actor::system(), &origin(), &Keep::nothing()).await.expect("rotated");
    replica.hand.advance(day * 29);
    assert_eq!(replica.keys.list().await.expect("asked").len(), 2);
    assert!(replica.caller(&made.token).await.is_some());
    replica.hand.advance(day * 2);
    assert_eq!(replica.keys.list().await.expect("asked").len(), 1);
    assert!(replica.caller(&made.token).await.is_none());
}

#[tokio::test]
async fn the_private_half_is_sealed_and_the_secret_can_be_replaced() {
    let store = fixture::store().await;
    let (clock, _hand) = Clock::manual(START_US);
    keys(&store, fixture::SECRET, "", &clock).ensure().await.expect("a key");
    let new = "another secret of the settings, long enough";
    keys(&store, new, fixture::SECRET, &clock).ensure().await.expect("opened under the one before");
    let lost = keys(&store, new, "", &clock).ensure().await;
    let Err(KeysError::Internal(why)) = lost else { panic!("{lost:?}") };
    assert!(why.contains("identity.secret"), "{why}");
    let row = store.signing_keys().await.expect("asked").remove(0);
    let opened =
        Sealing::new(fixture::SECRET, "").open(Purpose::SigningKeys, b"ed-1", &row.sealed_private_key);
    let private = opened.expect("opened");
    assert!(!row.sealed_private_key.windows(32).any(|window| private.windows(32).any(|part| part == window)));
}

#[tokio::test]
async fn a_shared_secret_of_the_settings_signs_if_they_say_so() {
    let secrets = [("2026", "a shared secret of thirty-two bytes or more")];
    let secrets = secrets.map(|(kid, secret)| (kid.to_owned(), Secret::new(secret)));
    let auth = AuthConfig { hs256_secrets: BTreeMap::from(secrets), ..AuthConfig::default() };
    let config = IdentityConfig { hs256_kid: "2026".to_owned(), ..fixture::config() };
    let replica = fixture::with(fixture::store().await, &config, &auth).await;
    let admitted = replica.sign_up("ada@example.com").await;
    let header = jsonwebtoken::decode_header(&admitted.tokens.access).expect("a header");
    assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::HS256, Some("2026")));
    assert!(replica.caller(&admitted.tokens.access).await.is_some());
    assert!(replica.sessions.minter().keys().is_none());
}
