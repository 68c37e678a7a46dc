//! A check with a fence is stale exactly if a higher one was raised, and otherwise decided as one without.

use uuid::Uuid;

use super::*;
use crate::{domain::Fence, key::fence_key};

const FENCE: &str = include_str!("../../fence.lua");

/// What happens: a fence is raised, or a check is prepared by some state, perhaps with an idempotency key.
#[derive(Clone, Debug)]
enum Happening {
    Raised(Fence),
    Checked { fence: Option<Fence>, cells: usize, record: Option<u8>, cost: u64 },
}

fn fence() -> impl Strategy<Value = Fence> {
    (0_u128..2, prop_oneof![0_u64..4, Just(Fence::MAX_GENERATION), Just(Fence::MAX_GENERATION - 1)]).prop_map(
        |(organization, generation)| Fence { organization: Uuid::from_u128(organization), generation },
    )
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let checked =
        (prop::option::weighted(0.8, fence()), 0_usize..3, prop::option::weighted(0.3, 0_u8..2), 1_u64..4)
            .prop_map(|(fence, cells, record, cost)| Happening::Checked { fence, cells, record, cost });
    prop::collection::vec(prop_oneof![1 => fence().prop_map(Happening::Raised), 5 => checked], 1..30)
}

#[test]
fn script_and_domain_agree_on_what_is_stale() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_server, mut redis) = runtime.block_on(started());
    let sha = runtime.block_on(load(&mut redis, with_injected_time()));
    let layout = Arc::new(Layout::new([hourly(Algorithm::SlidingWindow, 6)]));
    let case = std::cell::Cell::new(0_u128);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&happenings(), |happenings| {
        case.set(case.get() + 1);
        // Each case has organizations and keys of its own.
        let own = |fence: Fence| Fence {
            organization: Uuid::from_u128(case.get() << 8 | fence.organization.as_u128()),
            ..fence
        };
        let mut raised = HashMap::<Uuid, u64>::new();
        let mut domain = Domain::default();
        for happening in happenings {
            match happening {
                Happening::Raised(fence) => {
                    let Fence { organization, generation } = own(fence);
                    let mut command = redis::cmd("EVAL");
                    command
                        .arg(FENCE)
                        .arg(1)
                        .arg(&fence_key(None, organization)[..])
                        .arg(generation)
                        .arg(3_600_000);
                    let is_higher: u8 =
                        runtime.block_on(command.query_async(&mut redis.clone())).expect("raised");
                    let known = raised.get(&organization).copied();
                    prop_assert_eq!(is_higher == 1, known.is_none_or(|known| generation > known));
                    raised.insert(organization, known.unwrap_or_default().max(generation));
                }
                Happening::Checked { fence, cells, record, cost } => {
                    let fence = fence.map(own);
                    let key = |number| format!("{}/fenced/{number}", case.get()).into_bytes().into();
                    let cells = (0..cells).map(|number| CellCheck {
                        key: key(number),
                        layout: &layout,
                        cost,
                        enforced: true,
                    });
                    let idempotency = record.map(|record| Idempotency {
                        key: key(100 + usize::from(record)),
                        digest: u128::from(record),
                        ttl_us: RECORD_TTL_US,
                    });
                    let check =
                        Check { cells: cells.collect(), charge: true, idempotency, lease: None, fence };
                    let mut encoder = Encoder::default();
                    encoder.push(&check, false);
                    let mut command = encoder.command(&sha, |_| true);
                    command.arg(START_US / 1_000_000).arg(START_US % 1_000_000);
                    let answer: Vec<u8> =
                        runtime.block_on(command.query_async(&mut redis.clone())).expect("decided");
                    let by_redis = decode(&answer[ANSWERS_START..]).expect("decided");
                    let is_stale = fence.is_some_and(|fence| {
                        raised.get(&fence.organization).is_some_and(|known| *known > fence.generation)
                    });
                    let expected =
                        if is_stale { Decision::of_stale() } else { domain.decide(&check, START_US) };
                    prop_assert_eq!(by_redis, expected);
                }
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
