//! The way of one worker to one node.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    RedisBackend,
    batch::{Answered, Lane},
    call::Failure,
    coalescer::Coalescer,
    connection::{Connector, Origin},
    denied::Denied,
    history::History,
    queue::Queue,
};
use crate::{domain::Check, store::StoreError};

/// A queue of checks, and a task on the current runtime that sends them and keeps the connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) queue: Arc<Queue>,
    /// The node, for people and for its breaker.
    pub(super) name: Arc<str>,
    pub(super) history: Arc<History>,
    pub(super) denied: Arc<Denied>,
}

impl Link {
    /// The node need not be there yet.
    pub(super) fn open(backend: &RedisBackend, name: &str, origin: Origin) -> Self {
        let name = Arc::from(name);
        let history = Arc::new(History::new());
        let denied = Denied::new(backend.config.denied_keys, &backend.random, backend.metrics.denied.clone());
        let connector = Connector::new(
            origin,
            Arc::clone(&history),
            Arc::clone(&denied),
            backend.config.connect_timeout.get(),
            backend.random.clone(),
            backend.metrics.clone(),
        );
        let queue = Arc::new(Queue::new(backend.config.max_batch));
        let breaker = backend.breakers.of(&name);
        tokio::spawn(
            Coalescer::new(backend, Arc::clone(&name), connector, breaker, Arc::clone(&queue)).run(),
        );
        Self { queue, name, history, denied }
    }

    /// Sends a check with those that wait, and remembers its denial.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`].
    pub(super) fn ask(
        &self,
        check: &Check<'_>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<impl Future<Output = Result<Answered, Failure>> + use<>, StoreError> {
        // Before it is sent.
        let asked = self.denied.ask(check, lane.beside);
        let pending = self.queue.push(check, lane, deadline)?;
        let denied = Arc::clone(&self.denied);
        Ok(async move {
            let answered = pending.await?;
            if let Some(asked) = asked {
                denied.learn(&asked, &answered.decision);
            }
            Ok(answered)
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.queue.close();
    }
}
