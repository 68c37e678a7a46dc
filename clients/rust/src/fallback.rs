//! What decides while the service cannot.

mod window;

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use self::window::Window;
use crate::{Check, Code, Decision, KeyIdentity, Limit};

/// How checks are answered while the service cannot be reached or cannot decide: at the latest when the deadline is over, and
/// with [`Decision::degraded`] set.
///
/// A check by API key is denied in every mode, as nobody knows then whose the key is; unless it is remembered
/// ([`Builder::remember_keys`](crate::Builder::remember_keys)).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum FailureMode {
    /// Denied, with [`Code::Unavailable`].
    #[default]
    Closed,
    /// Admitted.
    Open,
    /// Admitted up to a limit of this process alone.
    Local(LocalLimit),
}

/// A limit that a process keeps by itself: the share of the true one that falls to it. With ten replicas of a backend and 1,000
/// requests a minute for all, 100 a minute.
#[derive(Clone, Debug)]
pub struct LocalLimit {
    limit: NonZeroU32,
    period: Duration,
    by: Vec<String>,
}

impl LocalLimit {
    /// So many tokens in any `period`, of all checks together. A period below a millisecond counts as one.
    #[must_use]
    pub fn new(limit: NonZeroU32, period: Duration) -> Self {
        Self { limit, period: period.max(Duration::from_millis(1)), by: Vec::new() }
    }

    /// The same for each value of some attributes, among them those that a remembered key gives (`organization`, `api_key`, …). At most 10,000 are counted at a time; others are denied.
    #[must_use]
    pub fn by<N: Into<String>>(mut self, attributes: impl IntoIterator<Item = N>) -> Self {
        self.by = attributes.into_iter().map(Into::into).collect();
        self
    }
}

/// Subjects that are counted at a time, so that an outage cannot fill the memory of the backend.
const SUBJECTS: usize = 10_000;
/// When a closed failure mode says to try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decides by the failure mode.
#[derive(Debug)]
pub(crate) struct Fallback {
    mode: FailureMode,
    started: Instant,
    windows: Mutex<HashMap<String, Window>>,
}

impl Fallback {
    pub(crate) fn new(mode: FailureMode) -> Self {
        Self { mode, started: Instant::now(), windows: Mutex::default() }
    }

    /// For a check that names a key, `key` says whose it is, as far as that is remembered.
    pub(crate) fn decide(&self, check: &Check, key: Option<KeyIdentity>, now: Instant) -> Decision {
        if check.names_key() && key.is_none() {
            return closed();
        }
        let mut decision = match &self.mode {
            FailureMode::Closed => closed(),
            FailureMode::Open => Decision::local(Code::Ok, Vec::new(), Duration::ZERO),
            FailureMode::Local(local) => self.local(local, check, key.as_ref(), now),
        };
        decision.key = key;
        decision
    }

    fn local(&self, local: &LocalLimit, check: &Check, key: Option<&KeyIdentity>, now: Instant) -> Decision {
        let now = now.saturating_duration_since(self.started);
        let subject = subject(local, check, key);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= SUBJECTS && !windows.contains_key(&subject) {
            windows.retain(|_, window| !window.is_unused(local.period, now));
            if windows.len() >= SUBJECTS {
                return closed();
            }
        }
        let window = windows.entry(subject).or_default();
        let limit = u64::from(local.limit.get());
        let outcome = window.take(limit, local.period, check.tokens(), check.is_dry_run(), now);
        let (code, remaining, retry_after) = match outcome {
            Ok(remaining) => (Code::Ok, remaining, Duration::ZERO),
            Err(denial) => (Code::RateLimited, denial.remaining, denial.retry_after),
        };
        Decision::local(code, vec![Limit::local(limit, remaining, local.period, retry_after)], retry_after)
    }
}

fn closed() -> Decision {
    Decision::local(Code::Unavailable, Vec::new(), RETRY_AFTER)
}

/// Values in the order of the names, each with its length, so that no two lists look the same.
fn subject(local: &LocalLimit, check: &Check, key: Option<&KeyIdentity>) -> String {
    // What the key says counts, whatever the caller says.
    let value = |name: &str| key.and_then(|key| key.value_of(name)).or_else(|| check.value_of(name));
    let values = local.by.iter().map(|name| value(name).unwrap_or_default());
    values.fold(String::new(), |subject, value| subject + &format!("{}:{value}", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(limit: u32) -> LocalLimit {
        LocalLimit::new(NonZeroU32::new(limit).unwrap(), Duration::from_secs(8))
    }

    fn of(organization: &str) -> Check {
        Check::new().attribute("organization", organization)
    }

    #[test]
    fn an_unknown_key_is_denied_in_every_mode() {
        for mode in [FailureMode::Closed, FailureMode::Open, FailureMode::Local(local(9))] {
            let decision =
                Fallback::new(mode).decide(&Check::new().api_key("tk_live_x"), None, Instant::now());
            assert_eq!((decision.allowed, decision.code), (false, Code::Unavailable));
        }
    }

    #[test]
    fn a_local_limit_holds_for_all_together_or_for_each() {
        let now = Instant::now();
        let together = Fallback::new(FailureMode::Local(local(2)));
        let admitted = ["a", "b", "c"].map(|name| together.decide(&of(name), None, now).allowed);
        assert_eq!(admitted, [true, true, false]);
        let each = Fallback::new(FailureMode::Local(local(1).by(["organization"])));
        let admitted = ["a", "b", "a"].map(|name| each.decide(&of(name), None, now).allowed);
        assert_eq!(admitted, [true, true, false]);
        let denied = each.decide(&of("a"), None, now);
        assert!(denied.degraded && denied.retry_after > Duration::ZERO);
        assert_eq!(denied.binding_limit().map(|limit| limit.limit), Some(1));
    }

    #[test]
    fn a_remembered_key_is_counted_by_what_it_says() {
        let now = Instant::now();
        let each = Fallback::new(FailureMode::Local(local(1).by(["organization"])));
        let key = |name: &str| KeyIdentity { organization_id: name.to_owned(), ..KeyIdentity::nobody() };
        let asked = of("whatever").api_key("k");
        let admitted = ["a", "b", "a"].map(|name| each.decide(&asked, Some(key(name)), now).allowed);
        assert_eq!(admitted, [true, true, false]);
        assert!(each.decide(&asked, Some(key("c")), now).key.is_some());
    }

    #[test]
    fn no_more_subjects_are_counted_than_memory_is_meant_for() {
        let now = Instant::now();
        let fallback = Fallback::new(FailureMode::Local(local(1).by(["organization"])));
        for number in 0..SUBJECTS {
            assert!(fallback.decide(&of(&number.to_string()), None, now).allowed);
        }
        assert_eq!(fallback.decide(&of("one more"), None, now).code, Code::Unavailable);
        assert!(
            fallback.decide(&of("one more"), None, now + Duration::from_secs(10)).allowed,
            "the others are over"
        );
    }
}
