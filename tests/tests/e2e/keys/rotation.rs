//! Rotations under load: limits and credits of the key are those of before, and never twice as much.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{CheckRequest, Code};
use tidegate_tests::{
    backend::Backend,
    dice::Dice,
    eventually::eventually,
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};
use tokio::{task::JoinSet, time::Instant};

use crate::seconds;

/// One limit for each thing that a check by key is counted by, in windows that outlast the test.
fn policies(bound: u64) -> String {
    format!(
        r#"
builtin = false
[[plans]]
name = "small"
limits = [{{ name = "day", limit = {bound}, period = "1d" }}]
[[plans]]
name = "ample"
limits = [{{ name = "day", limit = 1_000_000_000, period = "1d" }}]
[[policies]]
name = "organization"
namespace = "default"
key_by = ["organization"]
plan = {{ attribute = "plan", default = "small" }}
[[policies]]
name = "each-key"
namespace = "each-key"
key_by = ["api_key"]
limits = [{{ name = "day", limit = {bound}, period = "1d" }}]
[[policies]]
name = "anonymous"
namespace = "gateway"
key_by = ["ip"]
limits = [{{ name = "minute", limit = 1_000_000, period = "1m" }}]
"#
    )
}

/// What bounds the checks of a key.
struct Bound {
    name: &'static str,
    plan: &'static str,
    namespace: &'static str,
    /// Whether the key has a limit of its own.
    has_limit: bool,
    has_credits: bool,
    /// How a check is denied in the end.
    denied: (Code, &'static str),
}

const BOUNDS: [Bound; 4] = [
    Bound {
        name: "a limit of the plan",
        plan: "small",
        namespace: "default",
        has_limit: false,
        has_credits: false,
        denied: (Code::RateLimited, "rate_limited"),
    },
    Bound {
        name: "a policy by API key",
        plan: "ample",
        namespace: "each-key",
        has_limit: false,
        has_credits: false,
        denied: (Code::RateLimited, "rate_limited"),
    },
    Bound {
        name: "a limit of the key",
        plan: "ample",
        namespace: "default",
        has_limit: true,
        has_credits: false,
        denied: (Code::RateLimited, "rate_limited"),
    },
    Bound {
        name: "credits of the key",
        plan: "ample",
        namespace: "default",
        has_limit: false,
        has_credits: true,
        denied: (Code::QuotaExceeded, "quota_exceeded"),
    },
];

/// A value of the key, and when its end was answered.
#[derive(Clone)]
struct KeyValue {
    value: String,
    ended: Option<Instant>,
}

/// What the clients saw of one key.
#[derive(Default)]
struct Seen {
    values: Mutex<Vec<KeyValue>>,
    admitted: AtomicU64,
    /// By a value whose end had been answered before.
    late: AtomicU64,
    denied: AtomicU64,
    revoked: AtomicU64,
    unanswered: AtomicU64,
}

impl Seen {
    fn values(&self) -> MutexGuard<'_, Vec<KeyValue>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a check.
enum Outcome {
    Admitted,
    Denied,
    Revoked,
    Unanswered,
}

/// Over which a client asks.
enum Way {
    Grpc(Backend),
    Rest(Rest),
}

impl Way {
    async fn check(&mut self, bound: &Bound, value: &str) -> anyhow::Result<Outcome> {
        match self {
            Self::Grpc(backend) => {
                let (api_key, namespace) = (value.to_owned(), bound.namespace.to_owned());
                match backend.ask(CheckRequest { api_key, namespace, ..CheckRequest::default() }).await {
                    Ok(answer) if answer.allowed => Ok(Outcome::Admitted),
                    Ok(answer) if answer.code() == bound.denied.0 => Ok(Outcome::Denied),
                    Ok(answer) if answer.code() == Code::KeyRevoked => Ok(Outcome::Revoked),
                    Ok(answer) => anyhow::bail!("{answer:?}"),
                    Err(status) => {
                        let is_away =
                            matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded);
                        ensure!(is_away, "{status:?}");
                        Ok(Outcome::Unanswered)
                    }
                }
            }
            Self::Rest(rest) => {
                let body = json!({"api_key": value, "namespace": bound.namespace});
                let answer = rest.ask(http::Method::POST, "/v1/check", &body).await?;
                let told = answer.json();
                match (answer.status.as_u16(), &told["allowed"], told["code"].as_str()) {
                    (200, Value::Bool(true), _) => Ok(Outcome::Admitted),
                    (200, _, Some(code)) if code == bound.denied.1 => Ok(Outcome::Denied),
                    (200, _, Some("key_revoked")) => Ok(Outcome::Revoked),
                    (503 | 504, ..) => Ok(Outcome::Unanswered),
                    _ => anyhow::bail!("{} {}", answer.status, answer.text()),
                }
            }
        }
    }
}

/// Asks by any of the values, the newest as often as all others together, until it was denied often after the last
/// rotation.
async fn client(
    mut way: Way,
    bound: &'static Bound,
    (seed, most_values): (u64, u64),
    seen: Arc<Seen>,
) -> anyhow::Result<()> {
    let (mut dice, mut denied) = (Dice::new(seed), 0);
    while denied < 20 {
        let (key, is_last) = {
            let values = seen.values();
            let last = values.len() - 1;
            let key = values[if dice.below(2) == 0 { last } else { dice.below(values.len()) }].clone();
            (key, values.len() as u64 == most_values)
        };
        let counter = match way.check(bound, &key.value).await? {
            Outcome::Admitted => {
                if key.ended.is_some() {
                    seen.late.fetch_add(1, Ordering::SeqCst);
                }
                &seen.admitted
            }
            Outcome::Denied => {
                denied += u64::from(is_last);
                &seen.denied
            }
            Outcome::Revoked => &seen.revoked,
            Outcome::Unanswered => &seen.unanswered,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Makes the key, asks by it while it is rotated `rotations` times, and once more when it is used up.
async fn run(
    stack: &Stack,
    (admin, token): (&Rest, &str),
    bound: &'static Bound,
    (limit, rotations): (u64, u64),
) -> anyhow::Result<Arc<Seen>> {
    let name = bound.name.replace(' ', ".");
    let (owner, organization) = stack.tenant(&format!("{name}@example.com"), bound.name).await?;
    admin.patch(&format!("/v1/organizations/{organization}"), &json!({"plan": bound.plan})).await?;
    let mut body = json!({"name": bound.name});
    if bound.has_limit {
        body["limits"] = json!([{"name": "day", "limit": limit, "period_seconds": 86_400}]);
    }
    let made = owner.post("/v1/auth/api-keys", &body, 201).await?;
    let mut id = text(&made, "/id")?;
    if bound.has_credits {
        owner.post(&format!("/v1/auth/api-keys/{id}/credits"), &json!({"amount": limit}), 200).await?;
    }
    let seen = Arc::new(Seen::default());
    seen.values().push(KeyValue { value: text(&made, "/key_value")?, ended: None });
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let way = match number % 4 {
            0 => Way::Rest(stack.rest().with(token)),
            replica => Way::Grpc(Backend::new(stack.ratelimit[replica % 2].address(), token)?),
        };
        clients.spawn(client(way, bound, (number as u64, rotations + 2), Arc::clone(&seen)));
    }
    for number in 1..=rotations + 1 {
        // Each time after an equal share of what may be admitted; the last time when nothing is left.
        let due = limit * number / (rotations + 1);
        eventually("checks are admitted", Duration::from_secs(30), async || {
            Ok(seen.admitted.load(Ordering::SeqCst) >= due || seen.denied.load(Ordering::SeqCst) > 0)
        })
        .await?;
        let grace_s = if number % 2 == 0 { 3_600 } else { 0 };
        let path = format!("/v1/auth/api-keys/{id}/rotate");
        let rotated = owner.post(&path, &json!({"grace_period_seconds": grace_s}), 200).await?;
        id = text(&rotated, "/new_key/id")?;
        let mut values = seen.values();
        if grace_s == 0 {
            values.last_mut().context("there is one")?.ended = Some(Instant::now());
        }
        values.push(KeyValue { value: text(&rotated, "/new_key/key_value")?, ended: None });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn report_rotations_under_load_double_neither_limits_nor_credits() -> TestResult {
    let _turn = turn::alone().await;
    let (limit, rotations) = if seconds::is_long() { (2_000, 40) } else { (200, 5) };
    let settings = StackSettings {
        redis: true,
        postgres: true,
        replicas: 2,
        policies: policies(limit),
        // As long as a slow machine needs: what is not answered leaves the exact number open.
        ratelimit: "[store.redis]\ndeadline = \"2s\"\n[keys]\ndeadline = \"10s\"".to_owned(),
        gateway: "[upstreams]\ndeadline = \"10s\"".to_owned(),
        ..StackSettings::default()
    };
    let stack = Stack::start(&settings).await?;
    let admin = stack.admin().await?;
    let token = stack.backend().await?.token().to_owned();
    println!("bound by               of rotations admitted  denied revoked unanswered    late");
    for bound in &BOUNDS {
        let seen = run(&stack, (&admin, &token), bound, (limit, rotations)).await?;
        let [admitted, denied, revoked, unanswered, late] =
            [&seen.admitted, &seen.denied, &seen.revoked, &seen.unanswered, &seen.late]
                .map(|counter| counter.load(Ordering::SeqCst));
        println!(
            "{:<20} {limit:>4} {:>9} {admitted:>8} {denied:>7} {revoked:>7} {unanswered:>10} {late:>7}",
            bound.name,
            rotations + 1
        );
        assert!(admitted <= limit, "{}: {admitted} admitted of {limit}", bound.name);
        assert!(admitted + unanswered >= limit, "{}: a rotation loses some: {admitted}", bound.name);
        assert_eq!(late, 0, "{}: by a value whose end was answered", bound.name);
        assert!(revoked > 0 && denied > 0, "{}: nobody asked by old values", bound.name);
    }
    stack.assert_no_panic().await?;
    Ok(())
}
