//! Ids of requests: the caller's if it is harmless, else a new one.

use http::{HeaderMap, HeaderValue};
use tidegate_chassis::clock::{Clock, Random, uuid_v7};

use super::X_REQUEST_ID;

const LONGEST: usize = 128;

/// The caller's `X-Request-Id` if there is one of it, of 1 to 128 letters, digits and `. _ -`; it
/// goes into logs and headers as it is. Otherwise a UUIDv7.
pub(super) fn accept_or_new(headers: &HeaderMap, clock: &Clock, random: &Random) -> HeaderValue {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_harmless(id.as_bytes()) => id.clone(),
        _ => {
            let mut text = uuid::Uuid::encode_buffer();
            let text = uuid_v7(clock.now_us(), random).hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(text).expect("a UUID is of hex digits and hyphens")
        }
    }
}

fn is_harmless(id: &[u8]) -> bool {
    let fits = (1..=LONGEST).contains(&id.len());
    fits && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::usual("order-4711.retry_2", true)]
    #[case::longest(&"x".repeat(128), true)]
    #[case::too_long(&"x".repeat(129), false)]
    #[case::empty("", false)]
    #[case::space("a b", false)]
    #[case::log_forgery("a\tlevel=error", false)]
    #[case::not_ascii("ä", false)]
    fn a_callers_id_is_taken_only_if_harmless(#[case] id: &str, #[case] is_taken: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
        let given = accept_or_new(&headers, &Clock::system(), &Random::system());
        assert_eq!(given.as_bytes() == id.as_bytes(), is_taken);
    }

    #[test]
    fn a_new_id_is_a_uuid_of_version_7() {
        let id = accept_or_new(&HeaderMap::new(), &Clock::system(), &Random::system());
        let id: uuid::Uuid = id.to_str().unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}
