//! Limits that are raised and lowered for one subject while it is counted.

use tidegate_tests::redis_server::RedisServer;

use super::*;
use crate::domain::{Numbers, Override, OverrideChange, OverrideTarget, Pattern};

const SHOP: &str = r#"
builtin = false

[[policies]]
name = "each"
namespace = "shop"
key_by = ["user"]
limits = [
    { name = "window", limit = 10, period = "1h" },
    { name = "log", algorithm = "sliding_log", limit = 20, period = "1h" },
    { name = "bucket", algorithm = "token_bucket", limit = 30, period = "1h" },
    { name = "quota", algorithm = "fixed_window", limit = 40, period = "3650d" },
]
"#;

const LIMITS: [&str; 4] = ["window", "log", "bucket", "quota"];

fn to(limit: &str, user: &str, tokens: u64) -> OverrideChange {
    let target = OverrideTarget {
        namespace: "shop".into(),
        policy: "each".into(),
        limit: limit.into(),
        key: [Pattern::parse(user).expect("a pattern")].into(),
    };
    OverrideChange::Set(Override { target, numbers: Numbers { tokens, period: None, burst: None } })
}

fn put_in_force(limiter: &Limiter, changes: impl IntoIterator<Item = OverrideChange>) {
    let (set, faults) = limiter.policies().with_overrides(changes);
    assert_eq!(faults, []);
    limiter.policies.store(Arc::new(set));
}

/// Whether it was admitted, and what remains of each limit.
async fn charge(limiter: &Limiter, user: &str, cost: u64) -> (bool, Vec<u64>) {
    let attributes = [("user", user.to_owned())];
    let question = Question { cost, ..question("shop", &attributes) };
    let policies = limiter.policies();
    let verdict = limiter.check(&policies, question).await.expect("decided");
    assert!(!verdict.degraded);
    (verdict.allowed, verdict.limits.iter().map(|limit| limit.outcome.remaining).collect())
}

async fn what_was_counted_is_kept(limiter: Limiter) {
    assert_eq!(charge(&limiter, "ann", 9).await, (true, vec![1, 11, 21, 31]));
    put_in_force(&limiter, LIMITS.map(|limit| to(limit, "ann", 12)));
    assert_eq!(
        charge(&limiter, "ann", 1).await,
        (true, vec![2, 2, 2, 2]),
        "lowered and raised: 9 are counted"
    );
    assert_eq!(charge(&limiter, "bob", 9).await, (true, vec![1, 11, 21, 31]), "nobody else is meant");

    put_in_force(&limiter, LIMITS.map(|limit| to(limit, "ann", 3)));
    for _ in 0..3 {
        assert_eq!(charge(&limiter, "ann", 1).await, (false, vec![0; 4]), "less than what is in use");
    }
    put_in_force(&limiter, LIMITS.map(|limit| to(limit, "ann", 100)));
    let (admitted, remaining) = charge(&limiter, "ann", 1).await;
    assert!(admitted);
    assert_eq!(remaining, [89; 4], "10 were charged, and no denial charged anything");

    let removed = LIMITS.map(|limit| OverrideChange::Remove(to(limit, "ann", 1).target().clone()));
    put_in_force(&limiter, removed);
    assert_eq!(charge(&limiter, "ann", 1).await, (false, vec![0, 9, 19, 29]));
}

#[tokio::test]
async fn what_was_counted_in_memory_is_kept_when_limits_of_one_subject_change() {
    what_was_counted_is_kept(limiter_by(SHOP, Counters::Memory(memory()), 1)).await;
}

#[tokio::test]
async fn what_was_counted_in_redis_is_kept_when_limits_of_one_subject_change() {
    let server = RedisServer::start().await.expect("redis-server");
    let config = RedisStoreConfig {
        url: Secret::new(server.url()),
        tls_ca: String::new(),
        tls_cert: String::new(),
        tls_key: String::new(),
        deadline: Duration::from_secs(10).into(),
        connect_timeout: Duration::from_secs(10).into(),
        max_batch: 128,
        calls_in_flight: 2,
        denied_keys: 1_000,
        breaker: BreakerConfig { failures: 8, successes: 3, open_for: Duration::from_secs(1).into() },
    };
    let backend = RedisBackend::new(&config, Random::seeded(1), &Metrics::new()).expect("valid settings");
    let counters = Counters::Shared { store: Arc::new(backend.open()), local: memory() };
    what_was_counted_is_kept(limiter_by(SHOP, counters, 1)).await;
}

#[tokio::test]
async fn looks_resets_retries_and_too_dear_checks_go_by_the_overridden_limit() {
    let limiter = limiter_by(SHOP, Counters::Memory(memory()), 1);
    put_in_force(&limiter, [to("window", "a*", 15)]);
    let attributes = [("user", "ann".to_owned())];
    let asked = || question("shop", &attributes);
    let policies = limiter.policies();
    let retried = || Question { idempotency_key: "1", cost: 12, ..asked() };
    assert!(limiter.check(&policies, retried()).await.expect("decided").allowed);
    let looked = limiter.peek(&policies, asked(), &[]).await.expect("decided");
    assert_eq!((looked.limits[0].limit.limit.limit, looked.limits[0].outcome.remaining), (15, 3));

    put_in_force(&limiter, [to("window", "a*", 13)]);
    let policies = limiter.policies();
    let again = limiter.check(&policies, retried()).await.expect("a retry is recognized");
    assert!(again.allowed && again.replayed);
    let too_dear = limiter.check(&policies, Question { cost: 14, ..asked() }).await.expect_err("refused");
    assert!(matches!(too_dear, CheckError::CostAboveCapacity { capacity: 13, .. }), "{too_dear}");

    let cleared = limiter.reset(&policies, question("shop", &attributes), Some("each/window"), &[]).await;
    assert_eq!(cleared.expect("cleared")[0].limit.limit, 13);
    assert_eq!(limiter.peek(&policies, asked(), &[]).await.expect("decided").limits[0].outcome.remaining, 13);
}

#[tokio::test]
async fn a_replica_by_itself_takes_its_share_of_the_overridden_limit() {
    let limiter = without_redis(2);
    let change = OverrideChange::Set(Override {
        target: OverrideTarget {
            namespace: "local".into(),
            policy: "local".into(),
            limit: "minute".into(),
            key: [Pattern::Exact("ada".into())].into(),
        },
        numbers: Numbers { tokens: 4, period: None, burst: None },
    });
    put_in_force(&limiter, [change]);
    let mut admitted = 0;
    for _ in 0..6 {
        admitted += usize::from(answer(&limiter, question("local", &user())).await.0);
    }
    assert_eq!(admitted, 2);
}

#[test]
fn threads_that_meet_a_subject_at_once_count_by_the_same_limits() {
    let limiter = limiter_by(SHOP, Counters::Memory(memory()), 1);
    put_in_force(&limiter, (0..200).map(|number| to("window", &format!("user{number}"), 1 + number % 7)));
    let policies = limiter.policies.load_full();
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let check = |number: u64| {
                        let attributes = [("user", format!("user{number}"))];
                        let limiter = limiter.at_once().expect("in memory");
                        let question = question("shop", &attributes);
                        usize::from(limiter.check(&policies, &question).expect("decided").allowed)
                    };
                    (0..2_000).map(|number| check(number % 200)).sum::<usize>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    });
    let expected: u64 = (0..200).map(|number| 1 + number % 7).sum();
    assert_eq!(admitted as u64, expected);
}

#[test]
fn callers_who_meet_many_combinations_of_overrides_do_not_fill_the_memory() {
    const USERS: u64 = 300;
    let text = SHOP.replace("key_by = [\"user\"]", "key_by = [\"user\", \"path\"]");
    let limiter = limiter_by(&text, Counters::Memory(memory()), 1);
    let to = |limit: &str, key: [&str; 2], tokens| {
        let OverrideChange::Set(mut set) = to(limit, "*", tokens) else { panic!("it sets") };
        set.target.key = key.map(|text| Pattern::parse(text).expect("a pattern")).into();
        OverrideChange::Set(set)
    };
    let by_user = (0..USERS).map(|n| to("window", [&format!("u{n}"), "*"], 1 + n));
    let by_path = (0..USERS).map(|n| to("log", ["*", &format!("p{n}")], 1 + n));
    put_in_force(&limiter, by_user.chain(by_path));
    let before = limiter.policies.load_full();
    let mut met = 0;
    for (user, path) in (0..USERS).flat_map(|user| (0..USERS).map(move |path| (user, path))) {
        let attributes = [("user", format!("u{user}")), ("path", format!("p{path}"))];
        let policies = limiter.policies();
        let mut found = SmallVec::new();
        policies
            .namespace("shop")
            .expect("declared")
            .matching(&attributes[..], 1, &mut found)
            .expect("no plan");
        let tokens: Vec<_> =
            found[0].bundle.limits.iter().map(|limit| u64::from(limit.limit.limit)).collect();
        assert_eq!(tokens, [1 + user, 1 + path, 30, 40]);
        met += 1;
        assert_eq!(!Arc::ptr_eq(&before, &limiter.policies.load()), met > 65_536, "after {met}");
    }
    assert!(!limiter.policies().has_much_combined());
    assert_eq!((limiter.policies().version(), limiter.policies().overrides_len()), (1, 600));
}
