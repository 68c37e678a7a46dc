//! What the script takes back is what the domain does.

use super::super::super::script::{UNDO, undo_command};
use super::*;
use crate::domain::Charged;

/// What happens to one cell: after how long, at what cost, and whether the charge is taken back after that many steps.
fn happenings() -> impl Strategy<Value = Vec<(u64, u64, Option<usize>)>> {
    let moved = prop_oneof![4 => Just(0_u64), 4 => 0_u64..60, 1 => 200_u64..2_000];
    prop::collection::vec((moved, 1_u64..6, prop::option::weighted(0.5, 0_usize..4)), 1..25)
}

/// One that takes the time of its arguments, as the script under test does.
fn timed(mut command: redis::Cmd, now_us: u64) -> redis::Cmd {
    command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
    command
}

#[test]
fn script_and_domain_take_back_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_server, mut redis) = runtime.block_on(started());
    let sha = runtime.block_on(load(&mut redis, with_injected_time()));
    let undo = UNDO.replacen("redis.call('TIME')", "{ ARGV[5], ARGV[6] }", 1);
    assert!(!undo.contains("'TIME'"), "the script reads its time otherwise");
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
        };
        let mut domain = Domain::default();
        let mut pending: Vec<(usize, Charged, Vec<bool>)> = Vec::new();
        let mut now_us = START_US;
        let decide = |domain: &mut Domain, check: &Check<'_>, now_us| {
            let mut encoder = Encoder::default();
            encoder.push(check).expect("few cells");
            let command = timed(encoder.command(&sha, |_| true), now_us);
            let answer: Vec<u8> = runtime.block_on(command.query_async(&mut redis.clone())).expect("decided");
            (decode(&answer[ANSWERS_START..]).expect("decided"), domain.decide(check, now_us))
        };
        for (number, (moved, cost, undo_after)) in happenings.iter().enumerate() {
            now_us += moved * 997;
            let cost = (*cost).min(capacity);
            let lease = Lease { id: lease_id(number as u64 + 1), ttl_us: 1 + moved * 500 };
            let (by_redis, by_domain) = decide(&mut domain, &check(cost, Some(lease)), now_us);
            prop_assert_eq!(&by_redis, &by_domain);
            if let Some(steps) = undo_after {
                let were_charged = by_domain.outcomes.iter().map(|outcome| !outcome.exceeded()).collect();
                pending.push((
                    number + steps,
                    Charged { cost, at_us: now_us, lease: Some(lease.id) },
                    were_charged,
                ));
            }
            let due: Vec<_> = pending.extract_if(.., |(at, ..)| *at <= number).collect();
            for (_, charged, were_charged) in due {
                layout.undo(domain.cells.get_mut(&key).expect("charged"), &were_charged, &charged, now_us);
                let command = undo_command(&key, &layout, &charged, were_charged.iter().copied());
                // The same, but for the script.
                let mut eval = redis::cmd("EVAL");
                eval.arg(&undo);
                for argument in command.args_iter().skip(2) {
                    let redis::Arg::Simple(bytes) = argument else { panic!("{argument:?}") };
                    eval.arg(bytes);
                }
                let eval = timed(eval, now_us);
                let done: u8 = runtime.block_on(eval.query_async(&mut redis.clone())).expect("taken back");
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
