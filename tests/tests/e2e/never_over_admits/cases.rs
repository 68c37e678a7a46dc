//! What is put under load, and what its limits promise.

use std::time::Duration;

use tidegate_proto::ratelimit::v1::CheckRequest;
use tidegate_tests::{checker::Rule, rpc};

const MS: u64 = 1_000;

/// A namespace of the policy file below, and what its limits promise.
pub(super) struct Case {
    pub(super) namespace: &'static str,
    pub(super) rules: &'static [Rule],
}

impl Case {
    pub(super) fn check(&self) -> CheckRequest {
        rpc::check(self.namespace, &[("organization", "acme"), ("ip", "203.0.113.7"), ("country", "fr")])
    }

    /// All admissions of a fixed window come at its start, just when calls lie across it: unless clients keep
    /// quiet there, an excess as large as their number would go unseen.
    pub(super) fn quiet_before(&self) -> Option<Duration> {
        let aligned = self.rules.iter().filter_map(|rule| match rule {
            Rule::Aligned { period_us, .. } => Some(Duration::from_micros(*period_us)),
            Rule::Rolling { .. } | Rule::Bucket { .. } => None,
        });
        aligned.min()
    }
}

pub(super) const CASES: [Case; 5] = [
    Case {
        namespace: "sliding_window",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "sliding_log",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "token_bucket",
        rules: &[
            Rule::Bucket { limit: 100, period_us: 1_000 * MS, burst: 40 },
            Rule::Bucket { limit: 30, period_us: 250 * MS, burst: 10 },
        ],
    },
    Case {
        namespace: "fixed_window",
        rules: &[
            Rule::Aligned { limit: 100, period_us: 1_000 * MS },
            Rule::Aligned { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "mixed",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 60, period_us: 500 * MS },
            Rule::Bucket { limit: 110, period_us: 1_000 * MS, burst: 50 },
            Rule::Aligned { limit: 90, period_us: 1_000 * MS },
        ],
    },
];

/// Room for every check: each is admitted, so that a second charge for a retried one shows in the count of charges,
/// which denials would blur.
pub(super) const ROOMY: Case =
    Case { namespace: "roomy", rules: &[Rule::Rolling { limit: 1_000_000, period_us: 3_600_000 * MS }] };

/// Policies by three attributes, so that in a cluster a check is about keys in three slots.
pub(super) const SEVERAL_SLOTS: Case = Case {
    namespace: "several_slots",
    rules: &[
        Rule::Rolling { limit: 100, period_us: 1_000 * MS },
        Rule::Rolling { limit: 40, period_us: 250 * MS },
        Rule::Bucket { limit: 110, period_us: 1_000 * MS, burst: 50 },
        Rule::Aligned { limit: 90, period_us: 1_000 * MS },
    ],
};

/// Where Redis Cluster puts what is counted under the organization `acme`.
pub(super) const ACME_SLOT: u16 = 14_626;

/// Beside the limits under test each namespace has one that is never reached: it counts charges.
pub(super) fn policies() -> String {
    let mut text = String::from("[defaults]\nfailure_mode = \"closed\"\n");
    let mut policy_by = |key: &str, namespace: &str, name: &str, limits: &[(&str, &str)]| {
        text.push_str(&format!(
            "\n[[policies]]\nname = \"{name}\"\nnamespace = \"{namespace}\"\nkey_by = [\"{key}\"]\n"
        ));
        for (limit, body) in limits {
            text.push_str(&format!("[[policies.limits]]\nname = \"{limit}\"\n{body}\n"));
        }
    };
    let log_of_several = "algorithm = \"sliding_log\"\nlimit = 40\nperiod = \"250ms\"";
    let charges = ("charges", "algorithm = \"sliding_window\"\nlimit = 1_000_000\nperiod = \"1h\"");
    let bucket = |limit: u32, period: &str, burst: u32| {
        format!("algorithm = \"token_bucket\"\nlimit = {limit}\nperiod = \"{period}\"\nburst = {burst}")
    };
    let window = "algorithm = \"sliding_window\"\nlimit = 100\nperiod = \"1s\"";
    let fixed = "algorithm = \"fixed_window\"\nlimit = 90\nperiod = \"1s\"";
    policy_by("organization", "several_slots", "a", &[("window", window), charges]);
    policy_by("ip", "several_slots", "b", &[("log", log_of_several), ("bucket", &bucket(110, "1s", 50))]);
    policy_by("country", "several_slots", "c", &[("fixed", fixed)]);
    let mut policy = |namespace: &str, name: &str, limits: &[(&str, &str)]| {
        policy_by("organization", namespace, name, limits);
    };
    for algorithm in ["sliding_window", "sliding_log", "fixed_window"] {
        let long = format!("algorithm = \"{algorithm}\"\nlimit = 100\nperiod = \"1s\"");
        let short = format!("algorithm = \"{algorithm}\"\nlimit = 30\nperiod = \"200ms\"");
        policy(algorithm, algorithm, &[("long", &long), ("short", &short), charges]);
    }
    let (long, short) = (bucket(100, "1s", 40), bucket(30, "250ms", 10));
    policy("token_bucket", "token_bucket", &[("long", &long), ("short", &short), charges]);
    let log = "algorithm = \"sliding_log\"\nlimit = 60\nperiod = \"500ms\"";
    policy("mixed", "a", &[("window", window), ("log", log)]);
    policy("mixed", "b", &[("bucket", &bucket(110, "1s", 50))]);
    policy("mixed", "c", &[("fixed", fixed), charges]);
    policy("roomy", "roomy", &[charges]);
    text
}
