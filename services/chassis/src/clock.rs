//! Time and randomness, injected.
//!
//! This is the one place that reads the wall clock and the system's randomness; everything else
//! takes a [`Clock`] or a [`Random`], so that the same input gives the same answer and no test
//! sleeps to wait for a window.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

/// The wall clock. Cheap to clone and to read (no system call on Linux).
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    now_us: AtomicU64,
    steady_us: AtomicU64,
}

/// What the steady clock of the system showed when the process first read it.
static BEGIN: OnceLock<Duration> = OnceLock::new();

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_us` (Unix µs) and moves only by the returned handle.
    #[must_use]
    pub fn manual(start_us: u64) -> (Self, ManualClock) {
        let hands = Hands { now_us: AtomicU64::new(start_us), steady_us: AtomicU64::new(0) };
        let hands = Arc::new(hands);
        (Self(Source::Manual(Arc::clone(&hands))), ManualClock(hands))
    }

    /// Microseconds since the Unix epoch, UTC. 0 if the system's clock stands before 1970.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        match &self.0 {
            Source::System => system_now_us(),
            Source::Manual(hands) => hands.now_us.load(Ordering::Acquire),
        }
    }

    /// Microseconds since some moment of this process. They pass whatever is done to the wall clock: for ages. On Linux this is
    /// `CLOCK_BOOTTIME`, which goes on while the machine is suspended; elsewhere it may stand still meanwhile. While a hypervisor stops the
    /// machine without a word to it no clock of the machine goes on.
    #[must_use]
    pub fn steady_us(&self) -> u64 {
        match &self.0 {
            Source::System => {
                let now = system_steady();
                let passed = now.saturating_sub(*BEGIN.get_or_init(|| now));
                u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
            }
            Source::Manual(hands) => hands.steady_us.load(Ordering::Acquire),
        }
    }
}

/// Moves a [`Clock`] made by [`Clock::manual`], and all of its clones.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Hands>);

impl ManualClock {
    /// Moves the clock forward by whole microseconds.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.0.now_us.fetch_add(by, Ordering::AcqRel);
        self.0.steady_us.fetch_add(by, Ordering::AcqRel);
    }

    /// Sets the wall clock, backwards too, to `now_us` (Unix µs). No time passes by that.
    pub fn set_us(&self, now_us: u64) {
        self.0.now_us.store(now_us, Ordering::Release);
    }
}

/// A source of random numbers for sampling, jitter and ids. Not for secrets: the generator is
/// small and fast, and its state could be guessed from its output.
#[derive(Clone, Debug)]
pub struct Random(Generator);

#[derive(Clone, Debug)]
enum Generator {
    System,
    Seeded(Arc<Mutex<SmallRng>>),
}

thread_local! {
    static THREAD_RNG: RefCell<SmallRng> = RefCell::new(from_system_entropy());
}

impl Random {
    /// A generator per thread, each seeded once from the system; no lock, no system call per draw.
    #[must_use]
    pub fn system() -> Self {
        Self(Generator::System)
    }

    /// The same numbers for the same seed; clones share the sequence.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Generator::Seeded(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)))))
    }

    /// 64 uniform bits.
    #[must_use]
    pub fn u64(&self) -> u64 {
        match &self.0 {
            Generator::System => THREAD_RNG.with_borrow_mut(Rng::random),
            Generator::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).random(),
        }
    }

    /// Uniform in `0..n`; 0 for `n = 0`. The bias is below `n / 2^64`.
    #[must_use]
    pub fn below(&self, n: u64) -> u64 {
        // The high half of the product is uniform in 0..n (Lemire, "Fast random integer generation").
        u64::try_from((u128::from(self.u64()) * u128::from(n)) >> 64).unwrap_or_default()
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    pub fn unit_f64(&self) -> f64 {
        (self.u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A UUIDv7 (RFC 9562): the millisecond of `now_us`, its fraction in 12 bits (method 3), and 62
/// random bits. Ids of one process sort by time down to a microsecond. About 10 ns with
/// [`Random::system`].
#[must_use]
pub fn uuid_v7(now_us: u64, random: &Random) -> Uuid {
    let millis = u128::from(now_us / 1000) & 0xFFFF_FFFF_FFFF;
    let fraction = u128::from((now_us % 1000) * 4096 / 1000);
    let tail = u128::from(random.u64() >> 2);
    Uuid::from_u128(millis << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that the others inject")]
fn system_now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// Since some moment before the process began. No system call.
#[cfg(target_os = "linux")]
fn system_steady() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    // Only times before the boot are negative.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn system_steady() -> Duration {
    use std::time::Instant;

    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

fn from_system_entropy() -> SmallRng {
    SmallRng::from_os_rng()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_by_hand_and_in_every_clone() {
        let (clock, hand) = Clock::manual(5);
        let clone = clock.clone();
        assert_eq!(clock.now_us(), 5);
        hand.advance(Duration::from_millis(2));
        assert_eq!((clone.now_us(), clone.steady_us()), (2005, 2000));
        hand.set_us(7);
        assert_eq!((clone.now_us(), clone.steady_us()), (7, 2000), "it was set, and no time has passed");
    }

    #[test]
    fn steady_clock_of_the_system_never_steps_back() {
        let clock = Clock::system();
        let read: Vec<_> = (0..1000).map(|_| clock.steady_us()).collect();
        assert!(read.is_sorted());
    }

    #[test]
    fn seeded_random_repeats_itself() {
        let draw = |random: Random| [random.u64(), random.below(10), random.unit_f64().to_bits()];
        assert_eq!(draw(Random::seeded(7)), draw(Random::seeded(7)));
        assert_ne!(draw(Random::seeded(7)), draw(Random::seeded(8)));
    }

    #[test]
    fn draws_stay_in_range() {
        let random = Random::system();
        assert_eq!(random.below(0), 0);
        for _ in 0..1000 {
            assert!(random.below(3) < 3);
            assert!((0.0..1.0).contains(&random.unit_f64()));
        }
    }

    #[test]
    fn uuid_v7_has_its_version_variant_and_time_and_sorts_by_time() {
        let random = Random::system();
        let id = uuid_v7(1_735_689_600_123_456, &random);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        let (seconds, nanos) = id.get_timestamp().expect("v7 carries a timestamp").to_unix();
        assert_eq!((seconds, nanos / 1_000_000), (1_735_689_600, 123));
        assert!(id < uuid_v7(1_735_689_600_123_457, &random));
    }
}
