//! Times on the screen.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Unix milliseconds as RFC 3339 in UTC, to the second; nothing for 0.
pub(crate) fn ms(ms: u64) -> String {
    let time = i64::try_from(ms / 1_000).ok().filter(|seconds| *seconds > 0);
    let time = time.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_the_second_and_none_is_nothing() {
        assert_eq!(ms(1_705_314_600_999), "2024-01-15T10:30:00Z");
        assert_eq!(ms(0), "");
    }
}
