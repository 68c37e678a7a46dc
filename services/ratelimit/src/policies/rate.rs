//! Rates as people say them: `60/min`, `5/hour`, `100/5m`.

use super::period;
use crate::domain::Period;

/// Words for one of a unit, beside those of periods.
const WORDS: [(&str, Period); 13] = [
    ("sec", Period::Micros(1_000_000)),
    ("second", Period::Micros(1_000_000)),
    ("s", Period::Micros(1_000_000)),
    ("m", Period::Micros(60_000_000)),
    ("min", Period::Micros(60_000_000)),
    ("minute", Period::Micros(60_000_000)),
    ("h", Period::Micros(3_600_000_000)),
    ("hour", Period::Micros(3_600_000_000)),
    ("d", Period::Micros(86_400_000_000)),
    ("day", Period::Micros(86_400_000_000)),
    ("w", Period::Week),
    ("week", Period::Week),
    ("month", Period::Month),
];

/// Reads a rate: whole tokens, `/`, and a unit (`s`, `sec`, `second`, `m`, `min`, `minute`, `h`, `hour`, `d`, `day`, `w`, `week`, `month`)
/// or a [period](period::parse). Whether the numbers can be had is not looked at.
///
/// # Errors
///
/// What is wrong, to be read after the name of the field.
pub(super) fn parse(text: &str) -> Result<(u64, Period), String> {
    let wrong = || format!("must be tokens per unit or period, as \"60/min\" or \"100/5m\", is {text:?}");
    let (tokens, period) = text.split_once('/').ok_or_else(wrong)?;
    if tokens.is_empty() || !tokens.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let tokens = tokens.parse().map_err(|_| format!("is too much: {text:?}"))?;
    let period = match WORDS.iter().find(|(word, _)| *word == period) {
        Some((_, period)) => *period,
        None => period::parse(period).map_err(|_| wrong())?,
    };
    Ok((tokens, period))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[rstest]
    #[case("60/min", 60, Period::Micros(60 * SECOND_US))]
    #[case("120/minute", 120, Period::Micros(60 * SECOND_US))]
    #[case("5/hour", 5, Period::Micros(3_600 * SECOND_US))]
    #[case("10/s", 10, Period::Micros(SECOND_US))]
    #[case("1000/day", 1_000, Period::Micros(86_400 * SECOND_US))]
    #[case("100/5m", 100, Period::Micros(300 * SECOND_US))]
    #[case("7/1h30m", 7, Period::Micros(5_400 * SECOND_US))]
    #[case("3/100ms", 3, Period::Micros(100_000))]
    #[case("1/week", 1, Period::Week)]
    #[case("1/1w", 1, Period::Week)]
    #[case("9/month", 9, Period::Month)]
    #[case("9/1mo", 9, Period::Month)]
    #[case::which_the_limit_refuses("0/s", 0, Period::Micros(SECOND_US))]
    fn tokens_per_unit_or_period_are_read(#[case] text: &str, #[case] tokens: u64, #[case] period: Period) {
        assert_eq!(parse(text), Ok((tokens, period)));
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_unit("60")]
    #[case::empty_unit("60/")]
    #[case::no_tokens("/min")]
    #[case::two_units("60/min/s")]
    #[case::unknown_unit("60/fortnight")]
    #[case::plural("60/minutes")]
    #[case::spaces("60 / min")]
    #[case::sign("+60/min")]
    #[case::fraction("0.5/s")]
    #[case::months("1/2mo")]
    #[case::beyond_64_bits("99999999999999999999/s")]
    fn anything_else_is_refused(#[case] text: &str) {
        parse(text).unwrap_err();
    }
}
