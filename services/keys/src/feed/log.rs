//! What was told lately, for those who follow.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    domain::{KeyId, OrganizationId, ServiceTokenId},
    store::FeedEntry,
};

/// Entries that are kept, some 100 bytes each. Who is further behind has to forget everything.
const MAX_KEPT: usize = 50_000;
/// Entries that are told at a time.
const MAX_TOLD: usize = 500;

/// That something is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The organization of which something changed; none for service tokens that are for all.
    pub organization: Option<OrganizationId>,
    /// Its generation from now on; 0 if that is not what changed.
    pub generation: u64,
    /// The key that changed.
    pub key: Option<KeyId>,
    /// Whether keys were imported.
    pub imported: bool,
    /// The service token that was revoked.
    pub revoked_service_token: Option<ServiceTokenId>,
}

/// What has changed since a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// All of this, or as much as is told at a time, up to a revision.
    Changes(u64, Vec<Changed>),
    /// More than is known; the revision now.
    TooLongAgo(u64),
}

#[derive(Debug)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// After this revision all that was told is here.
    complete_after: u64,
    entries: VecDeque<(u64, Changed)>,
}

impl Log {
    pub(super) fn new(revision: u64) -> Self {
        let kept = Kept { complete_after: revision, entries: VecDeque::new() };
        Self { kept: Mutex::new(kept), revision: watch::Sender::new(revision) }
    }

    pub(super) fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    pub(super) async fn later_than(&self, revision: u64) {
        // The sender lives as long as `self`.
        let _ = self.revision.subscribe().wait_for(|now| *now > revision).await;
    }

    pub(super) fn append(&self, entries: Vec<(u64, FeedEntry)>) {
        let Some((revision, _)) = entries.last() else { return };
        let revision = *revision;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.extend(entries.into_iter().map(|(revision, entry)| (revision, changed(&entry))));
        while kept.entries.len() > MAX_KEPT {
            // Those of one revision go together, since they are told together.
            if let Some((gone, _)) = kept.entries.pop_front() {
                kept.complete_after = gone;
                while kept.entries.front().is_some_and(|(revision, _)| *revision == gone) {
                    kept.entries.pop_front();
                }
            }
        }
        drop(kept);
        self.revision.send_replace(revision);
    }

    /// Begins anew at a revision: what was between is not known.
    pub(super) fn restart(&self, revision: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.clear();
        kept.complete_after = revision;
        drop(kept);
        self.revision.send_replace(revision);
    }

    pub(super) fn generations(&self) -> HashMap<OrganizationId, u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut generations = HashMap::new();
        for (_, changed) in &kept.entries {
            if let (Some(organization), 1..) = (changed.organization, changed.generation) {
                let highest: &mut u64 = generations.entry(organization).or_default();
                *highest = changed.generation.max(*highest);
            }
        }
        generations
    }

    pub(super) fn since(&self, after: u64) -> Since {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.revision();
        if after < kept.complete_after || after > now {
            return Since::TooLongAgo(now);
        }
        let first = kept.entries.partition_point(|(revision, _)| *revision <= after);
        let mut told = Vec::new();
        let mut last = now;
        for (revision, changed) in kept.entries.range(first..) {
            if told.len() >= MAX_TOLD && last != *revision {
                return Since::Changes(last, told);
            }
            last = *revision;
            told.push(changed.clone());
        }
        Since::Changes(now, told)
    }
}

fn changed(entry: &FeedEntry) -> Changed {
    let FeedEntry { organization, generation, key, new_hashes: _, imported, revoked_service_token } = *entry;
    Changed { organization, generation, key, imported, revoked_service_token }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry(generation: u64) -> FeedEntry {
        FeedEntry {
            organization: Some(OrganizationId(Uuid::nil())),
            generation,
            key: None,
            new_hashes: vec![[0; 32]],
            imported: false,
            revoked_service_token: None,
        }
    }

    fn generations(since: Since) -> (u64, Vec<u64>) {
        match since {
            Since::Changes(revision, told) => {
                (revision, told.into_iter().map(|changed| changed.generation).collect())
            }
            Since::TooLongAgo(revision) => panic!("too long ago: it is {revision}"),
        }
    }

    #[test]
    fn what_was_told_after_a_revision_is_told_again() {
        let log = Log::new(5);
        log.append(vec![(6, entry(1)), (6, entry(2)), (8, entry(3))]);
        assert_eq!(log.revision(), 8);
        assert_eq!(generations(log.since(5)), (8, vec![1, 2, 3]));
        assert_eq!(generations(log.since(6)), (8, vec![3]));
        assert_eq!(generations(log.since(8)), (8, vec![]));
    }

    #[test]
    fn who_knows_of_another_past_or_is_too_far_behind_is_told_so() {
        let log = Log::new(5);
        assert_eq!(log.since(4), Since::TooLongAgo(5));
        assert_eq!(log.since(6), Since::TooLongAgo(5));
        log.restart(9);
        assert_eq!(log.since(5), Since::TooLongAgo(9));
        assert_eq!(generations(log.since(9)), (9, vec![]));
    }

    #[test]
    fn much_is_told_in_parts_that_end_where_a_revision_does() {
        let log = Log::new(0);
        log.append((0..1_500).map(|number| (1 + number / 3, entry(number))).collect());
        let (mut after, mut told) = (0, Vec::new());
        loop {
            let (revision, part) = generations(log.since(after));
            if part.is_empty() {
                break;
            }
            assert!(part.len() < MAX_TOLD + 3, "{}", part.len());
            assert_eq!(part.len() % 3, 0);
            told.extend(part);
            after = revision;
        }
        assert_eq!((after, told), (500, (0..1_500).collect::<Vec<_>>()));
    }

    #[test]
    fn no_more_than_a_bound_is_kept_and_revisions_are_kept_whole() {
        let log = Log::new(0);
        log.append((0..=MAX_KEPT as u64).map(|number| (1 + number / 2, entry(number))).collect());
        assert_eq!(log.since(0), Since::TooLongAgo(1 + MAX_KEPT as u64 / 2));
        assert_eq!(generations(log.since(1)).1[0], 2);
    }
}
