//! What the script takes back is what the domain does.

use super::super::super::script::{REFUND, UNDO, refund_command, undo_command};
use super::*;
use crate::domain::Charged;

/// What happens to the cell next: after how long (or how far the clock steps back), at what cost, and whether the charge is taken back, or
/// as much given back, after that many steps.
type Happening = (i64, u64, Option<(usize, bool)>);

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let moved = prop_oneof![4 => Just(0_i64), 4 => 0_i64..60, 1 => 200_i64..2_000, 1 => -80_i64..0];
    let given_back = prop::option::weighted(0.5, (0_usize..4, prop::bool::weighted(0.7)));
    prop::collection::vec((moved, 1_u64..6, given_back), 1..25)
}

/// A charge that is to be taken back, or as much given back.
struct Pending {
    /// At which step.
    due: usize,
    charged: Charged,
    /// How much time had really passed.
    passed_us: u64,
    were_charged: Vec<bool>,
    is_undo: bool,
}

/// One that takes the time of its arguments, as the script under test does.
fn timed(mut command: redis::Cmd, now_us: u64) -> redis::Cmd {
    command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
    command
}

/// A command that sends a script, with another text for it, which takes the time of its arguments.
fn at(now_us: u64, text: &str, command: &redis::Cmd) -> redis::Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(text);
    for argument in command.args_iter().skip(2) {
        let redis::Arg::Simple(bytes) = argument else { panic!("{argument:?}") };
        eval.arg(bytes);
    }
    timed(eval, now_us)
}

/// With its time in the arguments from `first` on.
fn with_time_at(script: &str, first: u32) -> String {
    let script =
        script.replacen("redis.call('TIME')", &format!("{{ ARGV[{first}], ARGV[{}] }}", first + 1), 1);
    assert!(!script.contains("'TIME'"), "the script reads its time otherwise");
    script
}

#[test]
fn script_and_domain_take_and_give_back_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_server, mut redis) = runtime.block_on(started());
    let sha = runtime.block_on(load(&mut redis, with_injected_time()));
    let (undo, refund) = (with_time_at(UNDO, 6), with_time_at(REFUND.text, 3));
    let case = std::cell::Cell::new(0_u64);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&(prop::collection::vec(rule(), 1..4), happenings()), |(rules, happenings)| {
        case.set(case.get() + 1);
        let layout = Arc::new(Layout::new(rules.iter().map(|rule| rule[0]).collect::<Vec<_>>()));
        let capacity = layout.rules().iter().map(Rule::capacity).min().expect("a rule");
        let key = format!("{}/undone", case.get()).into_bytes();
        // Shadow, so that rules are charged that have room while others have none.
        let check = |cost: u64, lease: Option<Lease>| Check {
            cells: [CellCheck { key: (&key[..]).into(), layout: &layout, cost, enforced: false }]
                .into_iter()
                .collect(),
            charge: lease.is_some(),
            idempotency: None,
            lease,
            fence: None,
        };
        let mut domain = Domain::default();
        let mut pending: Vec<Pending> = Vec::new();
        let (mut now_us, mut passed_us) = (START_US, 0_u64);
        let decide = |domain: &mut Domain, check: &Check<'_>, now_us| {
            let mut encoder = Encoder::default();
            encoder.push(check, false);
            let command = timed(encoder.command(&sha, |_| true), now_us);
            let answer: Vec<u8> = runtime.block_on(command.query_async(&mut redis.clone())).expect("decided");
            (decode(&answer[ANSWERS_START..]).expect("decided"), domain.decide(check, now_us))
        };
        for (number, (moved, cost, given_back)) in happenings.iter().enumerate() {
            now_us = now_us.saturating_add_signed(moved * 997);
            passed_us += u64::try_from(moved * 997).unwrap_or(0);
            let cost = (*cost).min(capacity);
            let lease = Lease { id: lease_id(number as u64 + 1), ttl_us: 1 + moved.unsigned_abs() * 500 };
            let (by_redis, by_domain) = decide(&mut domain, &check(cost, Some(lease)), now_us);
            prop_assert_eq!(&by_redis, &by_domain);
            if let Some((steps, is_undo)) = given_back {
                let were_charged = by_domain.outcomes.iter().map(|outcome| !outcome.exceeded()).collect();
                let charged = Charged { cost, at_us: now_us, lease: Some(lease.id), ago_us: 0 };
                pending.push(Pending {
                    due: number + steps,
                    charged,
                    passed_us,
                    were_charged,
                    is_undo: *is_undo,
                });
            }
            let due: Vec<_> = pending.extract_if(.., |pending| pending.due <= number).collect();
            for Pending { charged, passed_us: then_us, were_charged, is_undo, .. } in due {
                let words = domain.cells.get_mut(&key).expect("charged");
                let command = if is_undo {
                    let charged = Charged { ago_us: passed_us - then_us, ..charged };
                    layout.undo(words, &were_charged, &charged, now_us);
                    at(now_us, &undo, &undo_command(&key, &layout, &charged, were_charged.iter().copied()))
                } else {
                    layout.refund(words, charged.cost, now_us);
                    let cell = CellRefund {
                        key: (&key[..]).into(),
                        layout: Arc::clone(&layout),
                        tokens: charged.cost,
                    };
                    at(now_us, &refund, &refund_command(&cell))
                };
                let done: u8 = runtime.block_on(command.query_async(&mut redis.clone())).expect("given back");
                prop_assert_eq!(done, 1);
            }
            let (by_redis, by_domain) = decide(&mut domain, &check(1, None), now_us);
            prop_assert_eq!(by_redis, by_domain);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
