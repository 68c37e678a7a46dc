//! Times as JSON tells them: RFC 3339 in UTC.

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Unix microseconds in RFC 3339.
pub(super) fn timestamp(us: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).expect("a year below 10000 has an RFC 3339 form")
}

/// Unix milliseconds in RFC 3339; none if they are 0, as services say that there is no such time.
pub(crate) fn moment(ms: u64) -> Option<String> {
    (ms != 0).then(|| timestamp(ms.saturating_mul(1000)))
}

/// Unix milliseconds of a time in RFC 3339, whatever its offset; none if it is not one, or before 1970.
pub(super) fn parse(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().filter(|ms| *ms != 0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole_seconds("2025-01-01T00:00:00Z", 1_735_689_600_000)]
    #[case::milliseconds("2025-01-01T00:00:00.25Z", 1_735_689_600_250)]
    #[case::of_another_zone("2025-01-01T02:00:00+02:00", 1_735_689_600_000)]
    fn what_is_told_is_read(#[case] text: &str, #[case] ms: u64) {
        assert_eq!(parse(text), Some(ms));
        assert_eq!(parse(&moment(ms).unwrap()), Some(ms));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::without_a_zone("2025-01-01T00:00:00")]
    #[case::a_day("2025-01-01")]
    #[case::seconds("1735689600")]
    #[case::before_all("1969-12-31T23:59:59Z")]
    #[case::what_says_never("1970-01-01T00:00:00Z")]
    #[case::no_such_day("2025-02-30T00:00:00Z")]
    fn what_is_no_time_is_refused(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }

    #[test]
    fn no_time_is_not_told() {
        assert_eq!(moment(0), None);
    }
}
