//! The heaviest keys of all workers.

use std::{cmp::Reverse, sync::Arc};

use hashbrown::HashMap;

use super::{KeyKind, Seen, Usage, Window, subject::Subject};

/// The heaviest keys of one kind in a window, the heaviest first.
#[derive(Debug)]
pub(crate) struct TopKeys {
    /// The keys.
    pub(crate) keys: Vec<TopKey>,
    /// What all keys weigh, those of other policies included.
    pub(crate) total: u64,
    /// The most that a key can weigh which is not listed; the sampling may err beyond.
    pub(crate) unlisted_at_most: u64,
    /// Who saw them.
    pub(crate) seen: Seen,
}

/// One key, by what the samples stand for.
#[derive(Clone, Debug)]
pub(crate) struct TopKey {
    /// Who it is.
    pub(crate) subject: Arc<Subject>,
    /// The most that its samples stand for.
    pub(crate) count: u64,
    /// By how much `count` may be too much of that.
    pub(crate) over: u64,
    /// Variance of what the samples stand for.
    pub(crate) variance: u64,
}

impl Usage {
    /// The `limit` heaviest keys of those policies that `is_asked` for by namespace and name.
    ///
    /// Summaries are merged by adding what each says at most of a key (Agarwal, Cormode, Huang, Phillips, Wei, Yi: "Mergeable
    /// summaries", PODS 2012), so their bounds add up too.
    pub(crate) fn top_keys(
        &self,
        kind: KeyKind,
        window: Window,
        limit: usize,
        is_asked: impl Fn(&str, &str) -> bool,
    ) -> TopKeys {
        // Held all the while, so that no generation turns.
        let windows = self.windows();
        let mut merged: HashMap<u128, Merged> = HashMap::new();
        let (mut total, mut floors) = (0, 0);
        for worker in &*self.workers() {
            let samples = worker.samples();
            let generations = &samples.summaries[kind as usize][window as usize];
            for summary in [&generations.previous, &generations.current] {
                let floor = summary.floor();
                floors += floor;
                total += summary.total();
                for key in summary.iter().filter(|key| is_asked(&key.subject.namespace, &key.subject.policy))
                {
                    let sum = merged.entry(key.id).or_insert_with(|| Merged::of(&key.subject));
                    sum.key.count += key.count;
                    sum.key.over += key.over;
                    sum.key.variance = sum.key.variance.saturating_add(key.variance);
                    sum.floors += floor;
                }
            }
        }
        let mut keys: Vec<_> = merged.into_values().map(|sum| sum.of_all(floors)).collect();
        // Subjects, so that equals keep their order from one look to the next.
        keys.sort_by_cached_key(|key| (Reverse(key.count), format!("{:?}", key.subject)));
        let unlisted_at_most = keys.get(limit).map_or(floors, |key| key.count.max(floors));
        keys.truncate(limit);
        TopKeys { keys, total, unlisted_at_most, seen: self.seen(&windows, window) }
    }
}

struct Merged {
    key: TopKey,
    /// Floors of the summaries that it is in.
    floors: u64,
}

impl Merged {
    fn of(subject: &Arc<Subject>) -> Self {
        Self { key: TopKey { subject: Arc::clone(subject), count: 0, over: 0, variance: 0 }, floors: 0 }
    }

    /// Adds what it may weigh where it is not listed.
    fn of_all(self, floors: u64) -> TopKey {
        let unseen = floors - self.floors;
        TopKey { count: self.key.count + unseen, over: self.key.over + unseen, ..self.key }
    }
}
