//! Telling the keys service how keys were used.
//!
//! A report has an id under which it counts once, and is sent again until it has arrived. What a process that is killed had counted since its
//! last report is lost: that of `keys.report_every`, and all that waited while the keys service was away.

use std::time::Duration;

use tidegate_chassis::clock::uuid_v7;
use tidegate_proto::keys::v1::ReportKeyUsageRequest;
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
    let mut reporter = Reporter { keys, waiting: None };
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
    /// A report that may not have arrived.
    waiting: Option<ReportKeyUsageRequest>,
}

impl Reporter {
    /// Sends one report, if there is anything to tell. Answers whether there may be more.
    async fn report(&mut self) -> bool {
        let inner = &self.keys.0;
        let report = match self.waiting.take() {
            Some(report) => report,
            None => {
                let entries = inner.used.take(MOST);
                if entries.is_empty() {
                    return false;
                }
                let report_id = uuid_v7(inner.clock.now_us(), &inner.random).to_string();
                ReportKeyUsageRequest { report_id, entries }
            }
        };
        let mut client = inner.client.get();
        let sent = timeout(DEADLINE, client.report_key_usage(report.clone())).await;
        let failure = match sent {
            Ok(Ok(_)) => return true,
            // However often it is sent, that is the answer, and nothing that comes later would be told.
            Ok(Err(status)) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                let lost: u64 = report.entries.iter().map(|entry| entry.count).sum();
                tracing::warn!(lost, %status, "the keys service does not take a report of how keys were used; it is dropped");
                inner.metrics.unreported.inc_by(lost);
                return true;
            }
            Ok(Err(status)) => status.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        tracing::debug!(failure, "the keys service was not told how keys were used; it will be again");
        self.waiting = Some(report);
        false
    }
}
