//! How far back a limit looks, where what was counted may have been lost.

use super::*;

const SECOND: u64 = 1_000_000;

fn limit_of(algorithm: Algorithm, limit: u64, period: Period, burst: Option<u64>) -> Limit {
    Limit::new(LimitSpec { name: "limit".into(), algorithm, limit, period, burst }).expect("valid")
}

#[test]
fn a_limit_is_covered_once_nothing_before_the_loss_can_count() {
    let minute = Period::Micros(60 * SECOND);
    let window = limit_of(Algorithm::SlidingWindow, 5, minute, None);
    assert!(!window.is_covered_by(62 * SECOND, START_US) && window.is_covered_by(62 * SECOND + 1, START_US));
    let log = limit_of(Algorithm::SlidingLog, 5, minute, None);
    assert!(!log.is_covered_by(60 * SECOND, START_US) && log.is_covered_by(60 * SECOND + 1, START_US));
    // Three minutes until it is full.
    let bucket = limit_of(Algorithm::TokenBucket, 10, minute, Some(30));
    assert!(!bucket.is_covered_by(180 * SECOND, START_US) && bucket.is_covered_by(181 * SECOND, START_US));
}

#[test]
fn a_calendar_window_that_began_after_the_loss_is_covered_though_clocks_differ_a_little() {
    let quota = limit_of(Algorithm::FixedWindow, 5, Period::Micros(86_400 * SECOND), None);
    let midnight = START_US - START_US % (86_400 * SECOND);
    assert!(!quota.is_covered_by(3_600 * SECOND, midnight + 3_600 * SECOND));
    assert!(quota.is_covered_by(3_601 * SECOND, midnight + 3_600 * SECOND));
    assert!(
        !quota.is_covered_by(3_600 * SECOND, midnight + 9 * SECOND),
        "the store may still be in the day before"
    );
    assert!(!quota.is_covered_by(0, midnight + 3_600 * SECOND) && quota.is_covered_by(u64::MAX, midnight));
}
