//! What the script gives back is what the domain does, as time passes.

use super::super::super::script::{REFUND, refund_command};
use super::*;
use crate::store::CellRefund;

/// What happens to one cell: after how long, at what cost, and how many tokens are given back then.
fn happenings() -> impl Strategy<Value = Vec<(u64, u64, Option<u64>)>> {
    let moved = prop_oneof![4 => Just(0_u64), 4 => 0_u64..60, 1 => 200_u64..2_000];
    prop::collection::vec((moved, 1_u64..6, prop::option::weighted(0.4, 1_u64..12)), 1..25)
}

/// One that takes the time of its arguments, as the script under test does.
fn timed(mut command: redis::Cmd, now_us: u64) -> redis::Cmd {
    command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
    command
}

#[test]
fn script_and_domain_give_back_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_server, mut redis) = runtime.block_on(started());
    let sha = runtime.block_on(load(&mut redis, with_injected_time()));
    let text = REFUND.text.replacen("redis.call('TIME')", "{ ARGV[3], ARGV[4] }", 1);
    assert!(!text.contains("'TIME'"), "the script reads its time otherwise");
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
        let key = format!("{}/given-back", case.get()).into_bytes();
        // Shadow, so that rules are charged that have room while others have none.
        let check = |cost: u64, charge| Check {
            cells: [CellCheck { key: (&key[..]).into(), layout: &layout, cost, enforced: false }]
                .into_iter()
                .collect(),
            charge,
            idempotency: None,
            lease: None,
            fence: None,
        };
        let mut domain = Domain::default();
        let mut now_us = START_US;
        let decide = |domain: &mut Domain, check: &Check<'_>, now_us| {
            let mut encoder = Encoder::default();
            encoder.push(check, false);
            let command = timed(encoder.command(&sha, |_| true), now_us);
            let answer: Vec<u8> = runtime.block_on(command.query_async(&mut redis.clone())).expect("decided");
            (decode(&answer[ANSWERS_START..]).expect("decided"), domain.decide(check, now_us))
        };
        for (moved, cost, tokens) in happenings {
            now_us += moved * 997;
            let (by_redis, by_domain) = decide(&mut domain, &check(cost.min(capacity), true), now_us);
            prop_assert_eq!(by_redis, by_domain);
            let Some(tokens) = tokens else { continue };
            layout.refund(domain.cells.get_mut(&key).expect("charged"), tokens, now_us);
            let cell = CellRefund { key: (&key[..]).into(), layout: Arc::clone(&layout), tokens };
            // The same, but for the script and the time.
            let mut eval = redis::cmd("EVAL");
            eval.arg(&text);
            for argument in refund_command(&cell).args_iter().skip(2) {
                let redis::Arg::Simple(bytes) = argument else { panic!("{argument:?}") };
                eval.arg(bytes);
            }
            let eval = timed(eval, now_us);
            let _: u8 = runtime.block_on(eval.query_async(&mut redis.clone())).expect("given back");
            let (by_redis, by_domain) = decide(&mut domain, &check(1, false), now_us);
            prop_assert_eq!(by_redis, by_domain);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
