//! Where checks wait for a free call.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::aio::MultiplexedConnection;
use tokio::{sync::Notify, time::Instant};

use super::{
    batch::{Batch, Lane, Pending, Swept},
    call::Failure,
    encode::Encoder,
};
use crate::{domain::Check, store::StoreError};

/// Checks of one worker for one node that have not been sent yet. Locked only within the worker's thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the coalescer when there is another batch, since its lane may be free, or the queue is closed.
    filled: Notify,
    /// Wakes who waits for a connection.
    linked: Notify,
    max_batch: usize,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Arc<Batch>>,
    link: Linked,
    spare: Vec<Encoder>,
    closed: bool,
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub(super) enum Linked {
    /// Not yet, or it was lost a moment ago: checks wait for it, within their deadline.
    Connecting,
    /// Here it is.
    Up(MultiplexedConnection),
    /// It could not be made: checks fail at once.
    Down,
}

impl Queue {
    pub(super) fn new(max_batch: usize) -> Self {
        let state =
            State { batches: VecDeque::new(), link: Linked::Connecting, spare: Vec::new(), closed: false };
        Self { state: Mutex::new(state), filled: Notify::new(), linked: Notify::new(), max_batch }
    }

    /// Puts a check into the last batch of its lane, or a new one if that is full. After `deadline` it is answered
    /// [`StoreError::Timeout`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Disconnected`] without a connection.
    pub(super) fn push(
        &self,
        check: &Check<'_>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Pending, StoreError> {
        let mut state = self.lock();
        if state.closed || matches!(state.link, Linked::Down) {
            return Err(StoreError::Disconnected);
        }
        let mut is_new = false;
        let batch = match state.batches.iter().rev().find(|batch| batch.lane() == lane) {
            Some(batch) if !lane.alone && batch.len() < self.max_batch => batch.clone(),
            Some(_) | None => {
                let batch = Arc::new(Batch::new(lane, state.spare.pop().unwrap_or_default()));
                state.batches.push_back(batch.clone());
                is_new = true;
                batch
            }
        };
        let pushed = batch.push(check, deadline);
        drop(state);
        if is_new {
            self.filled.notify_one();
        }
        Ok(Pending::new(batch, pushed))
    }

    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes out the batch that has waited longest, of those lanes that are `free`.
    pub(super) fn pop(&self, free: impl Fn(Lane) -> bool) -> Option<Arc<Batch>> {
        let mut state = self.lock();
        let place = state.batches.iter().position(|batch| free(batch.lane()))?;
        state.batches.remove(place)
    }

    /// Keeps buffers for another batch.
    pub(super) fn give_back(&self, encoder: Encoder) {
        let mut state = self.lock();
        if state.spare.len() < 4 {
            state.spare.push(encoder);
        }
    }

    /// Answers everyone in the queue.
    pub(super) fn fail(&self, error: StoreError) {
        let batches = std::mem::take(&mut self.lock().batches);
        for batch in batches {
            // It was never sent, so there is nothing to judge the connection by.
            let _ = batch.finish(Err(Failure::Refused(error)));
        }
    }

    /// Sweeps every batch; those in which nobody waits any more are dropped, and so never sent.
    pub(super) fn sweep(&self, now: Instant) -> Swept {
        let mut state = self.lock();
        let mut swept = Swept::default();
        state.batches.retain(|batch| {
            let one = batch.sweep(now);
            swept.expired += one.expired;
            swept.late += one.late;
            swept.next = swept.next.into_iter().chain(one.next).min();
            one.next.is_some()
        });
        swept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// The connection, once there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disconnected`] if it could not be made.
    pub(super) async fn connection(&self) -> Result<MultiplexedConnection, StoreError> {
        loop {
            let linked = self.linked.notified();
            match &self.lock().link {
                Linked::Up(connection) => return Ok(connection.clone()),
                Linked::Down => return Err(StoreError::Disconnected),
                Linked::Connecting => {}
            }
            linked.await;
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_linked(&self) -> bool {
        matches!(self.lock().link, Linked::Up(_))
    }

    pub(super) fn set_link(&self, link: Linked) {
        self.lock().link = link;
        self.linked.notify_waiters();
    }

    /// Refuses checks from now on and wakes the coalescer, which ends.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        domain::Algorithm,
        store::conformance::{cell, check, hourly},
    };

    #[tokio::test]
    async fn another_batch_wakes_who_sends_though_others_wait() {
        let queue = Queue::new(2);
        let one = check(&[cell("one", &[hourly(Algorithm::SlidingWindow, 9)])]);
        let lane = |slot| Lane { slot, ..Lane::default() };
        let wakes = |slot| {
            let pending = queue.push(&one, lane(slot), Instant::now());
            assert!(pending.is_ok());
            queue.filled().now_or_never().is_some()
        };
        assert!(wakes(1));
        assert!(!wakes(1), "it goes with the first");
        assert!(wakes(1), "the first batch is full");
        assert!(wakes(2), "its lane may be free while the other is not");
    }
}
