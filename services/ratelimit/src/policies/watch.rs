//! Reads the policy file again when it changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tidegate_chassis::metrics::Metrics;
use tokio::{
    runtime::{Handle, TryCurrentError},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{PolicyErrors, fingerprint, log_faults};
use crate::domain::PolicySet;

/// How often the file is looked at whether or not a change was seen: file systems over a network do not
/// tell, and a link may lead to a folder that is not watched.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// How long it must be quiet after a change: who writes a file in several steps is let finish.
const QUIET: Duration = Duration::from_millis(50);

/// Puts the content of a file in force, and tells what is in force then.
///
/// # Errors
///
/// Every fault of the content.
pub(super) type Apply = Box<dyn Fn(Vec<u8>) -> Result<Arc<PolicySet>, PolicyErrors> + Send>;

/// The watch on a policy file. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct PolicyWatch {
    _ends_when_dropped: DropGuard,
}

impl PolicyWatch {
    /// Gives every new content of the file at `path` to `apply`, on a thread for blocking work; `before` is the
    /// fingerprint of the content that is in force. `apply` puts it in force as one atomic change, or
    /// refuses it and leaves everything as it is. A content with a fault, or a file that is gone, is logged once and counted.
    ///
    /// The folder of the file is watched, not the file: editors and Kubernetes put another file or
    /// another link in its place. Registers `tidegate_ratelimit_policies_valid` (0 while the file has a
    /// fault) and `tidegate_ratelimit_policy_reloads_total{outcome}`, where the outcome is `applied`,
    /// `rejected` or `unreadable`.
    ///
    /// # Errors
    ///
    /// If it is not called within a tokio runtime, on which the watch runs until `stop`.
    pub(crate) fn start(
        path: &Path,
        before: u128,
        apply: Apply,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Result<Self, TryCurrentError> {
        let runtime = Handle::try_current()?;
        let watched = Watched::new(path, before, apply, metrics);
        let stop = stop.child_token();
        runtime.spawn(watched.run(stop.clone()));
        Ok(Self { _ends_when_dropped: stop.drop_guard() })
    }
}

/// The file, what it was when it was last looked at, and what depends on it.
struct Watched {
    path: PathBuf,
    apply: Apply,
    metrics: WatchMetrics,
    /// So that each fault is told once.
    seen: Seen,
    /// As it was when it was looked at last, unless a change was told since.
    stamp: Option<Stamp>,
    /// Whether it was read a while after it had become so.
    is_settled: bool,
}

/// What the file system tells of a file. Whoever changes the content changes it, but within one tick of the file system's clock.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    /// Seconds and nanoseconds of the last change, which nobody can set back.
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file as it is opened: where files come over a network, whoever does not open one may be told how it was a minute ago.
    fn of(path: &Path) -> Option<Self> {
        let data = fs::File::open(path).and_then(|file| file.metadata()).ok()?;
        Some(Self {
            file: (data.dev(), data.ino()),
            length: data.size(),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Text(u128),
    Unreadable(io::ErrorKind),
}

impl Watched {
    fn new(path: &Path, before: u128, apply: Apply, metrics: &Metrics) -> Self {
        let metrics = WatchMetrics::register(metrics);
        Self {
            path: path.to_owned(),
            apply,
            metrics,
            seen: Seen::Text(before),
            stamp: None,
            is_settled: false,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let (changed, mut changes) = mpsc::channel(1);
        // Kept to the end: dropping it ends the watching.
        let _watcher = watch_folder(&self.path, changed);
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let look = tokio::select! {
                () = stop.cancelled() => return,
                _ = poll.tick() => Self::look_unless_settled,
                Some(()) = changes.recv() => {
                    settle(&mut changes).await;
                    Self::look_after_change
                }
            };
            // Reading and indexing a large file takes longer than a runtime thread may be held.
            let look = tokio::task::spawn_blocking(move || {
                look(&mut self);
                self
            });
            match look.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!(%error, "the policy file is no longer watched");
                    return;
                }
            }
        }
    }

    /// Looks at the file unless nothing can have changed: reading a large one takes the time of some checks.
    fn look_unless_settled(&mut self) {
        let stamp = Stamp::of(&self.path);
        let is_same = stamp.is_some() && stamp == self.stamp;
        if is_same && self.is_settled {
            return;
        }
        self.look();
        self.stamp = stamp;
        self.is_settled = is_same && matches!(self.seen, Seen::Text(_));
    }

    fn look_after_change(&mut self) {
        self.stamp = None;
        self.look();
    }

    /// Looks at the file, and acts if it is not what it was.
    fn look(&mut self) {
        let read = fs::read(&self.path);
        let seen = match &read {
            Ok(text) => Seen::Text(fingerprint(text)),
            Err(error) => Seen::Unreadable(error.kind()),
        };
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match read {
            Ok(text) => self.apply(text),
            Err(error) => {
                self.metrics.count("unreadable");
                let path = self.path.display();
                tracing::warn!(%path, %error, "the policy file cannot be read; the policies stay as they are");
            }
        }
    }

    fn apply(&self, text: Vec<u8>) {
        let path = self.path.display();
        match (self.apply)(text) {
            Ok(set) => {
                let (version, policies, plans) = (set.version(), set.len(), set.plans().len());
                let namespaces = set.namespaces().count();
                self.metrics.valid.set(1);
                self.metrics.count("applied");
                tracing::info!(%path, version, namespaces, policies, plans, "the policy file is in force");
            }
            Err(errors) => {
                self.metrics.valid.set(0);
                self.metrics.count("rejected");
                log_faults(&errors, |fault| {
                    tracing::error!(%path, %fault, "the policy file has a fault; the policies stay as they are");
                });
            }
        }
    }
}

/// Watches the folder of `path` and tells of every change in it. If that cannot be had, the poll remains.
fn watch_folder(path: &Path, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel already holds the news.
            let _ = changed.try_send(());
        }
    });
    let watching = watcher.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, poll_every = ?POLL_EVERY, "the folder of the policy file cannot be watched; it is polled");
            None
        }
    }
}

/// Waits until nothing has changed for a moment, but not for ever.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    for _ in 0..20 {
        sleep(QUIET).await;
        if changes.try_recv().is_err() {
            return;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Default)]
struct WatchMetrics {
    valid: Gauge,
    reloads: Family<OutcomeLabel, Counter>,
}

impl WatchMetrics {
    fn register(metrics: &Metrics) -> Self {
        let these = Self::default();
        these.valid.set(1);
        metrics.register(
            "tidegate_ratelimit_policies_valid",
            "1 if the policy file is in force, 0 if it has a fault and the policies before it are",
            these.valid.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_policy_reloads",
            "New contents of the policy file, by what became of them",
            these.reloads.clone(),
        );
        these
    }

    fn count(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

#[cfg(test)]
mod tests;
