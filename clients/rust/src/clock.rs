//! The wall clock, for headers that name a time of day. Decisions need none: their times are durations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix seconds after `after`, rounded up, as REST answers have it.
#[expect(clippy::disallowed_methods, reason = "users compile this crate without the chassis and its clock")]
pub(crate) fn unix_seconds_after(after: Duration) -> u64 {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + after;
    at.as_secs() + u64::from(at.subsec_nanos() > 0)
}
