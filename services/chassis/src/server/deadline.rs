//! The caller's deadline: `grpc-timeout`.

use std::{pin::Pin, task::Context, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep, sleep_until};

static HEADER: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits that the specification allows.
const MAX_DIGITS: usize = 8;

/// A `grpc-timeout` that is not one to eight digits and a unit. It is refused rather than passed
/// over: a caller that believes it has set a deadline must learn that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedTimeout;

/// How long the caller will wait, from now.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, MalformedTimeout> {
    headers.get(&HEADER).map(parse).transpose()
}

fn parse(value: &HeaderValue) -> Result<Duration, MalformedTimeout> {
    let (unit, digits) = value.as_bytes().split_last().ok_or(MalformedTimeout)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return Err(MalformedTimeout);
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')).ok_or(MalformedTimeout)
    })?;
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(MalformedTimeout),
    }
}

/// A point in time that makes a timer only once it is waited for: most calls are answered at once.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn after(start: std::time::Instant, timeout: Duration) -> Self {
        Self { at: Instant::from_std(start + timeout), timer: None }
    }
}

/// Whether there is a deadline and it has passed; if not yet, the task is woken when it does.
pub(super) fn has_passed(deadline: &mut Option<Deadline>, context: &mut Context<'_>) -> bool {
    deadline.as_mut().is_some_and(|Deadline { at, timer }| {
        timer.get_or_insert_with(|| Box::pin(sleep_until(*at))).as_mut().poll(context).is_ready()
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1S", Duration::from_secs(1))]
    #[case("99999999n", Duration::from_nanos(99_999_999))]
    #[case("250m", Duration::from_millis(250))]
    #[case("99999999H", Duration::from_secs(99_999_999 * 3600))]
    fn reads_what_the_specification_allows(#[case] text: &'static str, #[case] expected: Duration) {
        assert_eq!(parse(&HeaderValue::from_static(text)), Ok(expected));
    }

    #[rstest]
    fn refuses_what_it_does_not(
        #[values("", "S", "1", "-1S", "1s", "123456789m", "1.5S", " 1S", "1S ")] text: &str,
    ) {
        let value = HeaderValue::from_str(text).expect("header value");
        assert_eq!(parse(&value), Err(MalformedTimeout));
    }
}
