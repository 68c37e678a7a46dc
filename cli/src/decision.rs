//! `tidegate bench-decision`: one decision without the network, for `cargo xtask bench`.
//!
//! In this binary and not in a benchmark of its own, so that the profile is that of the servers that are
//! measured beside it, and nothing has to be built for it.

use std::{process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use clap::Args;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_ratelimit::{
    limiter::{Counters, Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

use crate::bench::{PLAN, POLICIES};

const SUBJECTS: u32 = 1_000;

/// Match, decide and charge three windows in memory, on one thread; print nanoseconds per decision.
#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// Samples, each a line; as many again warm up.
    #[arg(long, default_value_t = 15)]
    samples: usize,
    /// Decisions per sample.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    decisions: u32,
}

/// Prints the samples.
pub(crate) fn run(args: &DecisionArgs) -> anyhow::Result<ExitCode> {
    let decisions = Decisions::new()?;
    for sample in 0..2 * args.samples {
        let nanos = decisions.nanos_each(args.decisions)?;
        if sample >= args.samples {
            anstream::println!("{nanos:.1}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A limiter, and whom it is asked for.
struct Decisions {
    limiter: Limiter,
    subjects: Vec<[(&'static str, String); 2]>,
}

impl Decisions {
    fn new() -> anyhow::Result<Self> {
        let policies = policies::parse(POLICIES, "the benchmark's policies", 1)?;
        let config = MemoryStoreConfig { max_bytes: 1 << 30 };
        let store = MemoryStore::new(&config, Clock::system(), &Random::system(), &Metrics::new());
        let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 1_000_000 };
        let limiter = Limiter::new(
            Arc::new(ArcSwap::from_pointee(policies)),
            Counters::Memory(Arc::new(store)),
            Clock::system(),
            Random::system(),
            settings,
        );
        let subject = |n| [("organization", format!("bench-{n:08}")), ("plan", PLAN.to_owned())];
        Ok(Self { limiter, subjects: (0..SUBJECTS).map(subject).collect() })
    }

    fn nanos_each(&self, decisions: u32) -> anyhow::Result<f64> {
        let policies = self.limiter.policies();
        let begun = Instant::now();
        for subject in self.subjects.iter().cycle().take(decisions as usize) {
            let question = Question::new("default", &subject[..]);
            let limiter = self.limiter.at_once().context("the store in memory answers at once")?;
            let verdict = limiter.check(&policies, &question)?;
            ensure!(
                verdict.allowed && verdict.limits.len() == 3,
                "not admitted by three limits: {verdict:?}"
            );
        }
        Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(decisions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_is_an_admission_by_three_limits() {
        let decisions = Decisions::new().unwrap();
        assert!(decisions.nanos_each(3 * SUBJECTS).unwrap() > 0.0);
    }
}
