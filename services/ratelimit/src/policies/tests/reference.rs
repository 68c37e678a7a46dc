//! What the reference says is so.

use std::{fs, path::Path};

use rstest::rstest;

use super::{bundle, matches, read};
use crate::domain::{Rule, Tariff};

fn examples() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/policies.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blocks = text.split("\n```toml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().expect("text has a first part").to_owned()).collect()
}

#[test]
fn every_example_of_the_reference_is_valid_as_printed() {
    let examples = examples();
    assert!(examples.len() >= 8, "{} examples", examples.len());
    for example in examples {
        read(&example);
    }
}

fn rule(limit: &str) -> Rule {
    let set = bundle(&super::one(&format!("key_by = []\nlimits = [{{ name = 'l', {limit} }}]")));
    let found = matches(&set, &[], 1).expect("no plan is asked for");
    let Tariff::Fixed(bundle) = &found[0].policy.tariff else { panic!("it has limits of its own") };
    bundle.layout.rules()[0]
}

const MINUTE_US: u64 = 60_000_000;
const START_US: u64 = 30_000_000 * MINUTE_US;

#[test]
fn a_sliding_window_gives_a_token_back_at_most_a_thirtieth_of_the_period_late() {
    let rule = rule("limit = 1, period = '1m'");
    let late = (0..2_000).map(|step| {
        let now_us = START_US + step * 1_009;
        let mut words = vec![0; rule.words()];
        rule.charge(&mut words, 1, None, now_us);
        rule.look(&words, 1, now_us).retry_after_us.checked_sub(MINUTE_US).expect("never early")
    });
    let late: Vec<_> = late.collect();
    assert_eq!(late[0], MINUTE_US / 30, "charged at the beginning of a sub-window");
    assert!(late.iter().all(|late| *late <= MINUTE_US / 30));
    assert!(late.iter().any(|late| *late < MINUTE_US / 300), "charged at the end of one");
}

#[rstest]
#[case("limit = 310, period = '1m'", 300 * 31)]
#[case("algorithm = 'sliding_log', limit = 310, period = '1m'", 310 * 31)]
#[case("algorithm = 'token_bucket', limit = 310, period = '1m'", 310 * 31)]
#[case("algorithm = 'fixed_window', limit = 310, period = '1m'", 310 * 31)]
fn who_takes_every_token_gets_in_31_periods(#[case] limit: &str, #[case] expected: u64) {
    let rule = rule(limit);
    let mut words = vec![0; rule.words()];
    // From a full limit on, so that what is given at the start is not counted.
    rule.charge(&mut words, 310, None, START_US);
    let mut admitted = 0;
    let mut now_us = START_US;
    loop {
        now_us += rule.look(&words, 1, now_us).retry_after_us;
        if now_us > START_US + 31 * MINUTE_US {
            break;
        }
        let cost = rule.look(&words, 1, now_us).remaining;
        rule.charge(&mut words, cost, None, now_us);
        admitted += cost;
    }
    assert_eq!(admitted, expected);
}
