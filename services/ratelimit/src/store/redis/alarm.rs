//! When the coalescer has to look again.

use std::{future::pending, pin::Pin};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that can be set and unset, and keeps its place in the runtime.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    set: bool,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), set: false }
    }

    /// Rings at `at`, or before if it is already set to ring before.
    pub(super) fn set_at_latest(&mut self, at: Instant) {
        if !self.set || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
            self.set = true;
        }
    }

    pub(super) fn unset(&mut self) {
        self.set = false;
    }

    pub(super) fn is_due(&self) -> bool {
        self.set && self.sleep.deadline() <= Instant::now()
    }

    /// Waits until it rings, for ever if it is not set. It stays set.
    pub(super) async fn rings(&mut self) {
        if !self.set {
            pending::<()>().await;
        }
        self.sleep.as_mut().await;
    }
}
