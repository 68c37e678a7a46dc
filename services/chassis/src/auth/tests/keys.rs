use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    super::AuthError,
    fixture::{Fixture, Signer, claims},
};

const UNKNOWN: AuthError = AuthError::Invalid("signed by a key that is not known");

#[tokio::test(start_paused = true)]
async fn key_that_is_new_is_looked_up_once_for_all_who_show_it() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    sleep(Duration::from_millis(1_100)).await;
    let asked = fixture.source.asked.load(Ordering::Relaxed);
    let second = Signer::new("second");
    fixture.source.listed.store(Arc::new(vec![fixture.signer.verifying(), second.verifying()]));
    let token = second.sign(&claims());
    for shown in join_all((0..100).map(|_| fixture.show(&token))).await {
        shown.unwrap();
    }
    assert_eq!(fixture.source.asked.load(Ordering::Relaxed), asked + 1);
    fixture.show(&fixture.signer.sign(&claims())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn invented_keys_cost_the_keys_service_a_look_up_a_second() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let stranger = Signer::new("invented");
    let token = stranger.sign(&claims());
    for _ in 0..1_000 {
        assert_eq!(fixture.refused(&token).await, UNKNOWN);
        sleep(Duration::from_millis(10)).await;
    }
    let asked = fixture.source.asked.load(Ordering::Relaxed);
    assert!((5..=12).contains(&asked), "{asked} in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_known_outlast_the_keys_service() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let token = fixture.signer.sign(&claims());
    fixture.show(&token).await.unwrap();
    fixture.source.is_away.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(3_600)).await;
    fixture.show(&token).await.unwrap();
    // Nobody can say whether there is such a key: that is no fault of the token.
    let other = Signer::new("second").sign(&claims());
    assert_eq!(fixture.refused(&other).await, AuthError::KeysUnavailable);
    fixture.source.is_away.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(fixture.refused(&other).await, UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_key_that_is_listed_no_longer_are_refused() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let token = fixture.signer.sign(&claims());
    fixture.show(&token).await.unwrap();
    let verified = fixture.auth.verify_at_once(format!("Bearer {token}").as_bytes()).unwrap().unwrap();
    assert!(fixture.auth.is_good(&verified));
    fixture.source.listed.store(Arc::new(Vec::new()));
    sleep(Duration::from_secs(31)).await;
    assert!(!fixture.auth.is_good(&verified), "nor is it remembered");
    assert_eq!(fixture.refused(&token).await, UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn listed_key_does_not_cover_one_of_the_settings() {
    let fixture = Fixture::new();
    let (internal, shared) = (Signer::new("internal"), Signer::new("shared"));
    fixture.source.listed.store(Arc::new(vec![internal.verifying(), shared.verifying()]));
    fixture.keep_keys();
    sleep(Duration::from_secs(2)).await;
    for signer in [internal, shared] {
        let refused = fixture.refused(&signer.sign(&claims())).await;
        assert_eq!(refused, AuthError::Invalid("another algorithm than its key has"));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_keys_are_bounded_in_number_and_in_time() {
    let fixture = Fixture::new();
    // Nobody looks.
    let token = fixture.signer.sign(&claims());
    let started = tokio::time::Instant::now();
    let shown = join_all((0..2_000).map(|_| fixture.show(&token)));
    let refused = shown.await.into_iter().filter(|shown| *shown == Err(AuthError::KeysUnavailable)).count();
    assert_eq!(refused, 2_000);
    assert!(started.elapsed() < Duration::from_secs(3));
}
