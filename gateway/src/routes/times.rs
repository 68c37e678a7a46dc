//! Times as JSON tells them: RFC 3339 in UTC.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_not_told() {
        assert_eq!(moment(0), None);
        assert_eq!(moment(1_735_689_600_250).as_deref(), Some("2025-01-01T00:00:00.25Z"));
    }
}
