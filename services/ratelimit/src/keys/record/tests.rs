use rstest::rstest;
use tidegate_proto::keys::v1::ResolvedKey;

use super::*;
use crate::keys::tests::fixture::resolved;

const NOW_MS: u64 = 1_795_953_600_000;

/// What a replica whose clock says `NOW_MS` makes of what the keys service told.
fn told(change: impl FnOnce(&mut ResolvedKey, &mut ApiKey)) -> Standing {
    let mut resolved = resolved(1, 7);
    let mut key = resolved.key.take().unwrap();
    change(&mut resolved, &mut key);
    resolved.key = Some(key);
    let now_us = NOW_MS * 1_000;
    Record::read(resolved, &Floors::default(), 1, now_us).unwrap().standing(now_us, None, None)
}

#[rstest]
#[case::a_second_ago(NOW_MS - 1_000)]
#[case::by_a_clock_that_is_an_hour_ahead(NOW_MS + 3_600_000)]
#[case::at_a_time_that_is_not_told(0)]
fn what_the_keys_service_has_decided_holds_whatever_the_clock_here_says(#[case] at_ms: u64) {
    let revoked = told(|_, key| (key.status, key.revoked_at_ms) = (KeyStatus::Revoked.into(), at_ms));
    assert_eq!(revoked, Standing::KeyRevoked);
    let expired = told(|_, key| (key.status, key.expires_at_ms) = (KeyStatus::Expired.into(), at_ms));
    assert_eq!(expired, Standing::KeyExpired);
}

#[rstest]
#[case::not_yet(NOW_MS + 1, NOW_MS + 1, Standing::Accepted)]
#[case::expired(NOW_MS + 1, NOW_MS, Standing::KeyExpired)]
#[case::revoked(NOW_MS, NOW_MS, Standing::KeyRevoked)]
#[case::never(0, 0, Standing::Accepted)]
fn what_was_still_ahead_comes_by_the_clock_here(
    #[case] revoked_at_ms: u64,
    #[case] expires_at_ms: u64,
    #[case] expected: Standing,
) {
    let standing = told(|_, key| {
        key.status = KeyStatus::Active.into();
        (key.revoked_at_ms, key.expires_at_ms) = (revoked_at_ms, expires_at_ms);
    });
    assert_eq!(standing, expected);
}

#[rstest]
#[case::by_its_status(KeyStatus::Disabled, false)]
#[case::and_expired(KeyStatus::Expired, true)]
#[case::by_the_switch(KeyStatus::Active, true)]
fn key_that_is_switched_off_is_not_accepted(#[case] status: KeyStatus, #[case] disabled: bool) {
    let standing = told(|resolved, key| (key.status, resolved.disabled) = (status.into(), disabled));
    assert_eq!(standing, Standing::KeyDisabled);
}
