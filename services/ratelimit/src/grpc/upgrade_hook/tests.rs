//! Against a real server of the hook.

use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use prost_types::Timestamp;
use tidegate_chassis::clock::ManualClock;
use tidegate_proto::ratelimit::v1::{
    LimitReachedResponse,
    plan_upgrade_hook_service_server::{PlanUpgradeHookService, PlanUpgradeHookServiceServer},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::{
    Request, Response,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{
    limiter::{Counters, Descriptor, Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

const SHOP: &str = r#"
builtin = false

[[plans]]
name = "small"
limits = [{ name = "minute", rate = "2/min" }, { name = "hour", rate = "2/hour" }]

[[plans]]
name = "large"
limits = [{ name = "minute", rate = "3/min" }, { name = "hour", rate = "3/hour" }]

[[policies]]
name = "each"
namespace = "shop"
key_by = ["user", "path"]
plan = { attribute = "plan", default = "small" }
on_limit = { upgrade_plan = "large" }

[[policies]]
name = "trial"
namespace = "shadow"
key_by = ["user"]
enforcement = "shadow"
plan = { attribute = "plan", default = "small" }
on_limit = { upgrade_plan = "large" }

[[policies]]
name = "other"
namespace = "shadow"
key_by = ["user"]
limits = [{ name = "minute", rate = "1/min" }]
"#;

const RARE: &str = r#"
[[policies]]
name = "each"
namespace = "rare"
key_by = ["user"]
plan = { attribute = "plan", default = "small" }
on_limit = { upgrade_plan = "large" }

[[policies]]
name = "trial"
namespace = "rare"
key_by = ["user"]
enforcement = "shadow"
limits = [{ name = "minute", rate = "1/min" }]
"#;

const START_US: u64 = 1_800_000_000_250_000;
const QUIET: Duration = Duration::from_secs(60);

/// Answers as it was told to, one call after the other, and then well.
struct Hook {
    received: UnboundedSender<LimitReachedRequest>,
    answers: Mutex<Vec<Code>>,
}

#[tonic::async_trait]
impl PlanUpgradeHookService for Hook {
    async fn limit_reached(
        &self,
        request: Request<LimitReachedRequest>,
    ) -> Result<Response<LimitReachedResponse>, Status> {
        self.received.send(request.into_inner()).expect("the test listens");
        let next = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match next {
            // Nothing comes at all.
            Some(Code::Cancelled) => std::future::pending().await,
            Some(Code::Ok) | None => Ok(Response::new(LimitReachedResponse {})),
            Some(code) => Err(Status::new(code, "as the test says")),
        }
    }
}

/// A limiter that tells a hook, which answers with these codes first.
struct Fixture {
    limiter: Limiter,
    hook: UpgradeHook,
    received: UnboundedReceiver<LimitReachedRequest>,
    time: ManualClock,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Fixture {
    async fn with(mut answers: Vec<Code>, change: impl FnOnce(&mut UpgradeHookConfig)) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        answers.reverse();
        let (sender, received) = unbounded_channel();
        let hook = Hook { received: sender, answers: Mutex::new(answers) };
        let server = Server::builder().add_service(PlanUpgradeHookServiceServer::new(hook));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

        let mut config = UpgradeHookConfig {
            url: format!("http://{address}"),
            quiet: QUIET.into(),
            queue: 16,
            timeout: Duration::from_secs(10).into(),
            attempts: 3,
            tls: HookTlsConfig { ca: String::new(), cert: String::new(), key: String::new() },
        };
        change(&mut config);
        let (clock, time) = Clock::manual(START_US);
        let (metrics, random, stop) = (Metrics::new(), Random::seeded(1), CancellationToken::new());
        let address = HookAddress::read(&config).expect("valid settings").expect("it has an address");
        let hook = UpgradeHook::start(address, &config, (clock.clone(), random.clone()), &metrics, &stop);
        let memory = MemoryStoreConfig { max_bytes: 16 << 20 };
        let store = Arc::new(MemoryStore::new(&memory, clock.clone(), &random, &metrics));
        let policies = policies::parse(&[SHOP, RARE].concat(), "test", 1).expect("valid policies");
        let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 60_000_000 };
        let policies = Arc::new(ArcSwap::from_pointee(policies));
        let limiter = Limiter::new(policies, Counters::Memory(store), clock, Random::seeded(1), settings)
            .telling(Some(hook.for_worker()));
        Self { limiter, hook, received, time, metrics, stop }
    }

    async fn answering(answers: Vec<Code>) -> Self {
        Self::with(answers, |_| {}).await
    }

    /// Whether a check was admitted.
    async fn check(&self, namespace: &str, attributes: &[(&str, &str)], dry_run: bool) -> bool {
        let question = Question { dry_run, ..Question::new(namespace, attributes) };
        self.limiter.check(&self.limiter.policies(), question).await.expect("decided").allowed
    }

    /// Checks a user on the plan `small` until it is denied.
    async fn exhaust(&self, user: &str) {
        while self.check("shop", &[("user", user), ("path", "/")], false).await {}
    }

    /// The users that the hook was told of next.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut users = Vec::new();
        for _ in 0..count {
            let request = timeout(Duration::from_secs(20), self.received.recv()).await;
            let key = request.expect("in time").expect("the server runs").key;
            users.push(key.into_iter().find(|entry| entry.key == "user").expect("part of the key").value);
        }
        users
    }

    /// Waits until so many notices had this outcome.
    async fn counted(&self, outcome: &str, count: u64) {
        let line = format!("tidegate_ratelimit_plan_upgrades_total{{outcome=\"{outcome}\"}} {count}");
        let seen = || self.metrics.encode().lines().any(|of| of == line);
        let waited = timeout(Duration::from_secs(20), async {
            while !seen() {
                sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "no {line:?} in\n{}", self.metrics.encode());
    }
}

#[tokio::test]
async fn a_denial_is_told_with_everything_that_is_known_of_it() {
    let mut fixture = Fixture::answering(Vec::new()).await;
    fixture.exhaust("ann").await;
    let told = fixture.received.recv().await.expect("the server runs");
    let key = [("user", "ann"), ("path", "/")]
        .map(|(key, value)| KeyEntry { key: key.into(), value: value.into() });
    assert_eq!(uuid_version(&told.notice_id), 7);
    let expected = LimitReachedRequest {
        notice_id: told.notice_id.clone(),
        namespace: "shop".into(),
        policy: "each".into(),
        limit: "small/hour".into(),
        key: key.into(),
        plan: "small".into(),
        wanted_plan: "large".into(),
        denied_at: Some(Timestamp { seconds: 1_800_000_000, nanos: 250_000_000 }),
    };
    assert_eq!(told, expected);
}

fn uuid_version(id: &[u8]) -> u8 {
    assert_eq!(id.len(), 16);
    id[6] >> 4
}

#[tokio::test]
async fn a_subject_is_told_once_by_all_workers_until_quiet_has_passed() {
    let mut fixture = Fixture::answering(Vec::new()).await;
    for user in ["ann", "ann", "bob", "ann", "bob"] {
        fixture.exhaust(user).await;
    }
    assert_eq!(fixture.told(2).await, ["ann", "bob"]);
    fixture.counted("sent", 2).await;
    // Another worker has not told anybody yet.
    fixture.limiter = fixture.limiter.telling(Some(fixture.hook.for_worker()));
    fixture.exhaust("ann").await;
    fixture.counted("repeated", 1).await;

    fixture.time.advance(QUIET);
    fixture.exhaust("ann").await;
    assert_eq!(fixture.told(1).await, ["ann"]);
    fixture.counted("sent", 3).await;
}

#[tokio::test]
async fn a_hook_that_cannot_answer_now_is_told_the_same_again() {
    let mut fixture = Fixture::answering(vec![Code::Unavailable, Code::Internal]).await;
    fixture.exhaust("ann").await;
    let first = fixture.received.recv().await.expect("the server runs");
    for _ in 0..2 {
        assert_eq!(fixture.received.recv().await.expect("the server runs"), first);
    }
    fixture.counted("sent", 1).await;
}

#[tokio::test]
async fn attempts_have_an_end_and_some_errors_are_final() {
    let unavailable = [Code::Unavailable; 3];
    let mut fixture = Fixture::answering([&unavailable[..], &[Code::FailedPrecondition]].concat()).await;
    for user in ["ann", "bob", "eve"] {
        fixture.exhaust(user).await;
    }
    assert_eq!(fixture.told(5).await, ["ann", "ann", "ann", "bob", "eve"]);
    fixture.counted("failed", 2).await;
    fixture.counted("sent", 1).await;
}

#[tokio::test]
async fn a_hook_that_does_not_answer_is_given_up_and_holds_up_no_check() {
    let silent = vec![Code::Cancelled; 3];
    let mut fixture = Fixture::with(silent, |config| {
        config.queue = 1;
        config.timeout = Duration::from_millis(100).into();
    })
    .await;
    fixture.exhaust("ann").await;
    assert_eq!(fixture.told(1).await, ["ann"]);
    // While the hook is waited for, one notice has room and the others do not.
    for user in ["bob", "cid", "dan"] {
        fixture.exhaust(user).await;
    }
    fixture.counted("dropped", 2).await;
    fixture.counted("failed", 1).await;
    assert_eq!(fixture.told(3).await, ["ann", "ann", "bob"]);
    fixture.exhaust("dan").await;
    assert_eq!(fixture.told(1).await, ["dan"], "what was dropped is told when it is denied again");
}

#[tokio::test]
async fn nothing_is_told_of_what_is_no_denial_or_wants_no_other_plan() {
    let mut fixture = Fixture::answering(Vec::new()).await;
    let ann = [("user", "ann"), ("path", "/")];
    let large = [("user", "eve"), ("path", "/"), ("plan", "large")];
    while fixture.check("shop", &large, false).await {}
    while fixture.check("shop", &ann, false).await {}
    assert_eq!(fixture.told(1).await, ["ann"], "not eve, who is on that plan");

    let fixture = &mut Fixture::answering(Vec::new()).await;
    for _ in 0..2 {
        assert!(fixture.check("shop", &ann, false).await);
    }
    assert!(!fixture.check("shop", &ann, true).await, "a dry run");
    let policies = fixture.limiter.policies();
    let question = Question::new("shop", &ann[..]);
    assert!(!fixture.limiter.peek(&policies, question, &[]).await.expect("decided").allowed);
    // Denied by the other policy, while the one in shadow is exceeded.
    for _ in 0..4 {
        fixture.check("shadow", &[("user", "ann")], false).await;
    }
    fixture.exhaust("bob").await;
    assert_eq!(fixture.told(1).await, ["bob"], "the first that there was to tell");
}

#[tokio::test]
async fn denials_of_descriptors_are_told_too() {
    let mut fixture = Fixture::answering(Vec::new()).await;
    let entries = [("user", "ann".into()), ("path", "/".into())];
    let of = |hits| Descriptor { entries: &entries, hits, gives_back: false, limit: None };
    let policies = fixture.limiter.policies();
    assert!(fixture.limiter.check_descriptors(&policies, "shop", &[of(2)]).await[0].allowed);
    assert!(!fixture.limiter.check_descriptors(&policies, "shop", &[of(0)]).await[0].allowed, "a look");
    for told_so_far in 0..2 {
        // One alone, at once; then two of one request.
        let at_once = fixture.limiter.at_once().expect("in memory");
        match told_so_far {
            0 => assert!(!at_once.check_descriptors(&policies, "shop", &[of(1)])[0].allowed),
            _ => assert!(!at_once.check_descriptors(&policies, "shop", &[of(1), of(0)])[0].allowed),
        }
        let told = fixture.received.recv().await.expect("the server runs");
        assert_eq!((&*told.limit, told.key.len()), ("small/hour", 2));
        fixture.counted("sent", 1 + told_so_far).await;
        fixture.time.advance(QUIET);
    }
}

#[tokio::test]
async fn a_denial_decided_the_rare_way_is_told_too() {
    let mut fixture = Fixture::answering(Vec::new()).await;
    let entries = [("user", "ann".into())];
    let of = |hits| Descriptor { entries: &entries, hits, gives_back: false, limit: None };
    let policies = fixture.limiter.policies();
    let ask = |hits| {
        fixture.limiter.at_once().expect("in memory").check_descriptors(&policies, "rare", &[of(hits)])[0]
            .allowed
    };
    // Three are more than the policy in shadow could ever hold.
    assert!(ask(2) && !ask(3));
    assert_eq!(fixture.told(1).await, ["ann"]);
}

#[tokio::test]
async fn no_worker_leaves_whom_another_has_told_and_a_full_queue_is_no_matter() {
    let silent = vec![Code::Cancelled; 3];
    let mut fixture = Fixture::with([vec![Code::Ok], silent].concat(), |config| config.queue = 1).await;
    fixture.exhaust("ann").await;
    fixture.counted("sent", 1).await;
    // One is waited for, one fills the queue.
    fixture.exhaust("bob").await;
    assert_eq!(fixture.told(2).await, ["ann", "bob"]);
    fixture.exhaust("cid").await;
    let another = fixture.hook.for_worker();
    fixture.limiter = fixture.limiter.telling(Some(another));
    fixture.exhaust("ann").await;
    fixture.counted("repeated", 1).await;
    assert!(!fixture.metrics.encode().contains("outcome=\"dropped\"} 1"), "{}", fixture.metrics.encode());
}

#[tokio::test]
async fn what_is_not_told_when_the_replica_leaves_is_counted() {
    let mut fixture = Fixture::answering(vec![Code::Cancelled; 3]).await;
    for user in ["ann", "bob", "cid"] {
        fixture.exhaust(user).await;
    }
    assert_eq!(fixture.told(1).await, ["ann"], "it is waited for");
    fixture.stop.cancel();
    fixture.counted("dropped", 3).await;
    fixture.exhaust("dan").await;
    fixture.counted("dropped", 4).await;
}

fn settings(url: &str, file: &str) -> UpgradeHookConfig {
    UpgradeHookConfig {
        url: url.to_owned(),
        quiet: QUIET.into(),
        queue: 1,
        timeout: QUIET.into(),
        attempts: 1,
        tls: HookTlsConfig { ca: file.into(), cert: file.into(), key: file.into() },
    }
}

#[rstest::rstest]
#[case::none("", true)]
#[case::plain("http://127.0.0.1:1", true)]
#[case::encrypted("https://hook.example:7443", true)]
#[case::no_scheme("127.0.0.1:1", false)]
#[case::another_scheme("ftp://127.0.0.1:1", false)]
#[case::no_url("http://a b", false)]
fn a_url_is_checked_with_the_other_settings(#[case] url: &str, #[case] is_valid: bool) {
    let found = garde::Validate::validate(&settings(url, "")).map_err(|report| report.to_string());
    let expected = Err("url: must be http://host:port or https://host:port".to_owned());
    assert_eq!(found.map_err(|text| text.trim().to_owned()), if is_valid { Ok(()) } else { expected });
}

#[test]
fn every_file_that_cannot_be_read_is_named_with_its_setting() {
    let read = |url| HookAddress::read(&settings(url, "/no/such/file")).map(|address| address.is_some());
    assert!(!read("").expect("nobody is told"));
    assert!(read("http://127.0.0.1:1").expect("files are for https"));
    let Err(ConfigError::Refused(faults)) = read("https://127.0.0.1:1") else { panic!("refused") };
    let keys: Vec<_> = faults.iter().map(|fault| &*fault.key).collect();
    assert_eq!(keys, ["upgrade_hook.tls.ca", "upgrade_hook.tls.cert", "upgrade_hook.tls.key"]);
    assert!(faults.iter().all(|fault| fault.message.starts_with("/no/such/file: ")), "{faults:?}");
}
