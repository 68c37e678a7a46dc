//! Checks that travel together, and the callers that wait for them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use redis::Cmd;
use tokio::time::Instant;

use super::{
    call::Failure,
    encode::{self, Encoder},
};
use crate::{
    domain::{Check, Decision},
    store::StoreError,
};

/// Which checks may travel together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    /// Slot of the cluster; 0 where there is no cluster.
    pub(super) slot: u16,
    /// Whether each travels alone: while a slot moves, a node takes calls only whose keys are all there.
    pub(super) alone: bool,
    /// Whether the node is to take the call although the slot is only moving there.
    pub(super) asking: bool,
    /// Whether the fence of a check lies beside its keys: on a cluster.
    pub(super) beside: bool,
}

/// Checks that go to Redis in one call. Locked only within its worker's thread, so never contended.
#[derive(Debug)]
pub(super) struct Batch {
    lane: Lane,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Present until the batch is sent.
    encoder: Option<Encoder>,
    entries: Vec<Entry>,
    /// Whether a deadline has passed.
    late: bool,
    outcome: Option<Result<Vec<u8>, Failure>>,
}

#[derive(Debug)]
struct Entry {
    deadline: Instant,
    waker: Option<Waker>,
    /// Where its answer starts in that of the batch.
    offset: usize,
    length: usize,
    expired: bool,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Swept {
    /// Checks answered [`StoreError::Timeout`] now.
    pub(super) expired: usize,
    /// Batches whose first deadline has passed now.
    pub(super) late: usize,
    /// When the next one will be due; absent if none is left.
    pub(super) next: Option<Instant>,
}

impl Batch {
    pub(super) fn new(lane: Lane, encoder: Encoder) -> Self {
        let state = State { encoder: Some(encoder), entries: Vec::new(), late: false, outcome: None };
        Self { lane, state: Mutex::new(state) }
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Adds a check and answers its place.
    pub(super) fn push(&self, check: &Check<'_>, deadline: Instant) -> usize {
        let mut state = self.lock();
        let encoder = state.encoder.as_mut().expect("a batch is sent after it has left the queue");
        encoder.push(check, self.lane.beside);
        state.entries.push(Entry { deadline, waker: None, offset: 0, length: 0, expired: false });
        state.entries.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// The call for those whose deadline has not passed, and how many these are. The buffers are
    /// given back empty.
    pub(super) fn command(&self, sha: &str) -> (Cmd, usize, Encoder) {
        let mut state = self.lock();
        let mut encoder = state.encoder.take().expect("a batch is sent once");
        let command = encoder.command(sha, |index| !state.entries[index].expired);
        let (mut offset, mut count) = (encode::ANSWERS_START, 0);
        for (index, entry) in state.entries.iter_mut().enumerate().filter(|(_, entry)| !entry.expired) {
            entry.offset = offset;
            entry.length = encoder.answer_len(index);
            offset += entry.length;
            count += 1;
        }
        encoder.clear();
        (command, count, encoder)
    }

    /// Answers everyone who still waits. Bytes that are not an answer to this batch are
    /// [`StoreError::Protocol`]; what was really answered is given back.
    pub(super) fn finish(&self, outcome: Result<Vec<u8>, Failure>) -> Result<(), Failure> {
        let mut state = self.lock();
        let ends = state.entries.iter().map(|entry| entry.offset + entry.length);
        let expected = ends.max().unwrap_or_default().max(encode::ANSWERS_START);
        let outcome = outcome.and_then(|bytes| {
            if bytes.len() == expected { Ok(bytes) } else { Err(StoreError::Protocol.into()) }
        });
        let given = outcome.as_ref().map(|_| ()).map_err(Failure::clone);
        state.outcome = Some(outcome);
        for entry in &mut state.entries {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
        given
    }

    /// Answers [`StoreError::Timeout`] to those whose deadline has passed.
    pub(super) fn sweep(&self, now: Instant) -> Swept {
        let mut state = self.lock();
        let mut swept = Swept::default();
        for entry in state.entries.iter_mut().filter(|entry| !entry.expired) {
            if entry.deadline > now {
                swept.next = Some(entry.deadline);
                break;
            }
            entry.expired = true;
            swept.expired += 1;
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
        if swept.expired > 0 {
            swept.late = usize::from(!std::mem::replace(&mut state.late, true));
        }
        swept
    }

    /// Whether anyone still waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.lock().entries.iter().any(|entry| !entry.expired)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a check.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) decision: Decision,
    /// When it was decided, in Unix microseconds by the clock of Redis.
    pub(super) at_us: u64,
}

/// A check in a batch, until it is answered. If it is dropped before it was sent, it is not sent.
#[derive(Debug)]
pub(super) struct Pending {
    batch: Arc<Batch>,
    index: usize,
    answered: bool,
}

impl Pending {
    pub(super) fn new(batch: Arc<Batch>, index: usize) -> Self {
        Self { batch, index, answered: false }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let mut state = self.batch.lock();
        // Once it was sent its place in the answer is known to others.
        if state.encoder.is_some() {
            state.entries[self.index].expired = true;
        }
    }
}

impl Future for Pending {
    type Output = Result<Answered, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.batch.lock();
        let State { entries, outcome, .. } = &mut *state;
        let entry = &mut entries[this.index];
        if entry.expired {
            this.answered = true;
            return Poll::Ready(Err(StoreError::Timeout.into()));
        }
        this.answered = outcome.is_some();
        match outcome {
            None => {
                if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    entry.waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Some(Ok(answers)) => {
                let answer = &answers[entry.offset..entry.offset + entry.length];
                let at_us = encode::decided_at(answers);
                Poll::Ready(
                    encode::decode(answer)
                        .map(|decision| Answered { decision, at_us })
                        .map_err(Failure::from),
                )
            }
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
        }
    }
}
