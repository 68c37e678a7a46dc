//! The machine's clock, which is also the clock of a Redis on the same machine.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

/// Unix time in microseconds. It never goes back: the clock is read once, and what has passed since is added, so
/// that a step of the clock cannot end a call before it was begun.
///
/// # Panics
///
/// If the machine's clock is set before 1970.
#[must_use]
pub fn now_us() -> u64 {
    static STARTED: OnceLock<(Instant, u64)> = OnceLock::new();
    let (instant, us) = STARTED.get_or_init(|| (Instant::now(), read_us()));
    us + micros(instant.elapsed())
}

fn read_us() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the checker compares with the clock of a real Redis")]
    let now = SystemTime::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    micros(since)
}

/// A duration in whole microseconds.
///
/// # Panics
///
/// If it exceeds half a million years.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("durations of tests fit into 64 bits of microseconds")
}
