//! A charge that is taken back, whatever came in between, never leaves more room than if it had not been made.

use super::*;

/// What happens next: after how long, or how far the clock steps back; at what cost, whether it is a charge that will be taken
/// back and after how many steps.
type Step = (i64, u64, Option<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let moved = prop_oneof![
        4 => Just(0),
        4 => 0_i64..60,
        2 => 60_i64..1_200,
        1 => 1_200_i64..4_000,
        1 => -60_i64..0,
        1 => -1_200_i64..0
    ];
    prop::collection::vec((moved, 1_u64..12, prop::option::weighted(0.4, 0_usize..6)), 1..60)
}

/// A clock that may step back, and how much time has really passed.
#[derive(Clone, Copy)]
struct Time {
    now_us: u64,
    passed_us: u64,
}

impl Time {
    const START: Self = Self { now_us: START_US, passed_us: 0 };

    fn step(&mut self, moved_us: i64) {
        self.now_us = self.now_us.saturating_add_signed(moved_us);
        self.passed_us += u64::try_from(moved_us).unwrap_or(0);
    }
}

/// The state of a limit, and as it would be without what was taken back.
struct Both {
    rule: Rule,
    real: Vec<u64>,
    clean: Vec<u64>,
    /// How far the clock has come, by all charges.
    come_us: u64,
    /// Charges to be taken back, at which step, and how much time had passed.
    pending: Vec<(usize, Charged, u64)>,
}

impl Both {
    fn new(rule: Rule) -> Self {
        let mut words = vec![0; rule.words()];
        rule.prepare(&mut words);
        Self { rule, real: words.clone(), clean: words, come_us: 0, pending: Vec::new() }
    }

    fn step(&mut self, number: usize, cost: u64, undo_after: Option<usize>, time: Time) {
        let now_us = time.now_us;
        if self.rule.look(&self.real, cost, now_us).retry_after_us == 0 {
            charge(&self.rule, &mut self.real, cost, now_us);
            self.come_us = self.come_us.max(now_us);
            let charged = Charged { cost, at_us: now_us, lease: None, ago_us: 0 };
            match undo_after {
                Some(steps) => self.pending.push((number + steps, charged, time.passed_us)),
                None => {
                    let clean_us = self.standing_still(now_us);
                    assert_eq!(
                        self.rule.look(&self.clean, cost, clean_us).retry_after_us,
                        0,
                        "it has more room"
                    );
                    charge(&self.rule, &mut self.clean, cost, clean_us);
                }
            }
        }
        let due = self.pending.extract_if(.., |(at, ..)| *at <= number).collect::<Vec<_>>();
        for (_, charged, passed_us) in due {
            let charged = Charged { ago_us: time.passed_us - passed_us, ..charged };
            self.rule.undo(&mut self.real, &charged, now_us);
        }
    }

    /// The time at which the limit without the charges has to decide: it did not see how far the clock had come. A bucket needs not
    /// know it: what is missing takes longer to come back.
    fn standing_still(&self, now_us: u64) -> u64 {
        match self.rule {
            Rule::TokenBucket(_) | Rule::Concurrency(_) => now_us,
            Rule::SlidingWindow(_) | Rule::SlidingLog(_) | Rule::FixedWindow(_) => now_us.max(self.come_us),
        }
    }

    fn remaining_at(&self, now_us: u64) -> (u64, u64) {
        let of = |words, now_us| self.rule.look(words, 1, now_us).remaining;
        (of(&self.real, now_us), of(&self.clean, self.standing_still(now_us)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn undo_never_leaves_more_room_than_without_the_charge(limit in limit(), steps in steps()) {
        let period_us = limit.period.length_us(START_US);
        let unit = i64::try_from(period_us / 1_000).expect("years").max(1);
        let mut both = Both::new(limit.rule);
        let mut time = Time::START;
        for (number, (moved, cost, undo_after)) in steps.iter().enumerate() {
            time.step(moved * unit + moved % 7);
            both.step(number, (*cost).min(limit.rule.capacity()), *undo_after, time);
            for part in 0..40 {
                let (real, clean) = both.remaining_at(time.now_us + part * period_us / 30);
                prop_assert!(real <= clean, "step {number}, {part}/30 of a period later: {real} > {clean}");
            }
        }
    }

    #[test]
    fn undo_at_once_is_exact(limit in limit(), before in prop::collection::vec((0_i64..60, 1_u64..12), 0..20), cost in 1_u64..12) {
        let period_us = limit.period.length_us(START_US);
        let mut both = Both::new(limit.rule);
        let mut time = Time::START;
        for (number, (moved, cost)) in before.iter().enumerate() {
            time.step(moved * i64::try_from(period_us / 1_000).expect("years").max(1));
            both.step(number, (*cost).min(limit.rule.capacity()), None, time);
        }
        both.step(before.len(), cost.min(limit.rule.capacity()), Some(0), time);
        for part in 0..40 {
            let at_us = time.now_us + part * period_us / 30;
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
    fixed.undo(
        &mut words,
        &Charged { cost: 2, at_us: START_US, lease: None, ago_us: 1_000_000 },
        START_US + 1_000_000,
    );
    assert_eq!(fixed.look(&words, 1, START_US + 1_000_000).remaining, 2);
    // The bucket was full again before the other charge, which therefore owes nothing to the first.
    let bucket = rule(Algorithm::TokenBucket, 10);
    let mut words = vec![0; bucket.words()];
    charge(&bucket, &mut words, 1, START_US);
    charge(&bucket, &mut words, 10, START_US + 100_000);
    bucket.undo(
        &mut words,
        &Charged { cost: 1, at_us: START_US, lease: None, ago_us: 100_000 },
        START_US + 100_000,
    );
    assert_eq!(bucket.look(&words, 1, START_US + 100_000).remaining, 0);
    // So it was, and then the clock stepped back.
    let mut words = vec![0; bucket.words()];
    charge(&bucket, &mut words, 1, START_US);
    charge(&bucket, &mut words, 9, START_US + 90_000);
    bucket.undo(&mut words, &Charged { cost: 1, at_us: START_US, lease: None, ago_us: 90_000 }, START_US);
    assert_eq!(bucket.look(&words, 1, START_US).remaining, 0);
}

/// A limit of 5 is used up, its period passes, one more charge is given back, and the clock steps back: what is admitted then counts
/// in the second period, and not in the first as well.
#[test]
fn clock_that_steps_back_stands_still_also_where_everything_was_given_back() {
    const PERIOD_US: u64 = 1_000_000;
    let undo: fn(&Rule, &mut [u64], u64) =
        |rule, words, at_us| rule.undo(words, &Charged { cost: 1, at_us, lease: None, ago_us: 0 }, at_us);
    let refund: fn(&Rule, &mut [u64], u64) = |rule, words, at_us| rule.refund(words, 1, at_us);
    // Its first sub-window that has everything counts for 31.
    let forgotten_after_us = PERIOD_US.div_ceil(30) * 31;
    for (algorithm, later_us) in [
        (Algorithm::FixedWindow, PERIOD_US),
        (Algorithm::SlidingLog, PERIOD_US),
        (Algorithm::SlidingWindow, forgotten_after_us),
    ] {
        for give_back in [undo, refund] {
            let period = Period::Micros(PERIOD_US);
            let spec = LimitSpec { name: "limit".into(), algorithm, limit: 5, period, burst: None };
            let rule = Limit::new(spec).expect("valid").rule;
            let mut words = vec![0; rule.words()];
            rule.prepare(&mut words);
            // A boundary of windows and sub-windows.
            let begin_us = START_US.next_multiple_of(later_us);
            charge(&rule, &mut words, 5, begin_us);
            let again_us = begin_us + later_us;
            charge(&rule, &mut words, 1, again_us);
            give_back(&rule, &mut words, again_us);
            let back_us = again_us - 10;
            assert_eq!(rule.look(&words, 5, back_us).reset_after_us, 0, "{algorithm:?}: nothing is in use");
            charge(&rule, &mut words, 5, back_us);
            assert_eq!(rule.look(&words, 1, back_us + later_us).remaining, 0, "{algorithm:?}");
            assert_eq!(rule.look(&words, 1, again_us + later_us).remaining, 5, "{algorithm:?}");
        }
    }
}
