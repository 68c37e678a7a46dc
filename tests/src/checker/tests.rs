//! The judge is judged: it must see every planted excess and accuse nobody wrongly.

use super::*;

const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// Calls of 2 ms at the given offsets, admitted in their middle.
fn log(offsets: impl IntoIterator<Item = u64>) -> Vec<Admission> {
    let call = |at: u64| Admission { sent_us: START + at - 1_000, received_us: START + at + 1_000 };
    offsets.into_iter().map(|at| call(at + 1_000)).collect()
}

/// `count` admissions spread evenly over [from, from + length).
fn spread(from: u64, length: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| from + length * i / count)
}

const ROLLING: Rule = Rule::Rolling { limit: 100, period_us: SECOND };
const ALIGNED: Rule = Rule::Aligned { limit: 100, period_us: SECOND };
const BUCKET: Rule = Rule::Bucket { limit: 100, period_us: SECOND, burst: 20 };

#[test]
fn a_full_window_is_no_excess() {
    let full = log(spread(0, SECOND / 2, 100).chain(spread(SECOND, SECOND / 2, 100)));
    for rule in [ROLLING, ALIGNED] {
        let peak = rule.worst(&full).unwrap();
        assert_eq!((peak.admitted, peak.allowed, peak.exceeded()), (100, 100, false), "{rule:?}");
    }
}

#[test]
fn one_admission_too_many_in_a_rolling_window_is_seen() {
    let over = log(spread(0, SECOND / 2, 100).chain([SECOND * 9 / 10]));
    assert!(ROLLING.worst(&over).unwrap().exceeded());
}

#[test]
fn a_burst_on_both_sides_of_a_boundary_exceeds_a_rolling_window_but_not_an_aligned_one() {
    let both = log(spread(SECOND * 9 / 10, SECOND / 20, 100).chain(spread(SECOND, SECOND / 20, 100)));
    let peak = ROLLING.worst(&both).unwrap();
    assert!(peak.exceeded() && peak.admitted == 200, "{peak:?}");
    assert!(!ALIGNED.worst(&both).unwrap().exceeded());
}

#[test]
fn one_admission_too_many_in_an_aligned_window_is_seen() {
    assert!(ALIGNED.worst(&log(spread(0, SECOND / 2, 101))).unwrap().exceeded());
}

#[test]
fn an_emptied_and_refilled_bucket_is_no_excess() {
    let steady = log((0..20).map(|_| 0).chain(spread(SECOND / 100, SECOND, 100)));
    assert!(!BUCKET.worst(&steady).unwrap().exceeded());
}

#[test]
fn a_burst_above_the_bucket_is_seen() {
    let peak = BUCKET.worst(&log((0..21).map(|_| 0))).unwrap();
    assert!(peak.exceeded() && peak.allowed == 20, "{peak:?}");
}

#[test]
fn a_rate_above_the_buckets_is_seen_although_no_burst_is() {
    // 110 a second overdraws 20 tokens of burst after two seconds, and no sooner.
    assert!(!BUCKET.worst(&log(spread(0, SECOND, 110))).unwrap().exceeded());
    assert!(BUCKET.worst(&log(spread(0, 5 * SECOND, 550))).unwrap().exceeded());
}

#[test]
fn two_replicas_that_count_apart_are_seen() {
    let replica = |_| spread(0, SECOND / 2, 100);
    assert_eq!(ROLLING.worst(&log((0..2).flat_map(replica))).unwrap().admitted, 200);
}

#[test]
fn an_answer_that_could_lie_outside_of_the_interval_is_not_held_against_the_limit() {
    let mut late = log(spread(0, SECOND / 2, 100));
    // Sent within the window, answered after its end: admitted perhaps only then.
    late.push(Admission { sent_us: START + SECOND / 2, received_us: START + 2 * SECOND });
    assert!(!ROLLING.worst(&late).unwrap().exceeded());
    assert!(!ALIGNED.worst(&late).unwrap().exceeded());
    assert_eq!(
        ALIGNED.worst(&late).unwrap().straddling(&late),
        1,
        "it is told as what may have been overlooked"
    );
}

#[test]
fn an_empty_log_has_no_peak() {
    assert_eq!(ROLLING.worst(&[]), None);
}

#[test]
fn the_most_that_is_possible_counts_every_window_touched() {
    assert_eq!(ROLLING.most(START, START + 5 * SECOND / 2), 300);
    assert_eq!(ALIGNED.most(START + SECOND / 2, START + 5 * SECOND / 2), 300);
    assert_eq!(BUCKET.most(START, START + 2 * SECOND), 220);
}
