//! How long the scenarios last.

use std::time::Duration;

/// Length of one run of never-over-admits: `TIDEGATE_TEST_SECONDS`, 3 by default.
pub(crate) fn load() -> Duration {
    from_env("TIDEGATE_TEST_SECONDS", 3)
}

/// Whether `cargo xtask report` wants the scenarios at full length.
pub(crate) fn is_long() -> bool {
    load() > Duration::from_secs(3)
}

/// How long Redis stays away: `TIDEGATE_OUTAGE_SECONDS`, 4 by default.
pub(crate) fn outage() -> Duration {
    from_env("TIDEGATE_OUTAGE_SECONDS", 4)
}

fn from_env(name: &str, default: u64) -> Duration {
    let seconds = match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no whole number of seconds: {text}")),
        Err(_) => default,
    };
    Duration::from_secs(seconds)
}
