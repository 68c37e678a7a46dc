//! A charge that is taken back, whatever came in between, never leaves more room than if it had not been made.

use super::*;

/// What happens next: after how long, at what cost, whether it is a charge that will be taken back and after how many steps.
type Step = (u64, u64, Option<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let moved = prop_oneof![4 => Just(0), 4 => 0_u64..60, 2 => 60_u64..1_200, 1 => 1_200_u64..4_000];
    prop::collection::vec((moved, 1_u64..12, prop::option::weighted(0.4, 0_usize..6)), 1..60)
}

/// The state of a limit, and as it would be without what was taken back.
struct Both {
    rule: Rule,
    real: Vec<u64>,
    clean: Vec<u64>,
    /// Charges to be taken back, and at which step.
    pending: Vec<(usize, Charged)>,
}

impl Both {
    fn new(rule: Rule) -> Self {
        let mut words = vec![0; rule.words()];
        rule.prepare(&mut words);
        Self { rule, real: words.clone(), clean: words, pending: Vec::new() }
    }

    fn step(&mut self, number: usize, cost: u64, undo_after: Option<usize>, now_us: u64) {
        if self.rule.look(&self.real, cost, now_us).retry_after_us == 0 {
            charge(&self.rule, &mut self.real, cost, now_us);
            let charged = Charged { cost, at_us: now_us, lease: None };
            match undo_after {
                Some(steps) => self.pending.push((number + steps, charged)),
                None => {
                    assert_eq!(
                        self.rule.look(&self.clean, cost, now_us).retry_after_us,
                        0,
                        "it has more room"
                    );
                    charge(&self.rule, &mut self.clean, cost, now_us);
                }
            }
        }
        let due = self.pending.extract_if(.., |(at, _)| *at <= number).collect::<Vec<_>>();
        for (_, charged) in due {
            self.rule.undo(&mut self.real, &charged, now_us);
        }
    }

    fn remaining_at(&self, now_us: u64) -> (u64, u64) {
        let of = |words| self.rule.look(words, 1, now_us).remaining;
        (of(&self.real), of(&self.clean))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn undo_never_leaves_more_room_than_without_the_charge(limit in limit(), steps in steps()) {
        let period_us = limit.period.length_us(START_US);
        let unit = (period_us / 1_000).max(1);
        let mut both = Both::new(limit.rule);
        let mut now_us = START_US;
        for (number, (moved, cost, undo_after)) in steps.iter().enumerate() {
            now_us += moved * unit + moved % 7;
            both.step(number, (*cost).min(limit.rule.capacity()), *undo_after, now_us);
            for part in 0..40 {
                let (real, clean) = both.remaining_at(now_us + part * period_us / 30);
                prop_assert!(real <= clean, "step {number}, {part}/30 of a period later: {real} > {clean}");
            }
        }
    }

    #[test]
    fn undo_at_once_is_exact(limit in limit(), before in prop::collection::vec((0_u64..60, 1_u64..12), 0..20), cost in 1_u64..12) {
        let period_us = limit.period.length_us(START_US);
        let mut both = Both::new(limit.rule);
        let mut now_us = START_US;
        for (number, (moved, cost)) in before.iter().enumerate() {
            now_us += moved * (period_us / 1_000).max(1);
            both.step(number, (*cost).min(limit.rule.capacity()), None, now_us);
        }
        both.step(before.len(), cost.min(limit.rule.capacity()), Some(0), now_us);
        for part in 0..40 {
            let at_us = now_us + part * period_us / 30;
            let (real, clean) = both.remaining_at(at_us);
            prop_assert_eq!(real, clean);
        }
    }
}

#[test]
fn what_the_clock_or_another_charge_has_moved_on_is_left_alone() {
    let rule = |algorithm, limit| {
        let period = Period::Micros(1_000_000);
        Limit::new(LimitSpec { name: "limit".into(), algorithm, limit, period, burst: None })
            .expect("valid")
            .rule
    };
    // The window of the charge is over, and another has begun.
    let fixed = rule(Algorithm::FixedWindow, 5);
    let mut words = vec![0; fixed.words()];
    charge(&fixed, &mut words, 2, START_US);
    charge(&fixed, &mut words, 3, START_US + 1_000_000);
    fixed.undo(&mut words, &Charged { cost: 2, at_us: START_US, lease: None }, START_US + 1_000_000);
    assert_eq!(fixed.look(&words, 1, START_US + 1_000_000).remaining, 2);
    // The bucket was full again before the other charge, which therefore owes nothing to the first.
    let bucket = rule(Algorithm::TokenBucket, 10);
    let mut words = vec![0; bucket.words()];
    charge(&bucket, &mut words, 1, START_US);
    charge(&bucket, &mut words, 10, START_US + 100_000);
    bucket.undo(&mut words, &Charged { cost: 1, at_us: START_US, lease: None }, START_US + 100_000);
    assert_eq!(bucket.look(&words, 1, START_US + 100_000).remaining, 0);
}
