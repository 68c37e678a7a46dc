//! What many decisions by many workers look like.

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use tidegate_chassis::clock::ManualClock;

use super::*;
use crate::{
    domain::{Derived, PolicySet},
    limiter::{Counters, Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

pub(super) const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "each"
namespace = "shop"
key_by = ["user"]
limits = [{ name = "minute", limit = 10, period = "1m", algorithm = "fixed_window" }]

[[policies]]
name = "trial"
namespace = "shop"
enforcement = "shadow"
key_by = ["user", "path"]
limits = [{ name = "minute", limit = 3, period = "1m", algorithm = "fixed_window" }]

[[policies]]
name = "all"
namespace = "office"
key_by = []
limits = [{ name = "minute", limit = 1000000, period = "1m", algorithm = "fixed_window" }]
"#;

/// The start of some minute.
const START_US: u64 = 1_735_689_600_000_000;

pub(super) struct Replica {
    pub(super) usage: Usage,
    limiter: Limiter,
    hand: ManualClock,
    metrics: Metrics,
}

impl Replica {
    pub(super) fn new(text: &str, config: &UsageConfig) -> Self {
        let (clock, hand) = Clock::manual(START_US);
        let (metrics, random) = (Metrics::new(), Random::seeded(7));
        let memory = MemoryStoreConfig { max_bytes: 64 << 20 };
        let store = Arc::new(MemoryStore::new(&memory, clock.clone(), &random, &metrics));
        let policies: PolicySet = policies::parse(text, "test", 1).expect("valid policies");
        let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 60_000_000 };
        let policies = Arc::new(ArcSwap::from_pointee(policies));
        let limiter =
            Limiter::new(policies, Counters::Memory(store), clock.clone(), Random::seeded(1), settings);
        Self { usage: Usage::new(config, clock, random, &metrics), limiter, hand, metrics }
    }

    /// Asks once, and counts it at `worker`.
    pub(super) fn check(
        &self,
        worker: &WorkerUsage,
        namespace: &str,
        attributes: &[(&str, &str)],
    ) -> (bool, Met) {
        let policies = self.limiter.policies();
        let question = Question::new(namespace, attributes);
        let limiter = self.limiter.at_once().expect("memory answers at once");
        let verdict = limiter.check(&policies, &question).expect("decided");
        (verdict.allowed, worker.record(&verdict, || Derived::new(attributes, &[])))
    }

    fn advance(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
        self.usage.turn();
    }

    /// The keys of a kind, as "policy user=ada path=/: 5-2".
    fn top(&self, kind: KeyKind, window: Window) -> Vec<String> {
        let found = self.usage.top_keys(kind, window, 100, |_, _| true);
        found.keys.iter().map(shown).collect()
    }

    fn counts(&self, policy: &str, window: Window) -> PolicyCounts {
        let (_, policies, _) = self.usage.policies(window, |_, name| name == policy);
        policies[0].counts
    }
}

fn shown(key: &TopKey) -> String {
    let attributes = key.subject.attributes.iter().map(|of| format!(" {}={}", of.name, of.value));
    format!("{}{}: {}-{}", key.subject.policy, attributes.collect::<String>(), key.count, key.over)
}

pub(super) fn config() -> UsageConfig {
    UsageConfig {
        keys: 64,
        samples_per_second: 100_000,
        near_percent: 20,
        policies: 16,
        metrics_policies: 16,
    }
}

#[test]
fn each_policy_counts_what_it_said_and_keys_show_who_was_asked_for() {
    let replica = Replica::new(POLICIES, &config());
    let workers = [replica.usage.for_worker(), replica.usage.for_worker()];
    for turn in 0..12 {
        replica.check(&workers[turn % 2], "shop", &[("user", "ada"), ("path", "/")]);
    }
    replica.check(&workers[0], "shop", &[("user", "bob"), ("path", "/")]);
    let each = replica.counts("each", Window::Recent).since_start;
    // The ninth and the tenth left less than two.
    let wanted = Counts { checks: 13, admitted: 11, denied: 2, near_limit: 2, shadow_denied: 0 };
    assert_eq!((each, each.denied_elsewhere()), (wanted, 0));
    let trial = replica.counts("trial", Window::Recent).in_window;
    // The third left nothing; from the fourth to the tenth it would have denied, then `each` did.
    let wanted = Counts { checks: 13, admitted: 11, denied: 0, near_limit: 1, shadow_denied: 7 };
    assert_eq!((trial, trial.denied_elsewhere()), (wanted, 2));
    let top = |kind| replica.top(kind, Window::Recent);
    assert_eq!(
        top(KeyKind::Hot),
        [
            "each user=ada: 12-0",
            "trial user=ada path=/: 12-0",
            "each user=bob: 1-0",
            "trial user=bob path=/: 1-0"
        ]
    );
    assert_eq!(top(KeyKind::Denied), ["each user=ada: 2-0"]);
    assert_eq!(top(KeyKind::NearLimit), ["each user=ada: 2-0", "trial user=ada path=/: 1-0"]);
    assert_eq!(top(KeyKind::ShadowDenied), ["trial user=ada path=/: 7-0"]);
    let found = replica.usage.top_keys(KeyKind::Hot, Window::Hour, 1, |_, name| name == "trial");
    assert_eq!(found.keys.iter().map(shown).collect::<Vec<_>>(), ["trial user=ada path=/: 12-0"]);
    assert_eq!((found.total, found.unlisted_at_most), (26, 1));
}

#[test]
fn what_is_past_leaves_the_short_window_before_the_long_one() {
    let replica = Replica::new(POLICIES, &config());
    let worker = replica.usage.for_worker();
    replica.check(&worker, "office", &[]);
    let seen = |window| {
        let found = replica.usage.top_keys(KeyKind::Hot, window, 10, |_, _| true);
        let counted = replica.counts("all", window);
        assert_eq!(found.total, counted.in_window.checks, "the two views agree");
        assert_eq!(counted.since_start.checks, 1);
        (found.total, found.seen.since_us)
    };
    assert_eq!(seen(Window::Recent), (1, START_US));
    replica.advance(61);
    assert_eq!(seen(Window::Recent), (1, START_US));
    replica.advance(60);
    assert_eq!(seen(Window::Recent), (0, START_US + 61_000_000));
    assert_eq!(seen(Window::Hour), (1, START_US));
    replica.advance(2 * 3600);
    assert_eq!(seen(Window::Hour), (0, START_US + 7_321_000_000));
}

#[test]
fn heavy_keys_are_found_among_many_within_the_stated_error() {
    let settings = UsageConfig { keys: 50, ..config() };
    let replica = Replica::new(POLICIES, &settings);
    let workers = [replica.usage.for_worker(), replica.usage.for_worker(), replica.usage.for_worker()];
    let random = Random::seeded(3);
    let mut exact: HashMap<String, u64> = HashMap::new();
    for turn in 0..30_000_usize {
        // About Zipf's law: the n-th of 2,000 comes 1/n as often as the first.
        let rank = (2_000_f64.ln() * random.unit_f64()).exp();
        let user = format!("user-{}", rank.floor());
        replica.check(&workers[turn % 3], "shop", &[("user", &user)]);
        *exact.entry(user).or_default() += 1;
        if turn % 10_000 == 5_000 {
            replica.advance(30);
        }
    }
    let found = replica.usage.top_keys(KeyKind::Hot, Window::Recent, 1_000, |_, _| true);
    assert_eq!(found.total, 30_000);
    let of = |key: &TopKey| exact[&*key.subject.attributes[0].value];
    for key in &found.keys {
        let truth = of(key);
        assert!(key.count - key.over <= truth && truth <= key.count, "{}: {truth}", shown(key));
        assert_eq!(key.variance, 0);
    }
    let listed: Vec<_> = found.keys.iter().map(|key| &*key.subject.attributes[0].value).collect();
    assert!(exact.iter().all(|(user, count)| listed.contains(&&**user) || *count <= found.unlisted_at_most));
    // Each of the six summaries errs by a fiftieth of its part at most.
    assert!(found.unlisted_at_most <= 30_000 / 50, "{}", found.unlisted_at_most);
    assert!(exact.iter().all(|(user, count)| listed.contains(&&**user) || *count <= 30_000 / 50));
    assert_eq!(listed[..2], ["user-1", "user-2"]);
}

#[test]
fn sampled_counts_err_as_they_say() {
    let settings = UsageConfig { samples_per_second: 100, ..config() };
    let replica = Replica::new(POLICIES, &settings);
    let worker = replica.usage.for_worker();
    for turn in 0..20_000_u64 {
        let user = if turn % 4 == 0 { "ada" } else { "bob" };
        replica.check(&worker, "shop", &[("user", user)]);
        replica.hand.advance(Duration::from_micros(50));
    }
    let found = replica.usage.top_keys(KeyKind::Hot, Window::Recent, 10, |_, _| true);
    let exact: HashMap<_, u64> = [("ada", 5_000), ("bob", 15_000)].into_iter().collect();
    for key in &found.keys {
        let error = key.variance.isqrt();
        assert!(error > 0 && key.over == 0);
        let truth = exact[&*key.subject.attributes[0].value];
        assert!(key.count.abs_diff(truth) < 4 * error, "{} of {truth} ± {error}", shown(key));
        // The error is worth stating: a part of the count, and not all of it.
        assert!(error < truth, "{error}");
    }
    let counted = replica.counts("each", Window::Recent).since_start;
    assert_eq!(counted.checks, 20_000, "policies are counted exactly");
}

#[test]
fn subjects_are_kept_short_whatever_a_request_says() {
    let text = r#"
        builtin = false
        [[policies]]
        name = "wide"
        namespace = "shop"
        key_by = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"]
        limits = [{ name = "minute", limit = 10, period = "1m" }]
    "#;
    let replica = Replica::new(text, &config());
    let worker = replica.usage.for_worker();
    for last in ["x", "y"] {
        // Cut within a letter, were it not for the letters.
        let long = format!("_{}{last}", "ä".repeat(250));
        let attributes = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"].map(|name| (name, &*long));
        replica.check(&worker, "shop", &attributes);
    }
    let found = replica.usage.top_keys(KeyKind::Hot, Window::Recent, 10, |_, _| true);
    assert_eq!(found.keys.len(), 2, "they differ in what is not shown");
    for key in &found.keys {
        assert_eq!(key.subject.attributes.len(), 8);
        for attribute in &key.subject.attributes {
            assert_eq!((attribute.value.len(), attribute.is_cut), (127, true));
        }
    }
}

#[test]
fn labels_are_names_from_the_configuration_and_bounded() {
    let mut text = "builtin = false\n".to_owned();
    for number in 0..40 {
        text.push_str(&format!(
            "[[policies]]\nname = \"policy-{number:02}\"\nnamespace = \"shop-{number:02}\"\nkey_by = [\"user\"]\n\
             limits = [{{ name = \"minute\", limit = 1, period = \"1m\" }}]\n"
        ));
    }
    let settings = UsageConfig { policies: 10, metrics_policies: 4, ..config() };
    let replica = Replica::new(&text, &settings);
    let worker = replica.usage.for_worker();
    let before = replica.metrics.encode().lines().count();
    for number in 0..40 {
        for user in 0..50 {
            let (namespace, user) = (format!("shop-{number:02}"), format!("unbounded-{user}"));
            replica.check(&worker, &namespace, &[("user", &user), ("ip", "203.0.113.7")]);
        }
    }
    let text = replica.metrics.encode();
    for secret in ["unbounded", "203.0.113.7"] {
        assert!(!text.contains(secret), "{secret}\n{text}");
    }
    let checks: Vec<_> =
        text.lines().filter(|line| line.starts_with("tidegate_ratelimit_policy_checks_total{")).collect();
    assert_eq!(checks.len(), 3 * (4 + 1), "{checks:?}");
    // Three outcomes and two more counters for each of four policies.
    assert_eq!(text.lines().count(), before + 4 * 5);
    let line = "tidegate_ratelimit_policy_checks_total{namespace=\"shop-03\",policy=\"policy-03\",outcome=\"admitted\"} 50";
    assert!(text.contains(line), "{text}");
    let line = "tidegate_ratelimit_policy_checks_total{namespace=\"(other)\",policy=\"(other)\",outcome=\"admitted\"} 1800";
    assert!(text.contains(line), "{text}");
    // The view tells more of them apart than the metrics, and no policy is left out.
    let (_, policies, others) = replica.usage.policies(Window::Recent, |_, _| true);
    assert_eq!((policies.len(), others.since_start.checks), (10, 30 * 50));
}

#[test]
fn policy_keeps_its_counts_when_policies_are_read_again() {
    let replica = Replica::new(POLICIES, &config());
    let worker = replica.usage.for_worker();
    replica.check(&worker, "office", &[]);
    let again =
        Arc::new(ArcSwap::from_pointee(policies::parse(POLICIES, "test", 1).expect("valid policies")));
    let again = again.load();
    let policy = &again.namespace("office").expect("declared").policies()[0];
    assert!(policy.usage_place.get().is_none());
    assert_eq!(replica.usage.0.places.of(policy), 1);
}
