//! Tokens that are signed here, with keys that a real web server hands out.

mod issuer;

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tidegate_chassis::clock::{Clock, ManualClock};

use self::issuer::{AUDIENCE, Issuer as External};
use super::*;
use crate::identity::OidcAlgorithm;

pub(crate) use self::issuer::{Issuer as ExternalIssuer, Pair};

const NOW_US: u64 = 1_800_000_000_000_000;
const EVERY: [OidcAlgorithm; 3] = [OidcAlgorithm::RS256, OidcAlgorithm::ES256, OidcAlgorithm::EdDsa];

fn believing(external: &External, algorithms: &[OidcAlgorithm]) -> (Issuers, ManualClock) {
    let (clock, hand) = Clock::manual(NOW_US);
    let source = Arc::new(HttpKeySets::new().expect("authorities")) as Arc<dyn KeySets>;
    (Issuers::new(&[external.config(algorithms)], &source, &clock), hand)
}

async fn is_refused(issuers: &Issuers, token: &str) -> bool {
    matches!(issuers.verify(token).await, Err(KeysError::CredentialsInvalid))
}

#[tokio::test]
async fn a_token_by_each_algorithm_names_its_subject_and_verified_address() {
    let external = External::start(vec![Pair::rsa("r"), Pair::ec("e"), Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &EVERY);
    for pair in external.pairs() {
        let user = issuers.verify(&external.token(&pair, json!({}))).await.expect("believed");
        assert_eq!((&*user.identity.issuer, &*user.identity.subject), (external.url(), "subject-1"));
        assert_eq!(user.email.as_ref().map(Email::as_str), Some("ada@example.com"));
        assert_eq!(user.joins, None);
    }
    assert_eq!(external.asked(), 1, "keys are remembered");
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_none() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &EVERY);
    let pair = external.pairs().remove(0);
    let verified = [(json!(true), true), (json!("true"), true), (json!(false), false), (json!(null), false)];
    for (flag, is_there) in verified {
        let token = external.token(&pair, json!({ "email_verified": flag }));
        assert_eq!(issuers.verify(&token).await.expect("believed").email.is_some(), is_there, "{flag}");
    }
}

#[tokio::test]
async fn what_is_not_by_the_issuer_for_us_and_now_is_refused() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &EVERY);
    let pair = external.pairs().remove(0);
    let now = NOW_US / 1_000_000;
    let wrong = [
        json!({ "iss": "https://elsewhere.example" }),
        json!({ "aud": "another" }),
        json!({ "aud": [] }),
        json!({ "aud": [AUDIENCE, "another"], "azp": "another" }),
        json!({ "exp": now - 60 }),
        json!({ "nbf": now + 61 }),
        json!({ "iat": now + 61 }),
        json!({ "sub": "" }),
        json!({ "sub": "s".repeat(256) }),
        json!({ "sub": null }),
        json!({ "exp": null }),
    ];
    for claims in wrong {
        assert!(is_refused(&issuers, &external.token(&pair, claims.clone())).await, "{claims}");
    }
    let fine = [
        json!({ "aud": [AUDIENCE, "another"], "azp": AUDIENCE }),
        json!({ "exp": now - 59 }),
        json!({ "nbf": now + 60 }),
    ];
    for claims in fine {
        assert!(!is_refused(&issuers, &external.token(&pair, claims.clone())).await, "{claims}");
    }
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &EVERY);
    let token = external.token(&external.pairs()[0], json!({}));
    assert!(!is_refused(&issuers, &token).await);
    // Of the last character some bits mean nothing.
    for at in (0..token.len() - 1).step_by(7) {
        let mut tampered = token.clone().into_bytes();
        tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(tampered).expect("ASCII");
        assert!(is_refused(&issuers, &tampered).await, "at {at}");
    }
    for wrong in ["", "a.b.c", "..", &token[..token.len() - 10], &"x".repeat(20_000)] {
        assert!(is_refused(&issuers, wrong).await, "{wrong}");
    }
}

#[tokio::test]
async fn no_algorithm_but_those_that_are_pinned_is_believed() {
    let external = External::start(vec![Pair::rsa("r"), Pair::ec("e"), Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &[OidcAlgorithm::RS256]);
    let [rsa, ec, ed] = external.pairs().try_into().ok().expect("three");
    assert!(!is_refused(&issuers, &external.token(&rsa, json!({}))).await);
    assert!(is_refused(&issuers, &external.token(&ec, json!({}))).await);
    assert!(is_refused(&issuers, &external.token(&ed, json!({}))).await);
    assert!(is_refused(&issuers, &external.unsigned("r", json!({}))).await, "none");
    // The public key is known to everybody: it must not be taken for a shared secret.
    for public in rsa.public_forms() {
        let token = external.signed_by_secret("r", &public, Algorithm::HS256, json!({}));
        assert!(is_refused(&issuers, &token).await, "HS256 with the public key");
    }
    // RSA all the same, but not the one that is pinned.
    assert!(is_refused(&issuers, &external.token_by(&rsa, Algorithm::RS512, json!({}))).await);
}

#[tokio::test]
async fn a_key_of_one_kind_does_not_verify_by_another() {
    let external = External::start(vec![Pair::ec("e"), Pair::ed("d")]).await;
    let (issuers, _hand) = believing(&external, &EVERY);
    let [ec, ed] = external.pairs().try_into().ok().expect("two");
    assert!(is_refused(&issuers, &external.token_as(&ec, "d", json!({}))).await);
    assert!(is_refused(&issuers, &external.token_as(&ed, "e", json!({}))).await);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_is_forgotten() {
    let external = External::start(vec![Pair::ed("old")]).await;
    let (issuers, hand) = believing(&external, &EVERY);
    let old = external.token(&external.pairs()[0], json!({ "exp": NOW_US / 1_000_000 + 9_000 }));
    assert!(!is_refused(&issuers, &old).await);
    external.replace(vec![Pair::ed("new")]);
    hand.advance(Duration::from_secs(31));
    let new = external.token(&external.pairs()[0], json!({ "exp": NOW_US / 1_000_000 + 9_000 }));
    assert!(!is_refused(&issuers, &new).await);
    assert_eq!(external.asked(), 2);
    assert!(is_refused(&issuers, &old).await, "the issuer has withdrawn it");
}

#[tokio::test]
async fn keys_are_fetched_again_after_an_hour_and_kept_for_a_day_if_the_issuer_is_away() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, hand) = believing(&external, &EVERY);
    let token = external.token(&external.pairs()[0], json!({ "exp": NOW_US / 1_000_000 + 999_999 }));
    assert!(!is_refused(&issuers, &token).await);
    external.fail();
    hand.advance(Duration::from_secs(3_601));
    assert!(!is_refused(&issuers, &token).await);
    assert_eq!(external.asked(), 2);
    hand.advance(Duration::from_secs(86_400));
    assert!(is_refused(&issuers, &token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_costs_the_issuer_one_look_up_in_half_a_minute() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, hand) = believing(&external, &EVERY);
    let stranger = Pair::ed("d");
    for round in 1..=3 {
        let flood = (0..200).map(|number| {
            let token = external.token_as(&stranger, &format!("unknown-{number}"), json!({}));
            let issuers = issuers.clone();
            async move { is_refused(&issuers, &token).await }
        });
        assert!(futures_util::future::join_all(flood).await.into_iter().all(|refused| refused));
        assert_eq!(external.asked(), round);
        hand.advance(Duration::from_secs(30));
    }
    assert!(!is_refused(&issuers, &external.token(&external.pairs()[0], json!({}))).await);
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused_and_what_is_known_stays() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let (issuers, hand) = believing(&external, &EVERY);
    let token = external.token(&external.pairs()[0], json!({}));
    assert!(!is_refused(&issuers, &token).await);
    for nonsense in
        ["not json".to_owned(), "{}".to_owned(), format!("{{\"keys\":[{}]}}", " ".repeat(300_000))]
    {
        external.answer(nonsense);
        hand.advance(Duration::from_secs(30));
        assert!(is_refused(&issuers, &external.token_as(&Pair::ed("x"), "x", json!({}))).await);
        assert!(!is_refused(&issuers, &token).await);
    }
    assert_eq!(external.asked(), 4);
}

#[tokio::test]
async fn keys_of_a_file_are_read_when_one_is_not_known() {
    let external = External::start(vec![Pair::ed("d")]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, external.jwks()).expect("written");
    let config = OidcIssuerConfig {
        jwks_url: String::new(),
        jwks_file: path.display().to_string(),
        ..external.config(&EVERY)
    };
    let (clock, _hand) = Clock::manual(NOW_US);
    let source = Arc::new(HttpKeySets::new().expect("authorities")) as Arc<dyn KeySets>;
    let issuers = Issuers::new(&[config], &source, &clock);
    assert!(!is_refused(&issuers, &external.token(&external.pairs()[0], json!({}))).await);
    assert_eq!(external.asked(), 0);
}
