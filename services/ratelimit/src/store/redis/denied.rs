//! Denials that are remembered, so that a denied key costs Redis nothing.
//!
//! A denial writes nothing, so the same check is denied again until somebody writes one of its cells or time gives room.
//! Redis itself tells of every write: a worker that was denied registers its interest in the cell that denies (`CLIENT CACHING`,
//! an opt-in of `CLIENT TRACKING`), and Redis pushes an invalidation when anybody, on any replica, charges, gives back, resets or
//! forgets it. Only a denial that was asked for *after* Redis had confirmed the interest is remembered: whatever is written after that
//! decision is told. A remembered denial is told again until the first of its exceeded limits has room, but for [`LONGEST`] at
//! most. In a cluster the node that has the slot tells, also when it gives the key away.

use std::{
    hash::Hasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use redis::{Pipeline, PushInfo, PushKind, RedisResult, Value, aio::MultiplexedConnection};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use tidegate_chassis::clock::Random;
use tokio::time::Instant;

use super::{
    call::{self, Failure},
    fence,
    metrics::DeniedMetrics,
};
use crate::{
    domain::{CellCheck, Check, Decision, Fence, Layout},
    key::Key,
};

/// How long a denial is told again without asking. Bounds how old what it says of other limits can be, and what a lost
/// invalidation could do.
const LONGEST: Duration = Duration::from_secs(1);

/// What a registration costs, in answers from memory: keys that are denied and admitted by turns are not worth one each time.
const PRICE: u32 = 4;
const MOST_CREDIT: u32 = 4_000;
/// Earned each second, whatever happens.
const CREDIT_PER_SECOND: u32 = 100;

/// The denials that one worker remembers of one node.
#[derive(Debug)]
pub(super) struct Denied {
    state: Mutex<State>,
    /// 0 if nothing is remembered.
    most: usize,
    /// So that nobody can choose two checks that look alike.
    secret: (u64, u64),
    metrics: DeniedMetrics,
}

/// Locked only within the worker's thread.
#[derive(Debug)]
struct State {
    /// A connection that tells of writes, and its number.
    link: Option<(u64, MultiplexedConnection)>,
    connections: u64,
    /// Counts registrations that were confirmed.
    confirmed: u64,
    /// Cells in whose writes there is interest: when it was confirmed; absent while it is being registered.
    cells: HashMap<u128, Option<u64>>,
    denials: HashMap<u128, Denial>,
    credit: u32,
    credited: Instant,
}

#[derive(Debug)]
struct Denial {
    decision: Decision,
    /// The cell that denies, and the fence if there is one, each with the registration that watches it.
    watched: SmallVec<[(u128, u64); 2]>,
    answered: Instant,
    until: Instant,
    /// So that no other layout comes to lie at the same address.
    _layouts: Box<[Arc<Layout>]>,
}

/// A check that was sent to Redis, and may be denied.
#[derive(Debug)]
pub(super) struct Asked {
    check: u128,
    /// Key and limits of each cell, and whether it is enforced.
    cells: SmallVec<[(Key, Arc<Layout>, bool); 2]>,
    fence: Option<Key>,
    connection: u64,
    confirmed: u64,
    at: Instant,
}

impl Denied {
    /// Remembers at most so many.
    pub(super) fn new(most: usize, random: &Random, metrics: DeniedMetrics) -> Arc<Self> {
        let state = State {
            link: None,
            connections: 0,
            confirmed: 0,
            cells: HashMap::new(),
            denials: HashMap::new(),
            credit: MOST_CREDIT,
            credited: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(state), most, secret: (random.u64(), random.u64()), metrics })
    }

    /// Whether anything may be remembered.
    pub(super) fn is_on(&self) -> bool {
        self.most > 0
    }

    /// The decision on `check`, if it is known to be denied now.
    #[inline]
    pub(super) fn answer(&self, check: &Check<'_>) -> Option<Decision> {
        let mut state = self.lock();
        if state.denials.is_empty() || check.idempotency.is_some() {
            return None;
        }
        let denial = state.denials.get(&self.fingerprint(check))?;
        let now = Instant::now();
        let is_told =
            |(key, confirmed): &(u128, u64)| state.cells.get(key).copied().flatten() == Some(*confirmed);
        let is_watched = denial.watched.iter().all(is_told);
        if !is_watched || now >= denial.until {
            return None;
        }
        let mut decision = denial.decision.clone();
        let past_us = u64::try_from((now - denial.answered).as_micros()).unwrap_or(u64::MAX);
        state.credit = (state.credit + 1).min(MOST_CREDIT);
        drop(state);
        for outcome in &mut decision.outcomes {
            // What is exceeded stays so until then.
            let least = u64::from(outcome.exceeded());
            outcome.retry_after_us = outcome.retry_after_us.saturating_sub(past_us).max(least);
            outcome.reset_after_us = outcome.reset_after_us.saturating_sub(past_us);
        }
        self.metrics.hits.inc();
        Some(decision)
    }

    /// Notes what Redis is about to be asked; on a cluster the fence lies `beside` the keys. Nothing if a denial could not be remembered.
    #[inline]
    pub(super) fn ask(&self, check: &Check<'_>, beside: bool) -> Option<Asked> {
        // A repetition of what was admitted is admitted, whatever the limits say; and a lease may end at any time.
        let is_leased = || check.cells.iter().any(|cell| cell.layout.is_leased());
        if check.idempotency.is_some() || self.most == 0 || is_leased() {
            return None;
        }
        let state = self.lock();
        let connection = state.link.as_ref()?.0;
        let confirmed = state.confirmed;
        drop(state);
        let cells = check.cells.iter();
        Some(Asked {
            check: self.fingerprint(check),
            cells: cells.map(|cell| (cell.key.clone(), Arc::clone(cell.layout), cell.enforced)).collect(),
            fence: check.fence.map(|fence| fence::key_of(check, fence, beside)),
            connection,
            confirmed,
            at: Instant::now(),
        })
    }

    /// Takes in what Redis decided.
    pub(super) fn learn(self: &Arc<Self>, asked: &Asked, decision: &Decision) {
        if decision.admitted || decision.key_reused || decision.stale {
            return;
        }
        let Some(denial) = Facts::of(asked, decision) else { return };
        let mut state = self.lock();
        let Some((connection, redis)) = &state.link else { return };
        if *connection != asked.connection {
            return;
        }
        let redis = redis.clone();
        let mut watched = SmallVec::new();
        let mut unwatched = SmallVec::<[(u128, &Key); 2]>::new();
        let mut is_late = false;
        for key in [Some(&asked.cells[denial.cell].0), asked.fence.as_ref()].into_iter().flatten() {
            let hash = self.hash(key);
            match state.cells.get(&hash) {
                Some(Some(confirmed)) if *confirmed <= asked.confirmed => watched.push((hash, *confirmed)),
                // It was confirmed only after this was asked, or is about to be: the next denial will do.
                Some(_) => is_late = true,
                None => unwatched.push((hash, key)),
            }
        }
        if unwatched.is_empty() && !is_late {
            if state.denials.len() >= self.most && !state.denials.contains_key(&asked.check) {
                state.make_room(self.most);
            }
            let until = asked.at + Duration::from_micros(denial.least_us).min(LONGEST);
            let layouts = asked.cells.iter().map(|(_, layout, _)| Arc::clone(layout)).collect();
            let answered = Instant::now();
            let decision = decision.clone();
            let known = Denial { decision, watched, answered, until, _layouts: layouts };
            state.denials.insert(asked.check, known);
            self.metrics.remembered.inc();
        }
        for (hash, key) in unwatched {
            if !state.pay() {
                break;
            }
            if state.cells.len() >= self.most {
                state.forget();
            }
            state.cells.insert(hash, None);
            self.metrics.registrations.inc();
            let this = Arc::clone(self);
            let (connection, key, mut redis) = (asked.connection, key.clone(), redis.clone());
            tokio::spawn(async move {
                let registered = register(&mut redis, &key).await;
                this.registered(connection, hash, registered.is_ok());
            });
        }
    }

    /// Numbers a connection that is about to be made.
    pub(super) fn next_connection(&self) -> u64 {
        let mut state = self.lock();
        state.connections += 1;
        state.connections
    }

    /// Uses a connection from now on; it tells of writes.
    pub(super) fn connected(&self, number: u64, redis: MultiplexedConnection) {
        let mut state = self.lock();
        state.forget();
        if state.link.replace((number, redis)).is_none() {
            self.metrics.tracking.inc();
        }
    }

    /// There is no such connection any more, and so nobody to tell of writes.
    pub(super) fn disconnected(&self) {
        let mut state = self.lock();
        state.forget();
        if state.link.take().is_some() {
            self.metrics.tracking.dec();
        }
    }

    /// Takes in what Redis pushed over a connection.
    pub(super) fn pushed(&self, number: u64, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        let mut state = self.lock();
        if state.link.as_ref().is_none_or(|(current, _)| *current != number) {
            return;
        }
        match push.data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        state.cells.remove(&self.hash(key));
                    }
                }
                self.metrics.invalidations.inc_by(keys.len() as u64);
            }
            // Everything is gone, or it is not what we know: nothing is believed any more.
            _ => {
                state.forget();
                self.metrics.invalidations.inc();
            }
        }
    }

    fn registered(&self, connection: u64, cell: u128, is_done: bool) {
        let mut state = self.lock();
        if state.link.as_ref().is_none_or(|(current, _)| *current != connection) {
            return;
        }
        state.confirmed += 1;
        let confirmed = state.confirmed;
        // Absent if it was written meanwhile.
        if let Some(interest) = state.cells.get_mut(&cell) {
            if is_done {
                *interest = Some(confirmed);
            } else {
                state.cells.remove(&cell);
            }
        }
    }

    /// Tells a check from all others: by its keys, limits and costs, and by what it was prepared.
    fn fingerprint(&self, check: &Check<'_>) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        for CellCheck { key, layout, cost, enforced } in &check.cells {
            hasher.write_usize(key.len());
            hasher.write(key);
            hasher.write_usize(Arc::as_ptr(layout).addr());
            hasher.write_u64(*cost << 1 | u64::from(*enforced));
        }
        if let Some(Fence { organization, generation }) = check.fence {
            hasher.write(organization.as_bytes());
            hasher.write_u64(generation);
        }
        hasher.finish128().as_u128()
    }

    fn hash(&self, key: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        hasher.finish128().as_u128()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.cells.clear();
        self.denials.clear();
    }

    /// Makes room for a denial: by what is past, or else by everything.
    fn make_room(&mut self, most: usize) {
        let now = Instant::now();
        self.denials.retain(|_, denial| denial.until > now);
        if self.denials.len() >= most {
            self.denials.clear();
        }
    }

    /// Whether a registration can be paid for; then it is.
    fn pay(&mut self) -> bool {
        let seconds = self.credited.elapsed().as_secs();
        if seconds > 0 {
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(CREDIT_PER_SECOND);
            self.credit = self.credit.saturating_add(earned).min(MOST_CREDIT);
            self.credited = Instant::now();
        }
        let can_pay = self.credit >= PRICE;
        if can_pay {
            self.credit -= PRICE;
        }
        can_pay
    }
}

/// What matters of a denial.
struct Facts {
    /// Place of the enforced cell that is longest in coming free.
    cell: usize,
    /// Microseconds until the first of the exceeded limits has room.
    least_us: u64,
}

impl Facts {
    fn of(asked: &Asked, decision: &Decision) -> Option<Self> {
        let mut outcomes = decision.outcomes.iter();
        let mut longest: Option<(u64, usize)> = None;
        for (place, (_, layout, enforced)) in asked.cells.iter().enumerate() {
            let of_cell = outcomes.by_ref().take(layout.rules().len());
            let retry_us = of_cell.map(|outcome| outcome.retry_after_us).max().unwrap_or_default();
            if *enforced && retry_us > 0 && longest.is_none_or(|(known, _)| retry_us > known) {
                longest = Some((retry_us, place));
            }
        }
        let exceeded = decision.outcomes.iter().filter(|outcome| outcome.exceeded());
        let least_us = exceeded.map(|outcome| outcome.retry_after_us).min()?;
        longest.map(|(_, cell)| Self { cell, least_us })
    }
}

/// Makes the connection tell of writes, of those keys in which interest is registered.
///
/// # Errors
///
/// If Redis is older than 6.0, or the user may not.
pub(super) async fn track(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    let _: () = redis::cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN").query_async(redis).await?;
    // Tried once, so that what the user may not shows now; a node that sends the key elsewhere lets the user.
    match register(redis, b"tg2:probe").await {
        Err(error) if matches!(call::failure(&error), Failure::Elsewhere(_) | Failure::Down) => Ok(()),
        result => result,
    }
}

/// Registers interest in the next write of a key.
async fn register(redis: &mut MultiplexedConnection, key: &[u8]) -> RedisResult<()> {
    // In one piece: it is about the command that follows.
    let mut pair = Pipeline::with_capacity(2);
    pair.cmd("CLIENT").arg("CACHING").arg("YES").cmd("EXISTS").arg(key);
    for answer in redis.send_packed_commands(&pair, 0, 2).await? {
        answer.extract_error()?;
    }
    Ok(())
}
