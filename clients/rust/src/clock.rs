//! The wall clock, for times of day: in headers, and when a key expires. Limits need none: their times are durations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether a time of day is over.
pub(crate) fn is_past(at: SystemTime) -> bool {
    at <= now()
}

/// Unix seconds after `after`, rounded up, as REST answers have it.
pub(crate) fn unix_seconds_after(after: Duration) -> u64 {
    let at = now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(after);
    at.as_secs().saturating_add(u64::from(at.subsec_nanos() > 0))
}

#[expect(clippy::disallowed_methods, reason = "users compile this crate without the chassis and its clock")]
fn now() -> SystemTime {
    SystemTime::now()
}
