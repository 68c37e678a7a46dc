//! The task that sends what waits, and keeps the connection.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tidegate_chassis::breaker::{Breaker, BreakerState};
use tokio::time::{Instant, timeout};

use super::{
    RedisBackend,
    alarm::Alarm,
    batch::{Batch, Swept},
    call::{Done, Failure, call, failure},
    connection::{Connection, Connector},
    metrics::{CallOutcome, StoreMetrics},
    queue::{Linked, Queue},
    tls::explained,
};
use crate::store::StoreError;

/// How often an open breaker is asked whether it is time for a probe.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// How many reasons are told of one outage.
const MOST_TOLD: usize = 4;

/// Sends batches, judges the outcome, probes, reconnects. One a worker and node, on the worker's runtime.
pub(super) struct Coalescer {
    queue: Arc<Queue>,
    /// The node, for people.
    name: Arc<str>,
    connector: Connector,
    breaker: Arc<Breaker>,
    metrics: StoreMetrics,
    started: Instant,
    /// Of each lane.
    calls_in_flight: usize,
    deadline: Duration,
    connect_timeout: Duration,
    connection: Option<Connection>,
    connecting: Option<BoxFuture<'static, RedisResult<Connection>>>,
    /// Ends when the link leads elsewhere.
    switched: BoxFuture<'static, ()>,
    /// Connections that failed in a row.
    failures: u32,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Sent and not yet answered, with the time at which the connection is given up for it.
    sent: Vec<(Instant, Arc<Batch>)>,
    probing: Option<BoxFuture<'static, RedisResult<()>>>,
    /// What was told of an outage, so that it is told once, and its end too.
    told: Vec<String>,
    sweep: Alarm,
    probe: Alarm,
}

/// What woke the coalescer.
enum Event {
    Called(Done),
    Filled,
    Due,
    Connected(RedisResult<Connection>),
    Lost,
    Switched,
    Probe,
    Probed(RedisResult<()>),
}

impl Coalescer {
    pub(super) fn new(
        backend: &RedisBackend,
        name: Arc<str>,
        connector: Connector,
        breaker: Arc<Breaker>,
        queue: Arc<Queue>,
    ) -> Self {
        // Where calls are about one slot each there are enough of them.
        let calls_in_flight = if connector.is_in_cluster() { 1 } else { backend.config.calls_in_flight };
        Self {
            queue,
            name,
            breaker,
            switched: connector.clone().switched().boxed(),
            connecting: Some(connector.clone().connect(0).boxed()),
            connector,
            metrics: backend.metrics.clone(),
            started: backend.started,
            calls_in_flight,
            deadline: backend.config.deadline.get(),
            connect_timeout: backend.config.connect_timeout.get(),
            connection: None,
            failures: 0,
            calls: FuturesUnordered::new(),
            sent: Vec::new(),
            probing: None,
            told: Vec::new(),
            sweep: Alarm::new(),
            probe: Alarm::new(),
        }
    }

    /// Runs until the queue is closed.
    pub(super) async fn run(mut self) {
        while !self.queue.is_closed() {
            let event = self.next_event().await;
            self.take(event);
            // Also when other events come so thick that the alarm is never heard.
            if self.sweep.is_due() {
                self.sweep();
            }
            self.send();
        }
    }

    async fn next_event(&mut self) -> Event {
        let lost = self.connection.as_ref().map(|connection| Arc::clone(&connection.lost));
        tokio::select! {
            biased;
            Some(done) = self.calls.next() => Event::Called(done),
            () = async { match lost { Some(lost) => lost.notified().await, None => pending().await } } => Event::Lost,
            () = self.queue.filled() => Event::Filled,
            () = &mut self.switched => Event::Switched,
            () = self.sweep.rings() => Event::Due,
            connected = ready(&mut self.connecting) => Event::Connected(connected),
            probed = ready(&mut self.probing) => Event::Probed(probed),
            () = self.probe.rings() => {
                self.probe.unset();
                Event::Probe
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            // What waits is sent, and what is late is swept, in any case.
            Event::Filled | Event::Due => {}
            Event::Called(done) => self.called(done),
            Event::Connected(result) => {
                self.connecting = None;
                self.connected(result);
            }
            Event::Lost => self.disconnect("the connection to Redis was lost"),
            Event::Switched => self.switch(),
            Event::Probe => self.start_probe(),
            Event::Probed(result) => {
                self.probing = None;
                self.probed(&result);
            }
        }
    }

    /// Sends what waits, as far as calls are free; an open breaker answers it instead.
    fn send(&mut self) {
        if self.breaker.state() != BreakerState::Closed {
            self.queue.fail(StoreError::BreakerOpen);
            self.probe.set_at_latest(Instant::now() + PROBE_EVERY);
            return;
        }
        while let Some(connection) = &self.connection
            && let Some(batch) = self.queue.pop(|lane| {
                lane.alone
                    || self.sent.iter().filter(|(_, batch)| batch.lane() == lane).count()
                        < self.calls_in_flight
            })
        {
            if !batch.is_awaited() {
                continue;
            }
            let (command, checks, encoder) = batch.command(&connection.sha);
            self.sent.push((Instant::now() + self.connect_timeout, Arc::clone(&batch)));
            self.calls.push(call(connection.clone(), command, batch, checks, encoder).boxed());
        }
        if !self.sent.is_empty() || !self.queue.is_empty() {
            self.sweep.set_at_latest(Instant::now() + self.deadline);
        }
    }

    fn called(&mut self, done: Done) {
        let Done { batch, encoder, checks, sent_at, outcome } = done;
        self.queue.give_back(encoder);
        self.sent.retain(|(_, sent)| !Arc::ptr_eq(sent, &batch));
        let lost = outcome.as_ref().is_err_and(RedisError::is_unrecoverable_error);
        let demoted =
            outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly));
        if let Err(error) = outcome.as_ref()
            && !matches!(failure(error), Failure::Elsewhere(_))
        {
            self.failed(&format!("Redis did not decide: {error}"));
        }
        let given = batch.finish(outcome.map_err(|error| failure(&error)));
        // A node that sends callers elsewhere is well.
        let is_well = matches!(given, Ok(()) | Err(Failure::Elsewhere(_)));
        self.metrics.called(
            checks,
            sent_at.elapsed(),
            given.err().map_or(CallOutcome::Answered, |failure| CallOutcome::from(&failure)),
        );
        // An answer that came too late has been counted as a failure by the sweep.
        if !is_well || batch.is_awaited() {
            self.record(is_well);
        }
        if lost || demoted {
            self.disconnect("the connection to Redis broke");
        }
    }

    /// Answers those whose deadline has passed. Each batch in which it did is one failure.
    fn sweep(&mut self) {
        self.sweep.unset();
        let now = Instant::now();
        if self.sent.iter().any(|(give_up_at, _)| *give_up_at <= now) {
            // Redis may be well, and only this connection lead into the void.
            self.disconnect("Redis did not answer a call for as long as connecting may take");
        }
        let sent: Vec<Swept> = self.sent.iter().map(|(_, batch)| batch.sweep(now)).collect();
        for swept in sent.into_iter().chain([self.queue.sweep(now)]) {
            self.metrics.timed_out(swept.expired);
            for _ in 0..swept.late {
                self.failed("Redis did not answer within the deadline");
                self.record(false);
            }
            if let Some(next) = swept.next {
                self.sweep.set_at_latest(next);
            }
        }
        if let Some(give_up_at) = self.sent.iter().map(|(give_up_at, _)| *give_up_at).min() {
            self.sweep.set_at_latest(give_up_at);
        }
    }

    fn connected(&mut self, result: RedisResult<Connection>) {
        match result {
            Ok(connection) => {
                tracing::info!(node = &*self.name, "connected to Redis");
                self.failures = 0;
                self.metrics.connections.inc();
                self.queue.set_link(Linked::Up(connection.redis.clone()));
                if let Some(number) = connection.tracking {
                    self.connector.denied().connected(number, connection.redis.clone());
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                self.not_connected(&error);
                self.failures = self.failures.saturating_add(1);
                self.record(false);
                self.queue.set_link(Linked::Down);
                self.queue.fail(StoreError::Disconnected);
                self.connecting = Some(self.connector.clone().connect(self.failures).boxed());
            }
        }
    }

    /// Gives up the connection and makes another. Checks wait for it as long as they may.
    fn disconnect(&mut self, why: &str) {
        if self.connection.take().is_none() {
            return;
        }
        self.failed(why);
        self.metrics.connections.dec();
        self.connector.denied().disconnected();
        self.probing = None;
        // Their answers cannot come any more; whether they were charged is not known.
        self.calls.clear();
        for (_, batch) in self.sent.drain(..) {
            if batch.finish(Err(StoreError::Disconnected.into())).is_err() {
                self.breaker.record(false, micros_since(self.started));
            }
        }
        self.queue.set_link(Linked::Connecting);
        self.connecting = Some(self.connector.clone().connect(0).boxed());
    }

    /// Goes where the link leads now.
    fn switch(&mut self) {
        self.switched = self.connector.clone().switched().boxed();
        self.disconnect("the sentinels name another master");
        self.failures = 0;
        self.connecting = Some(self.connector.clone().connect(0).boxed());
    }

    fn start_probe(&mut self) {
        let Some(connection) = &self.connection else { return };
        if self.probing.is_some()
            || self.breaker.state() == BreakerState::Closed
            || !self.breaker.try_acquire(micros_since(self.started))
        {
            return;
        }
        let (mut redis, patience) = (connection.redis.clone(), self.connect_timeout);
        let connector = self.connector.clone();
        let probe = async move {
            let timed_out = || Err((ErrorKind::Io, "the probe was not answered").into());
            timeout(patience, connector.probe(&mut redis)).await.unwrap_or_else(|_| timed_out())
        };
        self.probing = Some(probe.boxed());
    }

    fn probed(&mut self, result: &RedisResult<()>) {
        self.record(result.is_ok());
        match result {
            Ok(()) if self.breaker.state() == BreakerState::Closed => {}
            // The next one need not wait.
            Ok(()) => self.start_probe(),
            // It may be a connection into the void.
            Err(_) => self.disconnect("Redis did not answer a probe"),
        }
    }

    fn record(&mut self, success: bool) {
        self.breaker.record(success, micros_since(self.started));
        if success && !self.told.is_empty() && self.breaker.state() == BreakerState::Closed {
            self.told.clear();
            tracing::info!(node = &*self.name, "Redis decides again");
        }
    }

    /// Tells of an outage once.
    fn failed(&mut self, what: &str) {
        if self.told.is_empty() {
            self.tell(what.to_owned());
        }
    }

    /// Tells why there is no connection, also when checks that waited for it have been told of before: that says more.
    fn not_connected(&mut self, error: &RedisError) {
        let what = format!("cannot connect to Redis: {}", explained(error));
        if self.told.len() < MOST_TOLD && !self.told.contains(&what) {
            self.tell(what);
        }
    }

    fn tell(&mut self, what: String) {
        tracing::warn!(
            node = &*self.name,
            failure = what,
            "Redis fails; policies are answered by their failure modes"
        );
        self.told.push(what);
    }
}

/// Also when the task panics: nobody waits for what cannot come any more.
impl Drop for Coalescer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the task that sends checks to Redis has failed; this worker answers by failure modes"
            );
        }
        if self.connection.is_some() {
            self.metrics.connections.dec();
        }
        self.connector.denied().disconnected();
        self.queue.close();
        for (_, batch) in self.sent.drain(..) {
            // There is nothing left to judge the connection by.
            let _ = batch.finish(Err(StoreError::Disconnected.into()));
        }
        self.queue.fail(StoreError::Disconnected);
    }
}

fn micros_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Waits for what is under way, for ever if nothing is.
async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
