//! What was found: measurements, figures, and what they must reach.

use serde::Serialize;
use serde_json::Value;

use super::{Bench, load::Sample, machine::Machine, server::Server};

/// What a figure must reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is shown only.
    None,
}

/// All measurements of one server under one shape of load.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) load: String,
    pub(super) server: String,
    pub(super) checks_per_second: Vec<f64>,
    pub(super) server_cpu_us: Vec<f64>,
    pub(super) redis_cpu_us: Vec<f64>,
    pub(super) p50_us: Vec<f64>,
    pub(super) p99_us: Vec<f64>,
    /// What the generator said, round by round.
    pub(super) reports: Vec<Value>,
}

/// One figure of every round, and what it must reach.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) rounds: Vec<f64>,
    pub(super) target: Target,
}

/// Everything that was found, in the order in which it was measured first.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
    pub(super) figures: Vec<Figure>,
    /// Parts that could not be measured, and why.
    pub(super) failures: Vec<String>,
    /// What a reader should know besides.
    pub(super) notes: Vec<String>,
}

impl Results {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new(), figures: Vec::new(), failures: Vec::new(), notes: Vec::new() }
    }

    /// Measures one more round of a row. `shape` is its name and the arguments of `tidegate bench`.
    ///
    /// # Errors
    /// As [`Load::measure`](super::load::Load::measure).
    pub(super) fn measure(
        &mut self,
        bench: &Bench,
        (load, args): (&str, &[&str]),
        server: &Server,
    ) -> anyhow::Result<Sample> {
        let sample = bench.load.measure(server, args)?;
        self.row(load, &server.name).take(&sample);
        Ok(sample)
    }

    /// The same of a server whose limits are used up.
    ///
    /// # Errors
    /// As [`Load::measure_denied`](super::load::Load::measure_denied).
    pub(super) fn measure_denied(
        &mut self,
        bench: &Bench,
        (load, args): (&str, &[&str]),
        server: &Server,
    ) -> anyhow::Result<Sample> {
        let sample = bench.load.measure_denied(server, args)?;
        self.row(load, &server.name).take(&sample);
        Ok(sample)
    }

    /// One more round of a ratio.
    pub(super) fn ratio(&mut self, name: &str, value: f64, target: Target) {
        self.figure(name, value, "×", target);
    }

    /// One more round of a figure.
    pub(super) fn figure(&mut self, name: &str, value: f64, unit: &'static str, target: Target) {
        if let Some(known) = self.figures.iter_mut().find(|figure| figure.name == name) {
            known.rounds.push(value);
        } else {
            self.figures.push(Figure { name: name.to_owned(), unit, rounds: vec![value], target });
        }
    }

    /// Whether everything could be measured and every target is met.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.figures.iter().all(|figure| figure.is_met() != Some(false))
    }

    fn row(&mut self, load: &str, server: &str) -> &mut Row {
        let known = self.rows.iter().position(|row| row.load == load && row.server == server);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row::new(load, server));
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

impl Row {
    fn new(load: &str, server: &str) -> Self {
        Self {
            load: load.to_owned(),
            server: server.to_owned(),
            checks_per_second: Vec::new(),
            server_cpu_us: Vec::new(),
            redis_cpu_us: Vec::new(),
            p50_us: Vec::new(),
            p99_us: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.checks_per_second.push(sample.checks_per_second);
        self.server_cpu_us.push(sample.server_us);
        self.redis_cpu_us.extend(sample.redis_us);
        self.p50_us.push(sample.p50_us);
        self.p99_us.push(sample.p99_us);
        self.reports.push(sample.report.clone());
    }
}

impl Figure {
    /// Whether the median meets the target, if there is one.
    pub(super) fn is_met(&self) -> Option<bool> {
        let median = median(&self.rounds);
        match self.target {
            Target::AtMost(most) => Some(median <= most),
            Target::AtLeast(least) => Some(median >= least),
            Target::None => None,
        }
    }
}

/// The middle value; of an even number the lower of the two.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        Results::new(Machine { processor: String::new(), cores: 2, kernel: String::new(), busy: 0.0 })
    }

    #[test]
    fn median_of_the_rounds_decides() {
        let mut results = results();
        for value in [9.9, 1.1, 1.2] {
            results.ratio("cost", value, Target::AtMost(1.25));
        }
        assert_eq!(results.figures[0].is_met(), Some(true));
        assert!(results.is_good());
        results.ratio("cost", 1.3, Target::AtMost(1.25));
        results.ratio("cost", 1.3, Target::AtMost(1.25));
        assert_eq!(results.figures[0].is_met(), Some(false));
        assert!(!results.is_good());
    }

    #[test]
    fn figure_without_rounds_to_speak_of_meets_nothing() {
        let figure =
            Figure { name: String::new(), unit: "×", rounds: vec![f64::NAN], target: Target::AtLeast(8.0) };
        assert_eq!(figure.is_met(), Some(false));
    }

    #[test]
    fn failed_part_is_not_good_and_a_figure_that_is_only_shown_is() {
        let mut results = results();
        results.figure("memory", 1e9, "B", Target::None);
        assert!(results.is_good());
        results.failures.push("redis-server is not there".to_owned());
        assert!(!results.is_good());
    }
}
