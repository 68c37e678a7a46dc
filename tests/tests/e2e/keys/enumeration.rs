//! Guessing keys by what answers tell, and by how long they take.
//!
//! Whoever has not the value of a key learns from an answer whether the checksum is right, which needs no asking,
//! and nothing else.
//! Whoever has a value may see by the time that it once was somebody's: of no use to guess others.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};
use tidegate_proto::{
    keys::v1::{VerifyKeyRequest, keys_service_client::KeysServiceClient},
    ratelimit::v1::Code,
};
use tidegate_tests::{
    api_key::{misspelt, neighbour, nobodys},
    backend::Backend,
    dice::Dice,
    rest::{Rest, text},
    rpc,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    times::{self, Times},
    turn,
};
use tokio::time::Instant;
use tonic::{Request, transport::Channel};

use super::POLICIES;
use crate::seconds;

/// Kinds of values, for whoever asks for another organization than the keys are of.
const KINDS: [&str; 6] = [
    "wrong checksum",
    "unknown",
    "unknown, next to a key",
    "another's",
    "another's, revoked",
    "own, revoked",
];
const UNKNOWN: usize = 1;
const NEIGHBOUR: usize = 2;
const OWN: usize = 5;

/// Values of each kind.
type Values = [Vec<String>; KINDS.len()];

/// A way to ask about a key.
enum Way {
    Verify { client: Box<KeysServiceClient<Channel>>, token: String },
    Check(Backend),
    ForwardAuth(Rest),
}

impl Way {
    /// How long an answer took, what it said, and whether it told more than that.
    async fn ask(&mut self, value: &str) -> anyhow::Result<(Duration, String, bool)> {
        let begun = Instant::now();
        match self {
            Self::Verify { client, token } => {
                let asked = VerifyKeyRequest { api_key: value.to_owned(), ..VerifyKeyRequest::default() };
                let mut request = Request::new(asked);
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
                let answer = client.verify_key(request).await?.into_inner();
                ensure!(!answer.valid, "{answer:?}");
                Ok((begun.elapsed(), answer.code, answer.key.is_some() || answer.organization.is_some()))
            }
            Self::Check(backend) => {
                let answer = backend.check(value).await?;
                let took = begun.elapsed();
                let code = match answer.code() {
                    Code::KeyNotFound => "key_not_found",
                    Code::KeyRevoked => "key_revoked",
                    _ => anyhow::bail!("{answer:?}"),
                };
                let tells = answer.key.is_some() || !answer.limits.is_empty();
                Ok((took, code.to_owned(), tells))
            }
            Self::ForwardAuth(rest) => {
                let headers = [("x-api-key", value), ("x-forwarded-for", "203.0.113.7")];
                let answer = rest.ask_with(Method::GET, "/v1/forward-auth", &headers, &Value::Null).await?;
                let took = begun.elapsed();
                ensure!(
                    answer.status == http::StatusCode::UNAUTHORIZED,
                    "{} {}",
                    answer.status,
                    answer.text()
                );
                let told = answer.json();
                let tells = answer.headers.keys().any(|name| name.as_str().starts_with("x-tidegate"));
                Ok((took, text(&told, "/error")?, tells))
            }
        }
    }
}

/// Asks about every value once, in an order by chance, and gives the times of each kind.
async fn probe(way: &mut Way, values: &[&[String]], expected: &[&str]) -> anyhow::Result<Vec<Times>> {
    let numbered = values.iter().enumerate();
    let mut all: Vec<_> =
        numbered.flat_map(|(kind, values)| values.iter().map(move |value| (kind, value))).collect();
    Dice::new(11).shuffle(&mut all);
    let mut took = vec![Vec::new(); values.len()];
    for (kind, value) in all {
        let (time, code, tells) = way.ask(value).await?;
        ensure!(code == expected[kind], "{} is answered {code}", KINDS[kind]);
        ensure!(!tells || code != "key_not_found", "{} is told whose it is", KINDS[kind]);
        took[kind].push(time);
    }
    Ok(took.into_iter().map(Times::new).collect())
}

/// Makes keys, and revokes them if that is wanted.
async fn keys(owner: &Rest, count: usize, are_revoked: bool) -> anyhow::Result<Vec<String>> {
    let mut values = Vec::new();
    for _ in 0..count {
        let made = owner.post("/v1/auth/api-keys", &json!({"name": "a key"}), 201).await?;
        if are_revoked {
            let path = format!("/v1/auth/api-keys/{}/revoke", text(&made, "/id")?);
            owner.post(&path, &json!({}), 200).await?;
        }
        values.push(text(&made, "/key_value")?);
    }
    Ok(values)
}

/// Values of all kinds, for whoever is of `own`.
async fn values(of: &Rest, own: &Rest, count: usize, dice: &mut Dice) -> anyhow::Result<Values> {
    let live = keys(of, count, false).await?;
    let unknown: Vec<_> = (0..count).map(|_| nobodys(dice)).collect();
    Ok([
        unknown.iter().map(|_| misspelt(&nobodys(dice))).collect(),
        unknown,
        live.iter().map(|value| neighbour(value)).collect(),
        live,
        keys(of, count, true).await?,
        keys(own, count, true).await?,
    ])
}

/// A table of the times. `share` is how often an answer is quicker than one to an unknown value: 0.5 if that tells
/// nothing.
fn show(way: &str, times: &[Times]) {
    println!("{way:<24} {}   share", times::HEADER);
    for (kind, times_of) in times.iter().enumerate() {
        let share = times_of.share_shorter_than(&times[UNKNOWN]);
        println!("  {:<22} {times_of}    {share:.2}", KINDS[kind]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_enumeration_answers_and_their_times_tell_who_guesses_nothing() -> TestResult {
    let _turn = turn::alone().await;
    let count = if seconds::is_long() { 200 } else { 30 };
    let settings = StackSettings {
        redis: true,
        postgres: true,
        policies: POLICIES.to_owned(),
        // It would end the guessing after a minute's sixty.
        gateway: "[anonymous]\nenabled = false\n".to_owned(),
        ..StackSettings::default()
    };
    let stack = Stack::start(&settings).await?;
    let (anna, _) = stack.tenant("anna@example.com", "Anna").await?;
    let (berta, _) = stack.tenant("berta@example.com", "Berta").await?;
    let body = json!({"name": "of Berta"});
    let token = text(&berta.post("/v1/auth/service-tokens", &body, 201).await?, "/token")?;

    let mut dice = Dice::new(12);
    let all = values(&anna, &berta, count, &mut dice).await?;
    let mut expected = ["key_not_found"; KINDS.len()];
    expected[OWN] = "key_revoked";
    let replica = stack.ratelimit.first().context("there is a replica")?;
    let client = Box::new(KeysServiceClient::new(rpc::channel(stack.keys.address())?));
    let mut verify = Way::Verify { client, token: token.clone() };
    let mut check = Way::Check(Backend::new(replica.address(), &token)?);
    let mut forward_auth = Way::ForwardAuth(stack.rest());
    // Connections, and code that runs for the first time, are no part of what is measured.
    for way in [&mut verify, &mut check, &mut forward_auth] {
        for _ in 0..20 {
            way.ask(&nobodys(&mut dice)).await?;
        }
    }

    let kinds = all.each_ref().map(Vec::as_slice);
    let mut tables = vec![("VerifyKey", probe(&mut verify, &kinds, &expected).await?)];
    tables.push(("Check, for the first time", probe(&mut check, &kinds, &expected).await?));
    tables.push(("Check, once more", probe(&mut check, &kinds, &expected).await?));
    // A proxy asks for all organizations, so that there a key of another is as good as an own one, and whoever has the
    // value of one that is revoked is told so.
    let more = values(&anna, &berta, count, &mut dice).await?;
    let kinds = [&more[0][..], &more[UNKNOWN], &more[NEIGHBOUR]];
    tables.push(("forward auth", probe(&mut forward_auth, &kinds, &expected).await?));
    for (way, times) in &tables {
        show(way, times);
        let share = times[NEIGHBOUR].share_shorter_than(&times[UNKNOWN]);
        // Five times what chance makes of as many that cannot be told apart.
        let chance = ((2 * count + 1) as f64 / 12.0).sqrt() / count as f64;
        assert!(
            (share - 0.5).abs() < 5.0 * chance,
            "{way}: a value next to a key takes another time: {share}"
        );
    }
    for value in &more[OWN] {
        assert_eq!(forward_auth.ask(value).await?.1, "key_revoked");
    }
    stack.assert_no_panic().await?;
    Ok(())
}
