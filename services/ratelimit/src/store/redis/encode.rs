//! The packed form of a batch that `decide.lua` reads, and of what it answers.

use std::sync::Arc;

use redis::Cmd;
use smallvec::SmallVec;

use super::fence;
use crate::{
    domain::{Algorithm, Calendar, Check, Decision, HeldLease, Layout, LeaseId, LimitOutcome, Rule},
    store::StoreError,
};

/// Bytes of a number in the answer.
const NUMBER: usize = 8;
/// Numbers of a rule in the answer.
const RULE_NUMBERS: usize = 3;
/// Numbers behind those of the rules if the check is to take a lease: which is held, and for how long.
const LEASE_NUMBERS: usize = 2;

/// Checks on their way into one call of the script. Its buffers are reused.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    /// Distinct layouts; held, so that the address of one cannot become another's.
    known: Vec<Arc<Layout>>,
    layouts: Vec<u8>,
    checks: Vec<u8>,
    /// Per check.
    ends: Vec<End>,
}

/// Where a check ends in the buffers of an [`Encoder`].
#[derive(Clone, Copy, Debug, Default)]
struct End {
    keys: usize,
    checks: usize,
    rules: usize,
    leased: bool,
}

impl Encoder {
    /// Adds a check; on a cluster its fence lies `beside` its first key.
    pub(super) fn push(&mut self, check: &Check<'_>, beside: bool) {
        let rules: usize = check.cells.iter().map(|cell| cell.layout.rules().len()).sum();
        let cells = u32::try_from(check.cells.len()).expect("a check has a cell for each policy at most");
        let leased = check.lease.is_some();
        let (recorded, fenced) = (check.idempotency.is_some(), check.fence.is_some());
        let flags =
            u8::from(check.charge) | u8::from(recorded) << 1 | u8::from(leased) << 2 | u8::from(fenced) << 3;
        self.checks.push(flags);
        self.checks.extend_from_slice(&cells.to_le_bytes());
        if let Some(fence) = check.fence {
            self.checks.extend_from_slice(&fence.generation.to_le_bytes());
            self.push_key(&fence::key_of(check, fence, beside));
        }
        if let Some(idempotency) = &check.idempotency {
            self.checks.extend_from_slice(&idempotency.digest.to_le_bytes());
            self.checks.extend_from_slice(&idempotency.ttl_us.div_ceil(1_000).max(1).to_le_bytes());
            self.push_key(&idempotency.key);
        }
        if let Some(lease) = &check.lease {
            self.checks.extend_from_slice(&lease.id.get().to_le_bytes());
            self.checks.extend_from_slice(&lease.ttl_us.to_le_bytes());
        }
        for cell in &check.cells {
            let layout = self.layout_number(cell.layout);
            let cost = u32::try_from(cell.cost).expect("a cost is at most a capacity, which has 32 bits");
            let mut bytes = [0; 9];
            bytes[..4].copy_from_slice(&layout.to_le_bytes());
            bytes[4..8].copy_from_slice(&cost.to_le_bytes());
            bytes[8] = u8::from(cell.enforced);
            self.checks.extend_from_slice(&bytes);
            self.push_key(&cell.key);
        }
        self.ends.push(End { keys: self.key_ends.len(), checks: self.checks.len(), rules, leased });
    }

    /// The call of the script for those checks that are still `wanted`, by index.
    pub(super) fn command(&self, sha: &str, wanted: impl Fn(usize) -> bool) -> Cmd {
        let mut starts = End::default();
        let (mut keys, mut checks) = (Vec::with_capacity(self.key_ends.len()), Vec::new());
        checks.reserve(4 + self.checks.len());
        checks.extend_from_slice(&[0; 4]);
        let mut count = 0_u32;
        for (index, end) in self.ends.iter().enumerate() {
            if wanted(index) {
                count += 1;
                checks.extend_from_slice(&self.checks[starts.checks..end.checks]);
                keys.extend(starts.keys..end.keys);
            }
            starts = *end;
        }
        checks[..4].copy_from_slice(&count.to_le_bytes());

        let bytes = self.keys.len() + self.layouts.len() + checks.len() + 64;
        let mut command = Cmd::with_capacity(keys.len() + 5, bytes);
        command.arg("EVALSHA").arg(sha).arg(keys.len());
        for key in keys {
            let start = if key == 0 { 0 } else { self.key_ends[key - 1] };
            command.arg(&self.keys[start..self.key_ends[key]]);
        }
        let known = u32::try_from(self.known.len()).expect("at most one layout for each cell of a batch");
        let mut layouts = Vec::with_capacity(4 + self.layouts.len());
        layouts.extend_from_slice(&known.to_le_bytes());
        layouts.extend_from_slice(&self.layouts);
        command.arg(&layouts[..]).arg(&checks[..]);
        command
    }

    /// Bytes of the answer to a check, by index.
    pub(super) fn answer_len(&self, index: usize) -> usize {
        let End { rules, leased, .. } = self.ends[index];
        (1 + RULE_NUMBERS * rules + LEASE_NUMBERS * usize::from(leased)) * NUMBER
    }

    /// Empties it for the next batch.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.known.clear();
        self.layouts.clear();
        self.checks.clear();
        self.ends.clear();
    }

    fn push_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
    }

    /// Number of a layout in the batch, from 1; adds it if it is new.
    fn layout_number(&mut self, layout: &Arc<Layout>) -> u32 {
        let place = self.known.iter().position(|known| Arc::ptr_eq(known, layout)).unwrap_or_else(|| {
            self.known.push(layout.clone());
            encode_layout(layout, &mut self.layouts);
            self.known.len() - 1
        });
        u32::try_from(place + 1).expect("a batch has at most 256 checks")
    }
}

/// The layouts of a batch that has only this one.
pub(super) fn layouts_of_one(layout: &Layout) -> Vec<u8> {
    let mut layouts = 1_u32.to_le_bytes().to_vec();
    encode_layout(layout, &mut layouts);
    layouts
}

/// Where the answer to the first check of a batch begins: first comes the time.
pub(super) const ANSWERS_START: usize = NUMBER;

/// The time at which a batch was decided, in Unix microseconds by the clock of Redis. Its answer is at least
/// [`ANSWERS_START`] long.
pub(super) fn decided_at(answer: &[u8]) -> u64 {
    number(&answer[..NUMBER])
}

/// Reads the answer to a check, exactly [`answer_len`](Encoder::answer_len) of it.
///
/// # Errors
///
/// [`StoreError::Protocol`] if a key holds something else, [`StoreError::Full`] if there is no memory.
pub(super) fn decode(answer: &[u8]) -> Result<Decision, StoreError> {
    let mut numbers = answer.chunks_exact(NUMBER).map(number);
    let status = numbers.next().ok_or(StoreError::Protocol)?;
    let (admitted, replayed) = match status {
        0 => (false, false),
        1 => (true, false),
        2 => (true, true),
        3 => return Ok(Decision::of_reused_key()),
        6 => return Ok(Decision::of_stale()),
        5 => return Err(StoreError::Full),
        _ => return Err(StoreError::Protocol),
    };
    let rules = numbers.len() / RULE_NUMBERS;
    let mut number = || numbers.next().unwrap_or_default();
    let mut outcomes = SmallVec::new();
    for _ in 0..rules {
        let (remaining, retry_after_us, reset_after_us) = (number(), number(), number());
        outcomes.push(LimitOutcome { remaining, retry_after_us, reset_after_us });
    }
    let lease = LeaseId::new(number()).map(|id| HeldLease { id, expires_after_us: number() });
    Ok(Decision { admitted, replayed, key_reused: false, stale: false, outcomes, lease })
}

/// The number by which the scripts know an algorithm.
pub(super) fn kind(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::SlidingWindow => 0,
        Algorithm::FixedWindow => 1,
        Algorithm::TokenBucket => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::Concurrency => 4,
    }
}

fn encode_layout(layout: &Layout, out: &mut Vec<u8>) {
    out.push(u8::try_from(layout.rules().len()).expect("a policy has at most 255 limits"));
    for rule in layout.rules() {
        let (capacity, parameters) = match rule {
            Rule::SlidingWindow(rule) => (rule.limit, [rule.width_us, 0, 0]),
            Rule::FixedWindow(rule) => match rule.calendar {
                Calendar::Every(length_us) => (rule.limit, [0, length_us, 0]),
                Calendar::Week => (rule.limit, [1, 0, 0]),
                Calendar::Month => (rule.limit, [2, 0, 0]),
            },
            Rule::TokenBucket(rule) => (rule.burst, [rule.whole_us, rule.fraction, rule.denominator]),
            Rule::SlidingLog(rule) => (rule.limit, [rule.period_us, 0, 0]),
            Rule::Concurrency(rule) => (rule.limit, [rule.lease_us, 0, 0]),
        };
        out.push(kind(rule.algorithm()));
        out.extend_from_slice(&capacity.to_le_bytes());
        for parameter in parameters {
            out.extend_from_slice(&parameter.to_le_bytes());
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"))
}
