//! Many clients at once, and the log of what each of them saw.

use std::time::Duration;

use tidegate_proto::ratelimit::v1::{CheckRequest, CheckResponse, Code};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Status};

use crate::{checker::Admission, rpc, wall};

/// A load: closed loop, each client with a connection of its own to each service it uses.
#[derive(Clone, Debug)]
pub struct Load {
    /// Services, `HOST:PORT`; client i starts at the i-th and its retries go on to the next.
    pub addresses: Vec<String>,
    /// Clients at the same time.
    pub clients: u32,
    /// How long new checks are begun.
    pub duration: Duration,
    /// Pause of a client between two checks, on average: clients differ, so that they do not march in step.
    pub pause: Duration,
    /// Before every other whole multiple of this (UTC) clients wait for it instead of sending. No call then lies
    /// across the start of such a window, so the checker knows of each which window it was admitted in.
    pub quiet_before: Option<Duration>,
    /// What is checked.
    pub check: CheckRequest,
    /// How long a client waits for one attempt.
    pub timeout: Duration,
    /// Attempts at one check. More than one sends an idempotency key.
    pub attempts: u32,
}

impl Load {
    /// Eight clients for a second that try each check once and hardly pause.
    #[must_use]
    pub fn new(addresses: Vec<String>, check: CheckRequest) -> Self {
        Self {
            addresses,
            clients: 8,
            duration: Duration::from_secs(1),
            pause: Duration::from_millis(2),
            quiet_before: None,
            check,
            timeout: Duration::from_secs(2),
            attempts: 1,
        }
    }
}

/// What came of one check, retries included.
#[derive(Clone, Debug)]
pub struct Call {
    /// Before the first attempt, Unix microseconds.
    pub sent_us: u64,
    /// After the last attempt, Unix microseconds.
    pub received_us: u64,
    /// Attempts made.
    pub attempts: u32,
    /// The last answer.
    pub outcome: Outcome,
}

/// The last answer to a check.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A decision.
    Decided {
        /// Whether it was admitted.
        allowed: bool,
        /// The code of the decision.
        code: Code,
        /// Whether the store could not be asked.
        degraded: bool,
        /// Whether the idempotency key was known already.
        replayed: bool,
    },
    /// No decision: whether anything was charged is not known.
    Failed(Status),
}

impl Call {
    /// Whether the client was told to go on.
    #[must_use]
    pub fn admitted(&self) -> bool {
        matches!(self.outcome, Outcome::Decided { allowed: true, .. })
    }

    /// Whether the client cannot know if the check was charged.
    #[must_use]
    pub fn unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_) | Outcome::Decided { allowed: false, degraded: true, .. })
    }

    /// Time from the first attempt to the last answer.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.received_us.saturating_sub(self.sent_us))
    }
}

/// The admissions of a log, for the checker.
#[must_use]
pub fn admissions(calls: &[Call]) -> Vec<Admission> {
    calls
        .iter()
        .filter(|call| call.admitted())
        .map(|call| Admission { sent_us: call.sent_us, received_us: call.received_us })
        .collect()
}

/// Runs the load to its end.
///
/// # Errors
///
/// An address that is none.
pub async fn run(load: &Load) -> anyhow::Result<Vec<Call>> {
    let until = Instant::now() + load.duration;
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        let mut services = Vec::new();
        let from_own = load.addresses.iter().cycle().skip(number as usize % load.addresses.len());
        for address in from_own.take(load.addresses.len().min(load.attempts as usize)) {
            services.push(rpc::client(address)?);
        }
        clients.spawn(client(number, services, load.clone(), until));
    }
    Ok(clients.join_all().await.into_iter().flatten().collect())
}

async fn client(number: u32, mut services: Vec<rpc::Client>, load: Load, until: Instant) -> Vec<Call> {
    let mut calls = Vec::new();
    let pause = load.pause * (number % 32 + 16) / 32;
    while Instant::now() < until {
        if let Some(period) = load.quiet_before {
            tokio::time::sleep(quiet(period, wall::now_us())).await;
        }
        let mut check = load.check.clone();
        if load.attempts > 1 {
            check.idempotency_key = format!("{number}-{}-{}", calls.len(), wall::now_us());
        }
        let mut call = Call {
            sent_us: wall::now_us(),
            received_us: 0,
            attempts: 0,
            outcome: Outcome::Failed(timed_out()),
        };
        while call.attempts < load.attempts {
            let service = call.attempts as usize % services.len();
            call.attempts += 1;
            call.outcome = attempt(&mut services[service], &check, load.timeout).await;
            if !call.unknown() {
                break;
            }
        }
        call.received_us = wall::now_us();
        calls.push(call);
        tokio::time::sleep(pause).await;
    }
    calls
}

/// How long a client keeps quiet now, Unix microseconds: longer than a call takes, on a machine that is not too busy.
fn quiet(period: Duration, now_us: u64) -> Duration {
    let two = 2 * wall::micros(period);
    let left = Duration::from_micros(two - now_us % two);
    if left < Duration::from_millis(25) { left } else { Duration::ZERO }
}

async fn attempt(service: &mut rpc::Client, check: &CheckRequest, timeout: Duration) -> Outcome {
    let mut request = Request::new(check.clone());
    request.set_timeout(timeout);
    match tokio::time::timeout(timeout, service.check(request)).await {
        Ok(Ok(answer)) => decided(&answer.into_inner()),
        Ok(Err(status)) => Outcome::Failed(status),
        Err(_) => Outcome::Failed(timed_out()),
    }
}

fn decided(answer: &CheckResponse) -> Outcome {
    Outcome::Decided {
        allowed: answer.allowed,
        code: answer.code(),
        degraded: answer.degraded,
        replayed: answer.replayed,
    }
}

fn timed_out() -> Status {
    Status::deadline_exceeded("the client waited no longer")
}
