//! The result in words, and as a table.

use comfy_table::Table;

use super::Report;
use crate::table;

impl Report {
    /// One line that says what was run.
    pub(crate) fn title(&self) -> String {
        let shape = match (self.rate, self.window, self.batch_size) {
            (Some(rate), ..) => {
                format!("{} checks/s offered on {} connections", thousands(rate), self.connections)
            }
            (_, Some(window), _) => {
                format!("{} connections × {} streams × window {window}", self.connections, self.in_flight)
            }
            (.., Some(size)) => {
                format!("{} connections × {} calls of {size} checks", self.connections, self.in_flight)
            }
            _ => format!("{} connections × {} in flight", self.connections, self.in_flight),
        };
        let exponent = self.zipf_exponent.map(|exponent| format!(" {exponent}")).unwrap_or_default();
        format!(
            "{}, {} loop: {shape}, {} keys {}{exponent}, {} s",
            self.mode,
            self.r#loop,
            thousands(f64::from(self.keys)),
            self.distribution,
            self.seconds
        )
    }

    /// What a reader must know before believing the figures.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(schedule) = self.schedule.as_ref().filter(|schedule| schedule.fell_behind) {
            warnings.push(format!(
                "the generator fell behind its schedule (99 % of calls left at most {} late, {} never left): \
                 the latencies contain that; lower --rate or give it more --threads",
                micros(schedule.lag_p99_us),
                thousands(schedule.unsent as f64)
            ));
        }
        if self.unanswered > 0 {
            warnings.push(format!("{} calls or streams had no answer 5 s after the end", self.unanswered));
        }
        for error in &self.errors_by_code {
            warnings.push(format!("{} × {}: {}", thousands(error.count as f64), error.code, error.example));
        }
        warnings
    }

    /// The table for people.
    pub(crate) fn table(&self) -> Table {
        let mut table = table::new(&["", "measured"], [1]);
        let percent = |count: u64| 100.0 * count as f64 / (self.checks + self.errors).max(1) as f64;
        let counted = |count: u64| format!("{} ({:.1} %)", thousands(count as f64), percent(count));
        table.add_row(["checks per second".to_owned(), thousands(self.checks_per_second)]);
        table.add_row(["allowed".to_owned(), counted(self.allowed)]);
        table.add_row(["denied".to_owned(), counted(self.denied)]);
        table.add_row(["errors".to_owned(), counted(self.errors)]);
        let latency = &self.latency_us;
        for (name, value) in [
            ("latency p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p999),
            ("max", latency.max),
        ] {
            table.add_row([name.to_owned(), micros(value)]);
        }
        for cpu in &self.cpu {
            let name = format!("CPU of {} per check", cpu.name);
            table.add_row([
                name,
                format!("{:.2} µs ({:.0} % of a core)", cpu.us_per_check, cpu.cores * 100.0),
            ]);
        }
        let own = format!("{:.2} µs", self.generator_cpu_us_per_check);
        table.add_row(["CPU of the generator per check".to_owned(), own]);
        table
    }
}

/// A whole number with thousands apart.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time, with the unit that suits it.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        ..1_000_000.0 => format!("{:.2} ms", micros / 1000.0),
        _ => format!("{:.2} s", micros / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!([micros(57.3), micros(1500.0), micros(2.5e6)], ["57 µs", "1.50 ms", "2.50 s"]);
    }
}
