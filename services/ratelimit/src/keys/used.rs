//! How keys were used since that was told last.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use prometheus_client::metrics::counter::Counter;
use tidegate_proto::keys::v1::KeyUsageEntry;
use uuid::Uuid;

use super::Record;
use crate::domain::date;

const PARTS: usize = 16;
const DAY_US: u64 = 86_400_000_000;

/// Counts by key, day and outcome: bounded; beyond the bound what is new is lost, and counted as such.
pub(super) struct Used {
    parts: Box<[Mutex<HashMap<What, Uses>>]>,
    /// In each part.
    most: usize,
    lost: Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct What {
    key: Uuid,
    organization: Uuid,
    /// Since 1970-01-01.
    day: u64,
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    count: u64,
    last_us: u64,
}

impl Used {
    pub(super) fn new(most: usize, lost: Counter) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, most: most.div_ceil(PARTS), lost }
    }

    #[inline]
    pub(super) fn count(&self, record: &Record, outcome: &'static str, now_us: u64) {
        let (key, organization) = (record.id, record.organization);
        let what = What { key, organization, day: now_us / DAY_US, outcome };
        let mut part = lock(&self.parts[(key.as_u128() % PARTS as u128) as usize]);
        if part.len() >= self.most && !part.contains_key(&what) {
            self.lost.inc();
            return;
        }
        let uses = part.entry(what).or_default();
        uses.count += 1;
        uses.last_us = uses.last_us.max(now_us);
    }

    /// Takes at most so many counts out.
    pub(super) fn take(&self, most: usize) -> Vec<KeyUsageEntry> {
        let mut taken = Vec::new();
        for part in &self.parts {
            let mut part = lock(part);
            while taken.len() < most
                && let Some(what) = part.keys().next().copied()
                && let Some(uses) = part.remove(&what)
            {
                taken.push(KeyUsageEntry {
                    api_key_id: what.key.to_string(),
                    organization_id: what.organization.to_string(),
                    day: date(what.day * DAY_US),
                    outcome: what.outcome.to_owned(),
                    count: uses.count,
                    last_used_at_ms: uses.last_us / 1_000,
                });
            }
        }
        taken
    }
}

fn lock(part: &Mutex<HashMap<What, Uses>>) -> MutexGuard<'_, HashMap<What, Uses>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
