//! A picture of the latency percentiles, written by hand: logarithmic in both directions, so that
//! the tail has as much room as the middle.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::report::{Report, micros, thousands};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 64.0;
/// Points of the curve per decade.
const STEPS: u32 = 40;

/// Draws the percentiles of `nanos`.
pub(crate) fn draw(report: &Report, nanos: &Histogram<u64>) -> String {
    let scale = Scale::of(nanos);
    let mut svg = String::new();
    write_picture(&mut svg, report, nanos, &scale).expect("writing to a String cannot fail");
    svg
}

/// Where values lie in the picture.
struct Scale {
    /// Powers of ten of microseconds at the bottom and at the top.
    low: i32,
    high: i32,
    /// Decades of rarity: 3 reaches from the median to one in a thousand.
    decades: u32,
}

impl Scale {
    fn of(nanos: &Histogram<u64>) -> Self {
        // A percentile is drawn only where at least ten values lie beyond it.
        let decades =
            [2_u32, 3, 4, 5, 6].into_iter().rfind(|&decades| nanos.len() >= 10_u64.pow(decades + 1));
        let decades = decades.unwrap_or(2);
        let tail = nanos.value_at_quantile(1.0 - 10_f64.powf(-f64::from(decades)));
        let log = |nanos: u64| (nanos.max(1) as f64 / 1000.0).log10();
        #[expect(clippy::cast_possible_truncation, reason = "logarithms of at most 20 digits")]
        let (low, high) = (log(nanos.min()).floor() as i32, log(tail).ceil() as i32);
        Self { low, high: high.max(low + 1), decades }
    }

    /// `rarity` is log10 of one in how many: 0 for the fastest, 2 for the 99th percentile.
    fn x(&self, rarity: f64) -> f64 {
        LEFT + rarity / f64::from(self.decades) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, micros: f64) -> f64 {
        let share = (micros.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

fn write_picture(
    svg: &mut String,
    report: &Report,
    nanos: &Histogram<u64>,
    scale: &Scale,
) -> std::fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="#1f2933">
<title>Latency of Tidegate checks by percentile</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="30" font-size="18" font-weight="600">Latency by percentile</text>
<text x="{LEFT}" y="52" fill="#52606d">{}</text>
<text x="{LEFT}" y="70" fill="#52606d">{}</text>"##,
        escape(&report.title()),
        escape(&summary(report)),
    )?;
    write_axes(svg, report, scale)?;
    write_curve(svg, nanos, scale)?;
    write_marks(svg, nanos, scale)?;
    writeln!(svg, "</svg>")
}

fn summary(report: &Report) -> String {
    let mut text = format!(
        "{} checks/s · {} denied · {} errors",
        thousands(report.checks_per_second),
        thousands(report.denied as f64),
        thousands(report.errors as f64)
    );
    for cpu in &report.cpu {
        write!(text, " · {} CPU {:.2} µs a check", cpu.name, cpu.us_per_check)
            .expect("writing to a String cannot fail");
    }
    if report.schedule.as_ref().is_some_and(|schedule| schedule.fell_behind) {
        text.push_str(" · generator fell behind");
    }
    text
}

fn write_axes(svg: &mut String, report: &Report, scale: &Scale) -> std::fmt::Result {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for power in scale.low..=scale.high {
        let value = 10_f64.powi(power);
        let y = scale.y(value);
        writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#cbd2d9"/>
<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            LEFT - 8.0,
            y + 4.5,
            tick(value)
        )?;
        for minor in (2..10).map(|factor| value * f64::from(factor)).filter(|_| power < scale.high) {
            let y = scale.y(minor);
            writeln!(svg, r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#eef1f4"/>"##)?;
        }
    }
    for (rarity, label) in percentiles(scale) {
        let x = scale.x(rarity);
        writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="#cbd2d9"/>
<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"##,
            bottom + 20.0
        )?;
    }
    let what = if report.mode == "stream" { "check" } else { "call" };
    let from = if report.r#loop == "open" { ", from when it was due" } else { "" };
    writeln!(
        svg,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#52606d">percentile of {what}s</text>
<text transform="translate(24 {:.1}) rotate(-90)" text-anchor="middle" fill="#52606d">latency of a {what}{from}</text>"##,
        f64::midpoint(LEFT, right),
        HEIGHT - 18.0,
        f64::midpoint(TOP, bottom)
    )
}

fn write_curve(svg: &mut String, nanos: &Histogram<u64>, scale: &Scale) -> std::fmt::Result {
    write!(
        svg,
        r##"<polyline fill="none" stroke="#0b69a3" stroke-width="2.5" stroke-linejoin="round" points=""##
    )?;
    for step in 0..=scale.decades * STEPS {
        let rarity = f64::from(step) / f64::from(STEPS);
        write!(svg, "{:.1},{:.1} ", scale.x(rarity), scale.y(at(nanos, rarity)))?;
    }
    writeln!(svg, r#""/>"#)
}

fn write_marks(svg: &mut String, nanos: &Histogram<u64>, scale: &Scale) -> std::fmt::Result {
    for (rarity, _) in percentiles(scale).into_iter().filter(|(rarity, _)| *rarity > 0.0) {
        let (x, value) = (scale.x(rarity), at(nanos, rarity));
        let y = scale.y(value);
        // The last label would run over the edge if it stood in the middle of its point.
        let anchor = if rarity < f64::from(scale.decades) { "middle" } else { "end" };
        writeln!(
            svg,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="#0b69a3"/>
<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}" font-weight="600" paint-order="stroke" stroke="#ffffff" stroke-width="4">{}</text>"##,
            y - 11.0,
            micros(value)
        )?;
    }
    Ok(())
}

/// The percentiles that are named, with their rarity.
fn percentiles(scale: &Scale) -> Vec<(f64, &'static str)> {
    let named = ["min", "p90", "p99", "p99.9", "p99.99", "p99.999", "p99.9999"];
    let mut all = vec![(2_f64.log10(), "p50")];
    all.extend((0..=scale.decades).map(f64::from).zip(named));
    all
}

/// Microseconds at one in 10^rarity.
fn at(nanos: &Histogram<u64>, rarity: f64) -> f64 {
    nanos.value_at_quantile(1.0 - 10_f64.powf(-rarity)).max(1) as f64 / 1000.0
}

fn tick(value: f64) -> String {
    match value {
        ..1.0 => format!("{value} µs"),
        ..1000.0 => format!("{value:.0} µs"),
        ..1_000_000.0 => format!("{:.0} ms", value / 1000.0),
        _ => format!("{:.0} s", value / 1_000_000.0),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
