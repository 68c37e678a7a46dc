//! The tables for people.

use std::fmt::Write;

use super::{
    Bench,
    results::{Figure, Results, Target, median},
};

/// All that was found; median (minimum–maximum) where there was more than one round.
pub(super) fn text(results: &Results, bench: &Bench) -> String {
    let mut text = String::new();
    write_title(&mut text, results, bench).expect("writing to a String cannot fail");
    if !results.rows.is_empty() {
        write_table(&mut text, &rows(results)).expect("writing to a String cannot fail");
    }
    write_table(&mut text, &figures(&results.figures)).expect("writing to a String cannot fail");
    for note in &results.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for failure in &results.failures {
        text.push_str(&format!("NOT MEASURED: {failure}\n"));
    }
    text
}

fn write_title(text: &mut String, results: &Results, bench: &Bench) -> std::fmt::Result {
    let machine = &results.machine;
    let place = if bench.cores.server.is_some() { "server and load on a core each" } else { "unpinned" };
    writeln!(text, "\n{}, {} cores, Linux {}", machine.processor, machine.cores, machine.kernel)?;
    let (rounds, seconds) = (bench.rounds, bench.load.duration.as_secs());
    writeln!(text, "rounds: {rounds}, of {seconds} s each; {place}; median (minimum–maximum)")?;
    if machine.is_busy() {
        let percent = machine.busy * 100.0;
        writeln!(text, "WARNING: {percent:.0} % of this machine was taken before the first measurement")?;
    }
    writeln!(text)
}

fn rows(results: &Results) -> Vec<Vec<String>> {
    let head = ["load", "server", "checks/s", "server CPU µs", "Redis CPU µs", "p50 µs", "p99 µs"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for row in &results.rows {
        table.push(vec![
            row.load.clone(),
            row.server.clone(),
            spread(&row.checks_per_second, 0),
            spread(&row.server_cpu_us, 2),
            spread(&row.redis_cpu_us, 2),
            spread(&row.p50_us, 0),
            spread(&row.p99_us, 0),
        ]);
    }
    table
}

fn figures(figures: &[Figure]) -> Vec<Vec<String>> {
    let mut table = vec![["figure", "measured", "target", "verdict"].map(str::to_owned).to_vec()];
    for figure in figures {
        let digits = if figure.unit == "×" { 2 } else { 1 };
        let target = match figure.target {
            Target::AtMost(most) => format!("≤ {most} {}", figure.unit),
            Target::AtLeast(least) => format!("≥ {least} {}", figure.unit),
            Target::None => String::new(),
        };
        let verdict = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let measured = format!("{} {}", spread(&figure.rounds, digits), figure.unit);
        table.push(vec![figure.name.clone(), measured, target, verdict.to_owned()]);
    }
    table
}

/// `median (minimum–maximum)`, or nothing if nothing was measured.
fn spread(values: &[f64], digits: usize) -> String {
    let show = |value: f64| format!("{value:.digits$}");
    match values {
        [] => String::new(),
        [only] => show(*only),
        _ => {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{} ({}–{})", show(median(values)), show(least), show(most))
        }
    }
}

fn write_table(text: &mut String, rows: &[Vec<String>]) -> std::fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        writeln!(text, "{}", cells.join("  ").trim_end())?;
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            writeln!(text, "{}", rule.join("  "))?;
        }
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rounds: &[f64], target: Target) -> Figure {
        Figure { name: "cost".to_owned(), unit: "×", rounds: rounds.to_vec(), target }
    }

    #[test]
    fn target_and_verdict_stand_beside_the_figure() {
        let rows = figures(&[
            figure(&[1.3, 1.1, 1.2], Target::AtMost(1.25)),
            figure(&[7.9], Target::AtLeast(8.0)),
            figure(&[7.9], Target::None),
        ]);
        assert_eq!(rows[1], ["cost", "1.20 (1.10–1.30) ×", "≤ 1.25 ×", "met"]);
        assert_eq!(rows[2], ["cost", "7.90 ×", "≥ 8 ×", "MISSED"]);
        assert_eq!(rows[3], ["cost", "7.90 ×", "", ""]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "b"], ["longer", "µs"]].map(|row| row.map(str::to_owned).to_vec());
        let mut text = String::new();
        write_table(&mut text, &rows).unwrap();
        assert_eq!(text, "a       b\n──────  ──\nlonger  µs\n\n");
    }
}
