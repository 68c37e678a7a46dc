//! Views of use: which keys are asked for most, which are denied, which come near a limit, and what each policy says.
//!
//! Every worker counts for itself, without a lock that another one wants; whoever asks adds the workers up. Policies are counted exactly.
//! Keys are too many for that: a bounded number of decisions in each second is [sampled](sampler), and the
//! heaviest keys of the samples are [kept](space_saving). Memory is bounded: in each worker `keys` subjects for each kind, window and
//! generation, of some 300 bytes each (at most 2 KiB), and 40 bytes for each of `policies`.

mod collector;
mod counts;
mod sampler;
mod space_saving;
mod subject;
mod top;
mod window;
mod worker;

use std::{
    ops::BitOrAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    clock::{Clock, Random, uuid_v7},
    metrics::Metrics,
};

use self::{
    collector::UsageCollector,
    counts::{Marks, Places},
    window::Began,
    worker::Tallies,
};
pub(crate) use self::{
    counts::Counts,
    subject::KeyAttribute,
    top::{TopKey, TopKeys},
    window::Window,
};
use crate::{domain::Attributes, limiter::Verdict};

/// How often it is seen whether generations are full.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// The `[usage]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct UsageConfig {
    /// Keys kept in each summary, 16 to 10,000.
    #[garde(range(min = 16, max = 10_000))]
    pub keys: usize,
    /// The most samples of each kind that a worker takes in a second, 10 to 100,000.
    #[garde(range(min = 10, max = 100_000))]
    pub samples_per_second: u64,
    /// An admission that leaves less of a limit is near it, 1 to 99 percent.
    #[garde(range(min = 1, max = 99))]
    pub near_percent: u8,
    /// Policies that are counted each for itself, 1 to 65,536.
    #[garde(range(min = 1, max = 65_536))]
    pub policies: usize,
    /// Policies that metrics tell apart, at most 10,000.
    #[garde(range(max = 10_000))]
    pub metrics_policies: usize,
}

/// What is looked for in the keys of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Keys that are asked for.
    Hot,
    /// Keys that are denied.
    Denied,
    /// Keys whose admissions leave little of a limit.
    NearLimit,
    /// Keys that a policy in shadow would have denied.
    ShadowDenied,
}

impl KeyKind {
    /// Each.
    pub(crate) const ALL: [Self; 4] = [Self::Hot, Self::Denied, Self::NearLimit, Self::ShadowDenied];
}

/// What a decision, or a policy in it, met besides being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// It was denied.
    pub(crate) denied: bool,
    /// It was admitted, and left little of a limit.
    pub(crate) near_limit: bool,
    /// It was admitted, and a policy in shadow would have denied it.
    pub(crate) shadow_denied: bool,
}

impl Met {
    #[inline]
    fn is_any(self) -> bool {
        self.denied | self.near_limit | self.shadow_denied
    }

    fn is(self, kind: KeyKind) -> bool {
        match kind {
            KeyKind::Hot => true,
            KeyKind::Denied => self.denied,
            KeyKind::NearLimit => self.near_limit,
            KeyKind::ShadowDenied => self.shadow_denied,
        }
    }
}

impl BitOrAssign for Met {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.denied |= other.denied;
        self.near_limit |= other.near_limit;
        self.shadow_denied |= other.shadow_denied;
    }
}

#[derive(Clone, Debug)]
struct Settings {
    keys: usize,
    samples_per_second: u64,
    near_percent: u8,
    random: Random,
}

/// The use that this replica sees. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Usage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    clock: Clock,
    instance: [u8; 16],
    started_us: u64,
    places: Arc<Places>,
    labelled: usize,
    workers: Mutex<Vec<Arc<Tallies>>>,
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    began: [Began; Window::ALL.len()],
    marks: Marks,
}

/// Which replica speaks, and of what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Identifies this run of the service: a `UUIDv7`.
    pub(crate) instance: [u8; 16],
    /// When it started, in Unix microseconds.
    pub(crate) started_us: u64,
    /// When the window began, in Unix microseconds.
    pub(crate) since_us: u64,
    /// Now.
    pub(crate) at_us: u64,
}

/// What is known of one policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyUse {
    /// Its namespace.
    pub(crate) namespace: Arc<str>,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What it said.
    pub(crate) counts: PolicyCounts,
}

/// What was counted of one policy, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyCounts {
    /// Since the service started.
    pub(crate) since_start: Counts,
    /// Since the window began.
    pub(crate) in_window: Counts,
}

impl Usage {
    /// Nothing is known yet. The counters are registered.
    pub(crate) fn new(config: &UsageConfig, clock: Clock, random: Random, metrics: &Metrics) -> Self {
        let now_us = clock.now_us();
        let these = Self(Arc::new(Shared {
            instance: uuid_v7(now_us, &random).into_bytes(),
            settings: Settings {
                keys: config.keys,
                samples_per_second: config.samples_per_second,
                near_percent: config.near_percent,
                random,
            },
            clock,
            started_us: now_us,
            places: Arc::new(Places::new(config.policies)),
            labelled: config.metrics_policies,
            workers: Mutex::default(),
            windows: Mutex::new(Windows {
                began: Window::ALL.map(|_| Began::at(now_us)),
                marks: Marks::new(),
            }),
        }));
        metrics.register_collector(UsageCollector(these.clone()));
        these
    }

    /// The part of another worker.
    pub(crate) fn for_worker(&self) -> WorkerUsage {
        let tallies = Arc::new(Tallies::new(&self.0.settings, Arc::clone(&self.0.places)));
        self.workers().push(Arc::clone(&tallies));
        WorkerUsage { tallies, usage: self.clone() }
    }

    /// Turns generations when they are full, for ever.
    pub(crate) async fn keep_turning(self) {
        let mut tick = tokio::time::interval(TURN_EVERY);
        loop {
            tick.tick().await;
            self.turn();
        }
    }

    /// Turns the generations that are full now.
    pub(crate) fn turn(&self) {
        let mut windows = self.windows();
        for window in Window::ALL {
            for _ in 0..windows.began[window as usize].turn(window, self.0.clock.now_us()) {
                let counted = self.counted();
                windows.marks.turn(window, &counted);
                for worker in &*self.workers() {
                    for summaries in &mut worker.samples().summaries {
                        summaries[window as usize].turn(space_saving::SpaceSaving::clear);
                    }
                }
            }
        }
    }

    /// What is known of each policy that `is_asked` for by namespace and name, in the order in which they came into use; and of
    /// those together that are not counted each for itself.
    pub(crate) fn policies(
        &self,
        window: Window,
        is_asked: impl Fn(&str, &str) -> bool,
    ) -> (Seen, Vec<PolicyUse>, PolicyCounts) {
        let windows = self.windows();
        // Before what was counted, which then has all of their places.
        let names = self.0.places.names().into_iter().zip(1..);
        let counted = self.counted();
        let since = |place: usize| PolicyCounts {
            since_start: counted[place],
            in_window: counted[place] - windows.marks.at(window, place),
        };
        let asked = names.filter(|((namespace, name), _)| is_asked(namespace, name));
        let policies =
            asked.map(|((namespace, name), place)| PolicyUse { namespace, name, counts: since(place) });
        (self.seen(&windows, window), policies.collect(), since(counts::OTHERS as usize))
    }

    fn seen(&self, windows: &Windows, window: Window) -> Seen {
        Seen {
            instance: self.0.instance,
            started_us: self.0.started_us,
            since_us: windows.began[window as usize].previous_us,
            at_us: self.0.clock.now_us(),
        }
    }

    /// What was counted at each place, by all workers.
    fn counted(&self) -> Vec<Counts> {
        let mut counted = vec![Counts::default(); self.0.places.names().len() + 1];
        for worker in &*self.workers() {
            for (sum, cell) in counted.iter_mut().zip(worker.cells()) {
                *sum += cell.counts();
            }
        }
        counted
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Tallies>>> {
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.0.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of one worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerUsage {
    tallies: Arc<Tallies>,
    usage: Usage,
}

impl WorkerUsage {
    /// Counts a decision, and says what it met. `attributes`, by which it was made, are asked for if it is a sample; only
    /// then anything is allocated.
    #[inline]
    pub(crate) fn record<A: Attributes>(&self, verdict: &Verdict<'_>, attributes: impl Fn() -> A) -> Met {
        self.tallies.record(verdict, attributes)
    }

    /// The use that all workers see.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }
}

#[cfg(test)]
mod tests;
