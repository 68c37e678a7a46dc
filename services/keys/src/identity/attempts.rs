//! How often somebody may try: counted by the rate-limit service, or by this process while that cannot be asked.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::hash_of;
use crate::{domain::Email, error::KeysError, origin::RequestOrigin};

/// What is tried. The limits of each are policies of the namespace `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// To give the right password of an account.
    LogIn,
    /// To make an account.
    SignUp,
    /// To exchange a token of an external issuer.
    Exchange,
    /// To report a leaked key.
    ReportLeak,
}

impl Attempt {
    /// The attribute `action` of the check.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LogIn => "login",
            Self::SignUp => "signup",
            Self::Exchange => "exchange",
            Self::ReportLeak => "report_leak",
        }
    }

    /// As many as the built-in policies admit of one account and from one address, and in which time.
    fn limits(self) -> (Option<(u32, Duration)>, (u32, Duration)) {
        const QUARTER: Duration = Duration::from_secs(15 * 60);
        const HOUR: Duration = Duration::from_secs(60 * 60);
        match self {
            Self::LogIn => (Some((10, QUARTER)), (100, QUARTER)),
            Self::SignUp => (None, (20, HOUR)),
            Self::Exchange => (None, (100, QUARTER)),
            Self::ReportLeak => (None, (60, HOUR)),
        }
    }
}

/// Whether an attempt may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and is counted.
    Admitted(Ticket),
    /// It may not.
    Denied {
        /// When the next may be.
        retry_after: Duration,
    },
}

/// What an attempt at an account took, to be given back if it was no failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// Nothing that could be given back.
    None,
    /// A lease of the rate-limit service.
    Lease(String),
    /// A count of this process: of what, its slot, and the window.
    Local(Attempt, usize, u64),
}

/// Counts attempts.
#[async_trait]
pub trait AttemptLimiter: Send + Sync + 'static {
    /// Counts an attempt of `account` (a digest of its address, if it is about one) from `ip_address`, if that is known. None if it cannot
    /// say.
    async fn check(
        &self,
        attempt: Attempt,
        account: Option<&str>,
        ip_address: Option<&str>,
    ) -> Option<Verdict>;

    /// Gives back what an attempt took that was no failure.
    async fn give_back(&self, lease: &str);
}

/// Asks the rate-limit service, and itself while that cannot say.
pub struct Attempts {
    remote: Option<Box<dyn AttemptLimiter>>,
    local: LocalAttempts,
    now_us: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Attempts {
    /// Counts by `remote`, or in this process. `now_us` is the clock of the latter.
    #[must_use]
    pub fn new(
        remote: Option<Box<dyn AttemptLimiter>>,
        now_us: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { remote, local: LocalAttempts::default(), now_us: Box::new(now_us) }
    }

    /// Counts an attempt. One at an account counts until it is given back, or for a quarter of an hour.
    ///
    /// # Errors
    ///
    /// [`KeysError::TooManyAttempts`].
    pub async fn check(
        &self,
        attempt: Attempt,
        email: Option<&Email>,
        origin: &RequestOrigin,
    ) -> Result<Ticket, KeysError> {
        let account = email.map(account_of);
        let network = origin.ip_address.as_deref().map(network_of);
        let (account, ip_address) = (account.as_deref(), network.as_deref());
        let remote = match &self.remote {
            Some(remote) => remote.check(attempt, account, ip_address).await,
            None => None,
        };
        match remote.unwrap_or_else(|| self.local.check(attempt, account, ip_address, (self.now_us)())) {
            Verdict::Admitted(ticket) => Ok(ticket),
            Verdict::Denied { retry_after } => Err(KeysError::TooManyAttempts { retry_after }),
        }
    }

    /// Gives back what an attempt took that was no failure.
    pub async fn give_back(&self, ticket: Ticket) {
        match ticket {
            Ticket::None => {}
            Ticket::Local(attempt, slot, window) => self.local.give_back(attempt, slot, window),
            Ticket::Lease(lease) => {
                if let Some(remote) = &self.remote {
                    remote.give_back(&lease).await;
                }
            }
        }
    }
}

/// What counts as one address: whoever has one of IPv6 has the whole network of 64 bits.
fn network_of(address: &str) -> Cow<'_, str> {
    match address.parse() {
        Ok(IpAddr::V6(address)) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            Cow::Owned(format!("{network}/64"))
        }
        Ok(IpAddr::V4(_)) | Err(_) => Cow::Borrowed(address),
    }
}

/// Personal data does not go into counters.
fn account_of(email: &Email) -> String {
    hash_of(email.as_str())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many kinds of [`Attempt`] there are.
const ATTEMPTS: usize = 4;
/// Slots of the local counters of each kind.
const SLOTS: usize = 1 << 14;

/// Counts in this process, in memory that never grows: subjects share a fixed number of slots, drawn by a hash that nobody
/// outside knows. Two that share one are denied sooner, never later. Windows are fixed: within any period at most twice the limit.
pub struct LocalAttempts {
    /// Those of each attempt by themselves: their windows are of different lengths.
    slots: Mutex<[Vec<Slot>; ATTEMPTS]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    window: u64,
    count: u32,
}

impl Default for LocalAttempts {
    fn default() -> Self {
        Self {
            slots: Mutex::new(std::array::from_fn(|_| vec![Slot::default(); SLOTS])),
            hasher: RandomState::new(),
        }
    }
}

impl LocalAttempts {
    /// As [`AttemptLimiter::check`]; it always can say.
    pub fn check(
        &self,
        attempt: Attempt,
        account: Option<&str>,
        ip_address: Option<&str>,
        now_us: u64,
    ) -> Verdict {
        let (of_account, of_address) = attempt.limits();
        let subjects = [
            account.zip(of_account).map(|(account, limit)| (self.slot(attempt, "account", account), limit)),
            ip_address.map(|address| (self.slot(attempt, "ip", address), of_address)),
        ];
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut slots[attempt as usize];
        for &(slot, (limit, period)) in subjects.iter().flatten() {
            let period_us = super::tokens::micros(&period);
            let window = now_us / period_us;
            if slots[slot].window == window && slots[slot].count >= limit {
                let retry_after = Duration::from_micros(period_us - now_us % period_us);
                return Verdict::Denied { retry_after };
            }
        }
        for &(slot, (_, period)) in subjects.iter().flatten() {
            let window = now_us / super::tokens::micros(&period);
            let count = if slots[slot].window == window { slots[slot].count } else { 0 };
            slots[slot] = Slot { window, count: count + 1 };
        }
        let of_account = subjects[0].map(|(slot, _)| Ticket::Local(attempt, slot, slots[slot].window));
        Verdict::Admitted(of_account.unwrap_or(Ticket::None))
    }

    fn give_back(&self, attempt: Attempt, slot: usize, window: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[attempt as usize][slot];
        // That of a window that is over is forgotten already.
        if slot.window == window {
            slot.count = slot.count.saturating_sub(1);
        }
    }

    fn slot(&self, attempt: Attempt, kind: &str, subject: &str) -> usize {
        let hash = self.hasher.hash_one((attempt.name(), kind, subject));
        usize::try_from(hash % SLOTS as u64).expect("a slot is one of a few thousand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: u64 = 1_800_000_000_000_000;

    fn check(local: &LocalAttempts, account: Option<&str>, ip: Option<&str>, now_us: u64) -> bool {
        matches!(local.check(Attempt::LogIn, account, ip, now_us), Verdict::Admitted(_))
    }

    #[test]
    fn an_account_has_ten_attempts_in_a_quarter_of_an_hour_wherever_they_come_from() {
        let local = LocalAttempts::default();
        let admitted = (0..30).filter(|i| check(&local, Some("a"), Some(&format!("10.0.0.{i}")), NOW_US));
        assert_eq!(admitted.count(), 10);
        assert!(check(&local, Some("b"), Some("10.0.1.1"), NOW_US), "others are not denied");
        assert!(check(&local, Some("a"), None, NOW_US + 15 * 60 * 1_000_000));
    }

    #[test]
    fn an_address_has_a_hundred_attempts_whatever_the_account() {
        let local = LocalAttempts::default();
        let admitted = (0..300).filter(|i| check(&local, Some(&format!("a{i}")), Some("10.0.0.1"), NOW_US));
        // Two of the accounts may share a slot, but not ten times.
        assert_eq!(admitted.count(), 100);
    }

    #[test]
    fn attempts_of_one_kind_leave_the_counts_of_another() {
        let local = LocalAttempts::default();
        for _ in 0..10 {
            assert!(check(&local, Some("a"), None, NOW_US));
        }
        // So many that every slot has one, if they shared them.
        for i in 0..20 * SLOTS {
            local.check(Attempt::ReportLeak, None, Some(&i.to_string()), NOW_US);
        }
        assert!(!check(&local, Some("a"), None, NOW_US));
    }

    #[tokio::test]
    async fn the_addresses_of_one_network_of_64_bits_are_one() {
        let attempts = Attempts::new(None, || NOW_US);
        let origin =
            |address: String| RequestOrigin { ip_address: Some(address), ..RequestOrigin::default() };
        for i in 0..20 {
            let origin = origin(format!("2001:db8:1:2:{i:x}::1"));
            attempts.check(Attempt::SignUp, None, &origin).await.expect("admitted");
        }
        let more = attempts.check(Attempt::SignUp, None, &origin("2001:db8:1:2::9".to_owned())).await;
        assert!(matches!(more, Err(KeysError::TooManyAttempts { .. })), "{more:?}");
        attempts.check(Attempt::SignUp, None, &origin("2001:db8:1:3::9".to_owned())).await.expect("another");
    }

    #[test]
    fn a_denial_says_when_the_next_may_be_and_is_not_counted_elsewhere() {
        let local = LocalAttempts::default();
        for _ in 0..10 {
            assert!(check(&local, Some("a"), None, NOW_US));
        }
        for _ in 0..200 {
            let denied = local.check(Attempt::LogIn, Some("a"), Some("10.0.0.9"), NOW_US + 1_000_000);
            let Verdict::Denied { retry_after } = denied else { panic!("admitted") };
            assert!(retry_after < Duration::from_secs(15 * 60));
        }
        assert!(check(&local, Some("other"), Some("10.0.0.9"), NOW_US), "denials cost the address nothing");
    }

    #[test]
    fn an_attempt_that_is_given_back_is_free_again_and_the_others_count_on() {
        let local = LocalAttempts::default();
        for _ in 0..9 {
            assert!(check(&local, Some("a"), None, NOW_US));
        }
        for _ in 0..100 {
            let Verdict::Admitted(Ticket::Local(attempt, slot, window)) =
                local.check(Attempt::LogIn, Some("a"), Some("10.0.0.1"), NOW_US)
            else {
                panic!("denied")
            };
            local.give_back(attempt, slot, window);
        }
        assert!(!check(&local, Some("b"), Some("10.0.0.1"), NOW_US), "that of the address is not given back");
        assert!(check(&local, Some("a"), None, NOW_US));
        assert!(!check(&local, Some("a"), None, NOW_US), "nine failures and one more");
        let later_us = NOW_US + 15 * 60 * 1_000_000;
        assert!(check(&local, Some("a"), None, later_us));
        let slot = local.slot(Attempt::LogIn, "account", "a");
        local.give_back(Attempt::LogIn, slot, NOW_US / (15 * 60 * 1_000_000));
        let left = (0..20).filter(|_| check(&local, Some("a"), None, later_us)).count();
        assert_eq!(left, 9, "of another window nothing is given back");
    }
}
