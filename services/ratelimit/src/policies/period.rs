//! Periods as people write them: `1m`, `90s`, `1h30m`, `1mo`.

use crate::domain::Period;

/// Microseconds per unit, the largest first.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
];

/// Reads a period: whole numbers with a unit (`ms`, `s`, `m`, `h`, `d`, `w`), the larger units first,
/// each at most once; or `1mo`, a calendar month. `1w` is a week; `7d` is as long and, calendar-aligned,
/// starts on another day.
///
/// # Errors
///
/// What is wrong, to be read after the name of the field.
pub(super) fn parse(text: &str) -> Result<Period, String> {
    match text {
        "1mo" => return Ok(Period::Month),
        "1w" => return Ok(Period::Week),
        _ => {}
    }
    let wrong = || {
        let units = "ms, s, m, h, d, w or 1mo";
        format!("must be whole numbers with units ({units}), as \"1m\" or \"1h30m\", is {text:?}")
    };
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (name, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        if name == "mo" {
            return Err(format!("the only period in months is \"1mo\", is {text:?}"));
        }
        let count: u64 = match digits.parse() {
            Ok(count) => count,
            Err(_) if digits.is_empty() => return Err(wrong()),
            Err(_) => return Err(format!("is too long: {text:?}")),
        };
        // Going on from the last unit found keeps them in order and each to one use.
        let (_, unit_us) = units.find(|(unit, _)| *unit == name).ok_or_else(wrong)?;
        total = count
            .checked_mul(*unit_us)
            .and_then(|us| total.checked_add(us))
            .ok_or_else(|| format!("is too long: {text:?}"))?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Period::Micros(total)) }
}

/// Writes a period as [`parse`] reads it.
pub(super) fn format(period: Period) -> String {
    let mut rest = match period {
        Period::Week => return "1w".to_owned(),
        Period::Month => return "1mo".to_owned(),
        Period::Micros(us) => us,
    };
    let mut text = String::new();
    // A week in microseconds is written as days, so that it is not read back as a calendar week.
    for (unit, unit_us) in &UNITS[1..] {
        if rest >= *unit_us {
            text.push_str(&format!("{}{unit}", rest / unit_us));
            rest %= unit_us;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("100ms", 100_000, "100ms")]
    #[case("1s", 1_000_000, "1s")]
    #[case("90s", 90_000_000, "1m30s")]
    #[case("1m", 60_000_000, "1m")]
    #[case("1h30m", 5_400_000_000, "1h30m")]
    #[case("1d", 86_400_000_000, "1d")]
    #[case("7d", 604_800_000_000, "7d")]
    #[case("2w", 1_209_600_000_000, "14d")]
    #[case("1w1ms", 604_800_001_000, "7d1ms")]
    #[case("0s", 0, "")]
    fn numbers_with_units_are_read_and_written(#[case] text: &str, #[case] us: u64, #[case] written: &str) {
        assert_eq!(parse(text), Ok(Period::Micros(us)));
        assert_eq!(format(Period::Micros(us)), written);
    }

    #[test]
    fn a_week_and_a_month_are_of_the_calendar() {
        for period in [Period::Week, Period::Month] {
            assert_eq!(parse(&format(period)), Ok(period));
        }
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_unit("60")]
    #[case::no_number("m")]
    #[case::unknown_unit("1y")]
    #[case::capital("1M")]
    #[case::fraction("1.5h")]
    #[case::negative("-1m")]
    #[case::space("1 m")]
    #[case::units_out_of_order("30m1h")]
    #[case::unit_twice("1m1m")]
    #[case::months("2mo")]
    #[case::month_and_more("1mo1d")]
    #[case::beyond_64_bits("99999999999999999999s")]
    #[case::product_beyond_64_bits("99999999999999w")]
    #[case::not_ascii("1µs")]
    fn anything_else_is_refused(#[case] text: &str) {
        parse(text).unwrap_err();
    }
}
