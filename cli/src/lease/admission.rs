//! Asks for a lease so that none is left behind which nobody knows of.

use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate_chassis::clock::Random;
use tidegate_proto::ratelimit::v1::{AcquireLeaseRequest, CheckResponse, Code};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Wanted, ask,
    run::{Caught, release},
};
use crate::client::Connection;

/// Between two tries while it is denied: a place may come free at any time.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// For the answer to a request that is repeated: who has sent a signal waits for it.
const TO_REPEAT: Duration = Duration::from_secs(1);

/// What came of asking.
pub(super) enum Admission {
    /// The first decision that is no denial, or the last, and when it was asked for.
    Decided(Box<CheckResponse>, Instant),
    /// A signal came before.
    Caught(Signal),
}

/// Asks until it is admitted, `wait` has passed or a signal comes. Then nothing is held that is not told.
pub(super) async fn admission(
    channel: &Connection,
    wanted: &Wanted,
    wait: Duration,
    signals: &mut Caught,
) -> anyhow::Result<Admission> {
    let random = Random::system();
    let give_up_at = Instant::now() + wait;
    loop {
        // A key of its own for each try, by which its lease is found if its answer is not.
        let request = wanted.request(format!("{:016x}{:016x}", random.u64(), random.u64()));
        let asked = Instant::now();
        let answer = tokio::select! {
            answer = ask(channel, request.clone()) => answer,
            caught = signals.next() => {
                undo(channel, request).await;
                return Ok(Admission::Caught(caught));
            }
        };
        if answer.as_ref().map_or(true, is_unknown) {
            undo(channel, request).await;
        }
        let decision = answer?;
        let left = give_up_at.saturating_duration_since(Instant::now());
        if decision.allowed || left.is_zero() {
            return Ok(Admission::Decided(Box::new(decision), asked));
        }
        let pause = Duration::from_millis(decision.retry_after_ms).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::select! {
            () = sleep(pause.min(left)) => {}
            caught = signals.next() => return Ok(Admission::Caught(caught)),
        }
    }
}

/// Whether the store did not answer: it may have granted a lease all the same.
fn is_unknown(decision: &CheckResponse) -> bool {
    decision.code() == Code::StoreUnavailable
}

/// Gives back what a request may have been granted whose answer is not known: repeated with its key it is answered the same
/// lease. Without an answer in time, a lease that it was granted expires by itself.
async fn undo(channel: &Connection, request: AcquireLeaseRequest) {
    let repeated = async {
        loop {
            match ask(channel, request.clone()).await {
                Ok(decision) if is_unknown(&decision) => sleep(SHORTEST_PAUSE).await,
                answer => return answer,
            }
        }
    };
    if let Ok(Ok(CheckResponse { lease: Some(lease), .. })) = timeout(TO_REPEAT, repeated).await {
        release(channel.clone(), lease.id).await;
    }
}
