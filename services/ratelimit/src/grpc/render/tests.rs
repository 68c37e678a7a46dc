use bytes::Bytes;
use proptest::prelude::*;
use tidegate_proto::Encoded;

use super::*;
use crate::{
    domain::{LimitOutcome, Match, PolicySet},
    limiter::{LimitVerdict, Reason, Verdict},
    policies,
};

/// Every algorithm, a calendar month, a policy in shadow, and names that make a limit longer than 127 bytes.
const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "short"
namespace = "all"
key_by = []
limits = [
    { name = "w", limit = 10, period = "1m" },
    { name = "l", algorithm = "sliding_log", limit = 1_000, period = "1h" },
    { name = "b", algorithm = "token_bucket", limit = 7, period = "1s", burst = 1_000_000 },
    { name = "m", algorithm = "fixed_window", limit = 1_000_000_000, period = "1mo" },
]

[[policies]]
name = "a-policy-that-has-a-very-long-name-as-nobody-would-choose-it-all"
namespace = "all"
enforcement = "shadow"
key_by = []
limits = [{ name = "a-limit-whose-name-is-no-shorter-and-would-not-be-chosen-either", limit = 1, period = "1d" }]
"#;

const AT_US: u64 = 1_800_000_000_123_456;

fn matches(policies: &PolicySet) -> Vec<Match<'_>> {
    let mut found = smallvec::SmallVec::new();
    let nothing: &[(&str, &str)] = &[];
    policies.namespace("all").expect("declared").matching(nothing, 1, &mut found).expect("plans exist");
    found.into_vec()
}

/// The answer as the generated code would hold it.
fn as_generated(verdict: &Verdict<'_>, random: &Random) -> pb::CheckResponse {
    let limits = verdict.limits.iter().map(|found| {
        let limit = &found.limit.limit;
        pb::LimitStatus {
            name: found.limit.full_name.to_string(),
            algorithm: algorithm(limit.algorithm).into(),
            limit: limit.limit.into(),
            remaining: found.outcome.remaining,
            reset_after_ms: found.outcome.reset_after_us.div_ceil(1_000),
            retry_after_ms: found.outcome.retry_after_us.div_ceil(1_000),
            period_ms: limit.period.length_us(AT_US).div_ceil(1_000),
            exceeded: found.outcome.retry_after_us > 0,
            shadow: found.is_shadow(),
        }
    });
    pb::CheckResponse {
        allowed: verdict.allowed,
        code: code(verdict.reason).into(),
        limits: limits.collect(),
        binding_limit: verdict.binding.map(|index| u32::try_from(index).expect("few limits")),
        degraded: verdict.degraded,
        replayed: verdict.replayed,
        retry_after_ms: verdict.retry_after_us.div_ceil(1_000),
        decision_id: Bytes::copy_from_slice(uuid_v7(AT_US, random).as_bytes()),
        lease: verdict.lease.as_ref().map(|lease| pb::Lease {
            id: lease.id.clone(),
            expires_after_ms: lease.expires_after_us / 1_000,
        }),
        key: None,
        credits_remaining: None,
    }
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        Just(Reason::Ok),
        Just(Reason::RateLimited),
        Just(Reason::QuotaExceeded),
        Just(Reason::ConcurrencyExceeded),
        Just(Reason::StoreUnavailable),
        proptest::sample::select(&Standing::ALL[..]).prop_map(Reason::Key),
    ]
}

prop_compose! {
    fn outcome()(
        remaining in prop_oneof![Just(0), 0_u64..300, 0_u64..2_000_000_000],
        retry_after_us in prop_oneof![Just(0), 0_u64..1 << 53],
        reset_after_us in prop_oneof![Just(0), 0_u64..1 << 53],
    ) -> LimitOutcome {
        LimitOutcome { remaining, retry_after_us, reset_after_us }
    }
}

proptest! {
    #[test]
    fn an_answer_decodes_to_what_was_decided(
        outcomes in prop::collection::vec(outcome(), 0..=5),
        reason in reason(),
        binding in prop::option::of(0_usize..5),
        flags in any::<[bool; 3]>(),
        retry_after_us in prop_oneof![Just(0), 0_u64..1 << 53],
        lease in prop::option::of(("[a-z]{1,300}", any::<u64>())),
    ) {
        let policies = policies::parse(POLICIES, "test", 1).expect("valid policies");
        let matches = matches(&policies);
        prop_assert_eq!(matches.len(), 2);
        let limits = matches.iter().flat_map(|found| {
            found.bundle.limits.iter().map(|limit| (limit, found.policy))
        });
        let limits = limits.zip(outcomes).map(|((limit, policy), outcome)| LimitVerdict { limit, policy, outcome });
        let [allowed, degraded, replayed] = flags;
        let limits = limits.collect();
        let verdict = Verdict {
            allowed, reason, limits, binding, retry_after_us, degraded, replayed, at_us: AT_US,
            exempt: false,
            lease: lease.map(|(id, expires_after_us)| Box::new(LeaseGrant { id, expires_after_us })),
        };
        let mut written = Vec::new();
        Renderer::new(Random::seeded(7)).check(&verdict, &mut Writer::new(&mut written));
        let written = Encoded::<pb::CheckResponse>::from_bytes(written);
        let generated = as_generated(&verdict, &Random::seeded(7));
        let encoded = Encoded::from(&generated);
        prop_assert_eq!(written.as_bytes(), encoded.as_bytes());
        prop_assert_eq!(written.decode().expect("it decodes"), generated);
    }
}
