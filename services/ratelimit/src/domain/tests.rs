//! Each algorithm against a naive oracle that keeps everything and thinks slowly.

mod loss;
mod undo;

use proptest::prelude::*;

use super::*;

const START_US: u64 = 1_800_000_000_000_000;

/// Remembers every admission and decides by going through all of them.
struct Oracle {
    rule: Rule,
    limit: Limit,
    /// When, and how many tokens. Of a bucket also those given back, as negative numbers.
    admitted: Vec<(u64, i64)>,
}

impl Oracle {
    fn used(&self, now_us: u64) -> u64 {
        if let Rule::TokenBucket(rule) = self.rule {
            return self.bucket_used(rule.burst, now_us);
        }
        let counted = self.admitted.iter().filter(|(at, _)| self.counts(*at, now_us));
        counted.map(|(_, cost)| u64::try_from(*cost).expect("no negative number")).sum()
    }

    /// Whether what was admitted `at` a time counts.
    fn counts(&self, at: u64, now_us: u64) -> bool {
        match self.rule {
            Rule::SlidingLog(rule) => at + rule.period_us > now_us,
            Rule::SlidingWindow(rule) => {
                at / rule.width_us + SlidingWindow::SUB_WINDOWS >= now_us / rule.width_us
            }
            Rule::FixedWindow(rule) => {
                let window = rule.calendar.window_at(now_us);
                (window.start_us..window.end_us).contains(&at)
            }
            Rule::TokenBucket(_) => true,
            Rule::Concurrency(_) => unreachable!("leases have an oracle of their own"),
        }
    }

    /// Gives back what was admitted last and counts.
    fn refund(&mut self, mut tokens: i64, now_us: u64) {
        if matches!(self.rule, Rule::TokenBucket(_)) {
            self.admitted.push((now_us, -tokens));
            return;
        }
        for index in (0..self.admitted.len()).rev() {
            let (at, cost) = self.admitted[index];
            if self.counts(at, now_us) {
                let given = cost.min(tokens);
                tokens -= given;
                self.admitted[index].1 -= given;
            }
        }
    }

    /// Tokens missing from the bucket, rounded up, in exact fractions of `1 / period` token.
    fn bucket_used(&self, burst: u32, now_us: u64) -> u64 {
        let period = u128::from(self.limit.period.length_us(0));
        let mut missing = 0_u128;
        let mut last = START_US;
        for (at, cost) in self.admitted.iter().copied().chain([(now_us, 0)]) {
            missing = missing.saturating_sub(u128::from(at - last) * u128::from(self.limit.limit));
            missing += u128::from(u64::try_from(cost).unwrap_or(0)) * period;
            missing = missing.saturating_sub(u128::from((-cost).max(0).unsigned_abs()) * period);
            last = at;
        }
        assert!(missing <= u128::from(burst) * period);
        u64::try_from(missing.div_ceil(period)).expect("at most the burst")
    }
}

/// Charges what counts no leases.
fn charge(rule: &Rule, words: &mut [u64], cost: u64, now_us: u64) -> u64 {
    rule.charge(words, cost, None, now_us).expect("it counts no leases")
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::SlidingWindow),
        Just(Algorithm::SlidingLog),
        Just(Algorithm::TokenBucket),
        Just(Algorithm::FixedWindow)
    ]
}

prop_compose! {
    fn limit()(
        algorithm in algorithm(),
        limit in 1_u64..60,
        period in prop_oneof![1_000_u64..100_000, Just(1_000_000), Just(60_000_000), Just(7), Just(86_400_000_000)],
        burst in proptest::option::of(1_u64..60),
        month in any::<bool>(),
    ) -> Limit {
        let period = match period {
            7 if month && algorithm == Algorithm::FixedWindow => Period::Month,
            7 => Period::Week,
            us => Period::Micros(us),
        };
        let burst = burst.filter(|_| algorithm == Algorithm::TokenBucket);
        Limit::new(LimitSpec { name: "limit".into(), algorithm, limit, period, burst }).expect("valid")
    }
}

/// Steps of time as parts of the period, so that every algorithm meets its edges; and costs.
fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((prop_oneof![Just(0), 0_u64..60, 200_u64..4_000], 1_u64..12), 1..120)
}

fn times(limit: &Limit, steps: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let unit = (limit.period.length_us(START_US) / 1_000).max(1);
    let mut now_us = START_US;
    let costs = steps.iter().map(|(step, cost)| {
        now_us += step * unit + step % 7;
        (now_us, (*cost).min(limit.rule.capacity()))
    });
    costs.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn decisions_equal_the_naive_oracle(limit in limit(), steps in steps()) {
        let rule = limit.rule;
        let mut words = vec![0; rule.words()];
        rule.prepare(&mut words);
        let mut oracle = Oracle { rule, limit: limit.clone(), admitted: Vec::new() };
        for (now_us, cost) in times(&limit, &steps) {
            let remaining = rule.capacity() - oracle.used(now_us);
            let look = rule.look(&words, cost, now_us);
            prop_assert_eq!(look.remaining, remaining);
            prop_assert_eq!(look.retry_after_us == 0, cost <= remaining);
            if look.retry_after_us == 0 {
                let reset_after_us = charge(&rule, &mut words, cost, now_us);
                oracle.admitted.push((now_us, i64::try_from(cost).expect("small")));
                let after = rule.look(&words, 1, now_us);
                prop_assert_eq!(after.remaining, remaining - cost);
                prop_assert_eq!(after.reset_after_us, reset_after_us);
            }
        }
    }

    #[test]
    fn refunds_equal_the_naive_oracle(
        limit in limit(),
        steps in steps(),
        refunds in prop::collection::vec(prop_oneof![Just(0_u32), 1_u32..20], 120),
    ) {
        let rule = limit.rule;
        let mut words = vec![0; rule.words()];
        rule.prepare(&mut words);
        let mut oracle = Oracle { rule, limit: limit.clone(), admitted: Vec::new() };
        for ((now_us, cost), refund) in times(&limit, &steps).into_iter().zip(refunds) {
            if rule.look(&words, cost, now_us).retry_after_us == 0 {
                charge(&rule, &mut words, cost, now_us);
                oracle.admitted.push((now_us, i64::try_from(cost).expect("small")));
            }
            if refund > 0 {
                rule.refund(&mut words, refund.into(), now_us);
                oracle.refund(refund.into(), now_us);
            }
            let look = rule.look(&words, 1, now_us);
            prop_assert_eq!(look.remaining, rule.capacity() - oracle.used(now_us));
            prop_assert_eq!(look.reset_after_us == 0, look.remaining == rule.capacity());
        }
    }

    #[test]
    fn retry_and_reset_name_the_first_moment_that_is_true(limit in limit(), steps in steps()) {
        let rule = limit.rule;
        let mut words = vec![0; rule.words()];
        for (now_us, cost) in times(&limit, &steps) {
            let look = rule.look(&words, cost, now_us);
            if look.retry_after_us == 0 {
                charge(&rule, &mut words, cost, now_us);
            } else {
                prop_assert_eq!(rule.look(&words, cost, now_us + look.retry_after_us).retry_after_us, 0);
                prop_assert!(rule.look(&words, cost, now_us + look.retry_after_us - 1).retry_after_us > 0);
            }
            let look = rule.look(&words, 1, now_us);
            let reset = rule.look(&words, 1, now_us + look.reset_after_us);
            prop_assert_eq!((reset.remaining, reset.reset_after_us), (rule.capacity(), 0));
            if look.reset_after_us > 0 {
                prop_assert!(rule.look(&words, 1, now_us + look.reset_after_us - 1).reset_after_us > 0);
            }
        }
    }

    #[test]
    fn no_interval_admits_more_than_the_limit(limit in limit(), steps in steps()) {
        let rule = limit.rule;
        let mut words = vec![0; rule.words()];
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (now_us, cost) in times(&limit, &steps) {
            if rule.look(&words, cost, now_us).retry_after_us == 0 {
                charge(&rule, &mut words, cost, now_us);
                admitted.push((now_us, cost));
            }
        }
        let period = u128::from(limit.period.length_us(START_US));
        for (first, (start, _)) in admitted.iter().enumerate() {
            let mut sum = 0_u64;
            for (at, cost) in &admitted[first..] {
                sum += cost;
                let length = u128::from(at - start);
                let most = match rule {
                    Rule::SlidingLog(_) | Rule::SlidingWindow(_) if length >= period => break,
                    Rule::SlidingLog(_) | Rule::SlidingWindow(_) => u64::from(limit.limit),
                    Rule::FixedWindow(rule) if rule.calendar.window_at(*start) != rule.calendar.window_at(*at) => break,
                    Rule::FixedWindow(rule) => u64::from(rule.limit),
                    Rule::TokenBucket(rule) => {
                        let refilled = u128::from(limit.limit) * length / period;
                        u64::from(rule.burst) + u64::try_from(refilled).expect("small numbers")
                    }
                    Rule::Concurrency(_) => unreachable!("leases have an oracle of their own"),
                };
                prop_assert!(sum <= most, "{sum} tokens within {length} µs, at most {most}");
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_admits_nothing_more(limit in limit(), steps in steps(), back in 1_u64..1_000_000_000) {
        let rule = limit.rule;
        let mut words = vec![0; rule.words()];
        for (now_us, cost) in times(&limit, &steps) {
            let now_us = if cost % 3 == 0 { now_us - back } else { now_us };
            let look = rule.look(&words, cost, now_us);
            prop_assert!(look.remaining <= rule.capacity());
            if look.retry_after_us == 0 {
                let before = rule.look(&words, 1, now_us).remaining;
                charge(&rule, &mut words, cost, now_us);
                prop_assert_eq!(rule.look(&words, 1, now_us).remaining, before - cost);
            }
        }
    }

    #[test]
    fn a_log_carried_to_another_limit_counts_no_token_less(
        steps in steps(), before in 1_u64..60, after in 1_u64..60,
    ) {
        let log = |limit| {
            let period = Period::Micros(1_000_000);
            Limit::new(LimitSpec { name: "log".into(), algorithm: Algorithm::SlidingLog, limit, period, burst: None })
                .expect("valid")
        };
        let (old, new) = (log(before), log(after));
        let (from, to) = (Layout::new([old.rule, new.rule]), Layout::new([new.rule, old.rule]));
        let mut words = vec![0; from.words()];
        from.prepare(&mut words);
        let mut last = START_US;
        for (now_us, cost) in times(&old, &steps) {
            let state = &mut words[..old.rule.words()];
            if old.rule.look(state, cost, now_us).retry_after_us == 0 {
                charge(&old.rule, state, cost, now_us);
            }
            last = now_us;
        }
        let mut carried = vec![0; to.words()];
        to.carry(&words, &mut carried);
        for later in [0, 1, 1_000, 250_000, 500_000, 999_999, 1_000_000] {
            let used = |limit: &Limit, state: &[u64], most: u64| {
                most.saturating_sub(limit.rule.look(state, 1, last + later).remaining)
            };
            let was = used(&old, &words[..old.rule.words()], before).min(after);
            let is = used(&new, &carried[..new.rule.words()], after);
            prop_assert!(is >= was, "{is} of {was} tokens after {later} µs");
        }
    }
}

#[test]
fn token_bucket_refills_in_exact_fractions() {
    // 7 per minute: 8,571,428 and 4/7 microseconds a token.
    let spec = LimitSpec {
        name: "odd".into(),
        algorithm: Algorithm::TokenBucket,
        limit: 7,
        period: Period::Micros(60_000_000),
        burst: Some(1),
    };
    let rule = Limit::new(spec).expect("valid").rule;
    let mut words = vec![0; rule.words()];
    let mut now_us = START_US;
    for _ in 0..700 {
        now_us += rule.look(&words, 1, now_us).retry_after_us;
        charge(&rule, &mut words, 1, now_us);
    }
    // 699 waits; rounding each up to a microsecond may cost one each, and loses nothing over time.
    let ideal = 699 * 60_000_000 / 7;
    assert!((ideal..=ideal + 699).contains(&(now_us - START_US)), "{}", now_us - START_US);
}

#[test]
fn every_fault_of_a_limit_is_listed() {
    let spec = LimitSpec {
        name: "bad".into(),
        algorithm: Algorithm::SlidingLog,
        limit: 5_000,
        period: Period::Month,
        burst: Some(0),
    };
    let faults = Limit::new(spec).expect_err("refused");
    let fields: Vec<_> = faults.iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["limit", "period", "burst"]);
}
