use rstest::rstest;

use super::*;

const NOW_US: u64 = 1_000_000;

/// A key with which nothing is wrong.
const GOOD: Record<'static, &str> = Record {
    organization_suspended: false,
    revoked_us: None,
    disabled: false,
    expires_us: None,
    allowed_cidrs: &[],
    scopes: &["read", "write:*"],
};

fn decide(record: &Record<'_, &str>, client_ip: Option<&str>, required: &str) -> Standing {
    let required = ScopeExpression::parse(required).expect("an expression");
    let client_ip = client_ip.map(|address| address.parse().expect("an address"));
    standing(record, &Use { now_us: NOW_US, client_ip, required_scopes: Some(&required) })
}

#[test]
fn the_reasons_are_told_in_their_order() {
    let networks = ["203.0.113.0/24".parse().expect("a network")];
    let mut record = Record {
        organization_suspended: true,
        revoked_us: Some(1),
        disabled: true,
        expires_us: Some(1),
        allowed_cidrs: &networks,
        scopes: &[],
    };
    let mut told = vec![decide(&record, None, "read")];
    record.organization_suspended = false;
    told.push(decide(&record, None, "read"));
    record.revoked_us = None;
    told.push(decide(&record, None, "read"));
    record.disabled = false;
    told.push(decide(&record, None, "read"));
    record.expires_us = None;
    told.push(decide(&record, None, "read"));
    record.allowed_cidrs = &[];
    told.push(decide(&record, None, "read"));
    record.scopes = &["read"];
    told.push(decide(&record, None, "read"));
    let (accepted, reasons) = told.split_last().expect("several");
    assert_eq!((*accepted, reasons), (Standing::Accepted, &Standing::ALL[2..]));
}

#[rstest]
#[case::long_ago(Some(1), Standing::KeyRevoked)]
#[case::now(Some(NOW_US), Standing::KeyRevoked)]
#[case::in_its_grace_period(Some(NOW_US + 1), Standing::Accepted)]
fn a_key_is_revoked_from_a_time_on(#[case] revoked_us: Option<u64>, #[case] expected: Standing) {
    assert_eq!(decide(&Record { revoked_us, ..GOOD }, None, ""), expected);
}

#[rstest]
#[case::never(None, Standing::Accepted)]
#[case::now(Some(NOW_US), Standing::KeyExpired)]
#[case::soon(Some(NOW_US + 1), Standing::Accepted)]
fn a_key_expires_at_a_time(#[case] expires_us: Option<u64>, #[case] expected: Standing) {
    assert_eq!(decide(&Record { expires_us, ..GOOD }, None, ""), expected);
}

#[rstest]
#[case::within(Some("203.0.113.7"), Standing::Accepted)]
#[case::outside(Some("203.0.114.7"), Standing::IpForbidden)]
#[case::mapped_into_ipv6(Some("::ffff:203.0.113.7"), Standing::Accepted)]
#[case::within_ipv6(Some("2001:db8::1"), Standing::Accepted)]
#[case::outside_ipv6(Some("2001:db9::1"), Standing::IpForbidden)]
#[case::not_known(None, Standing::IpForbidden)]
fn a_key_with_networks_is_used_from_there_only(#[case] client_ip: Option<&str>, #[case] expected: Standing) {
    let networks = ["203.0.113.0/24", "2001:db8::/32"].map(|text| text.parse().expect("a network"));
    assert_eq!(decide(&Record { allowed_cidrs: &networks, ..GOOD }, client_ip, ""), expected);
}

#[rstest]
#[case::nothing("", Standing::Accepted)]
#[case::what_it_has("read and write:all", Standing::Accepted)]
#[case::what_it_has_not("read and delete", Standing::ScopeMissing)]
fn a_key_needs_the_scopes_that_are_required(#[case] required: &str, #[case] expected: Standing) {
    assert_eq!(decide(&GOOD, None, required), expected);
}

#[test]
fn every_standing_has_a_code_of_its_own() {
    let mut codes = Standing::ALL.map(Standing::as_str);
    codes.sort_unstable();
    assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
}
