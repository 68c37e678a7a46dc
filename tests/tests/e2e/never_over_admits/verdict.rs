//! What the clients' log says of one run.

use std::fmt;

use anyhow::Context;
use tidegate_tests::{
    checker::Peak,
    load::{self, Call},
};

use super::cases::Case;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) namespace: &'static str,
    pub(super) checks: usize,
    pub(super) retried: usize,
    pub(super) admitted: u64,
    pub(super) unknown: u64,
    pub(super) most: u64,
    pub(super) peaks: Vec<Peak>,
    /// Admissions across an edge of each peak: the excess that the judge could overlook there.
    pub(super) blind: Vec<u64>,
}

impl Verdict {
    pub(super) fn of(case: &Case, calls: &[Call]) -> anyhow::Result<Self> {
        let log = load::admissions(calls);
        let from = calls.iter().map(|call| call.sent_us).min().context("there were calls")?;
        let to = calls.iter().map(|call| call.received_us).max().context("there were calls")?;
        let uncertain = |call: &&Call| !call.admitted() && (call.unknown() || call.attempts > 1);
        let peaks: Vec<_> = case.rules.iter().filter_map(|rule| rule.worst(&log)).collect();
        Ok(Self {
            namespace: case.namespace,
            checks: calls.len(),
            retried: calls.iter().filter(|call| call.attempts > 1).count(),
            admitted: log.len() as u64,
            unknown: calls.iter().filter(uncertain).count() as u64,
            most: case.rules.iter().map(|rule| rule.most(from, to)).min().unwrap_or_default(),
            blind: peaks.iter().map(|peak| peak.straddling(&log)).collect(),
            peaks,
        })
    }
}

pub(super) const HEADER: &str = "namespace        checks  retried unknown admitted    most  under  busiest intervals (admitted/allowed ~blind)   charged";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peaks = self.peaks.iter().zip(&self.blind);
        let peaks: Vec<_> =
            peaks.map(|(p, blind)| format!("{}/{} ~{blind}", p.admitted, p.allowed)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let under = 100.0 - 100.0 * self.admitted as f64 / self.most as f64;
        write!(
            f,
            "{:<15} {:>7} {:>8} {:>7} {:>8} {:>7} {under:>5.1}%  {:<45}",
            self.namespace,
            self.checks,
            self.retried,
            self.unknown,
            self.admitted,
            self.most,
            peaks.join(" ")
        )
    }
}
