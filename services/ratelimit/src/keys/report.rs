//! Telling the keys service how keys were used.
//!
//! A report has an id under which it counts once, and is sent again until it has arrived. One that is refused for what it says, of which nothing was counted then, is halved,
//! until what is wrong stands alone and is dropped. What a process that is killed had counted since its last report is lost: that of `keys.report_every`, and all that waited
//! while the keys service was away.

use std::time::Duration;

use tidegate_chassis::clock::uuid_v7;
use tidegate_proto::keys::v1::{KeyUsageEntry, ReportKeyUsageRequest};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::Keys;

/// The most counts of one report: far less than a message may hold.
const MOST: usize = 2_000;
/// For one report to be taken in: much more is written for it than is read for a look-up.
const DEADLINE: Duration = Duration::from_secs(10);

/// Tells until `stop`, and then once more.
pub(super) async fn keep_reporting(keys: Keys, stop: CancellationToken) {
    let mut reporter = Reporter { keys, waiting: Vec::new() };
    loop {
        let is_stopped =
            stop.run_until_cancelled(sleep(reporter.keys.0.config.report_every.get())).await.is_none();
        while reporter.report().await {}
        if is_stopped {
            return;
        }
    }
}

struct Reporter {
    keys: Keys,
    /// Reports that may not have arrived, and halves of one that was refused; the last is the next.
    waiting: Vec<ReportKeyUsageRequest>,
}

/// What becomes of a report that was not taken.
enum Refused {
    /// It may have arrived.
    Again,
    /// It is too long, or something of it is wrong, which is found before anything is counted. However often it is sent, that is the answer.
    AsItIs,
}

impl Reporter {
    /// Sends one report, if there is anything to tell. Answers whether there may be more.
    async fn report(&mut self) -> bool {
        let inner = &self.keys.0;
        let report = match self.waiting.pop() {
            Some(report) => report,
            None => match inner.used.take(MOST) {
                entries if entries.is_empty() => return false,
                entries => self.named(entries),
            },
        };
        // The answer is empty. However long it is, it is not refused here: OUT_OF_RANGE says of the report that it is too long.
        let mut client = inner.client.get().max_decoding_message_size(usize::MAX);
        let sent = timeout(DEADLINE, client.report_key_usage(report.clone())).await;
        let (refused, what) = match sent {
            Ok(Ok(_)) => return true,
            Ok(Err(status)) => (refused(status.code()), status.to_string()),
            Err(_) => (Refused::Again, "it took too long".to_owned()),
        };
        match refused {
            Refused::Again => {
                tracing::debug!(what, "the keys service was not told how keys were used; it will be again");
                self.waiting.push(report);
                false
            }
            Refused::AsItIs if report.entries.len() > 1 => {
                tracing::debug!(
                    what,
                    "the keys service does not take a report of how keys were used; it is halved"
                );
                let mut entries = report.entries;
                let rest = entries.split_off(entries.len() / 2);
                // Under names of their own: what was not counted counts under none.
                let halves = [self.named(rest), self.named(entries)];
                self.waiting.extend(halves);
                true
            }
            Refused::AsItIs => {
                let lost: u64 = report.entries.iter().map(|entry| entry.count).sum();
                tracing::warn!(
                    lost,
                    what,
                    "the keys service does not take what it is told of how a key was used; that is dropped"
                );
                self.keys.0.metrics.unreported.inc_by(lost);
                true
            }
        }
    }

    /// A report of its own.
    fn named(&self, entries: Vec<KeyUsageEntry>) -> ReportKeyUsageRequest {
        let inner = &self.keys.0;
        let report_id = uuid_v7(inner.clock.now_us(), &inner.random).to_string();
        ReportKeyUsageRequest { report_id, entries }
    }
}

fn refused(code: Code) -> Refused {
    match code {
        // A message that is too long.
        Code::OutOfRange | Code::InvalidArgument => Refused::AsItIs,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        // Too much is asked of the service, or of the connection, which may break after the report was counted.
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Refused::Again,
    }
}
