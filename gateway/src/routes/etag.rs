//! Etags in headers: `ETag` of an answer, `If-Match` of a request.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use crate::problem::Violations;

/// The etag that `If-Match` asks for; empty for any.
pub(super) fn asked(headers: &HeaderMap, violations: &mut Violations) -> String {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return String::new() };
    let text = value.to_str().unwrap_or_default().trim();
    let etag = match text {
        "*" => Some(""),
        quoted => quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|etag| !etag.is_empty() && !etag.contains('"')),
    };
    if etag.is_none() || values.next().is_some() {
        violations.add("If-Match", "must be one etag as it was given out, in quotes, or *");
    }
    etag.unwrap_or_default().to_owned()
}

/// Puts an etag into an answer, if there is one.
pub(super) fn write(response: &mut Response, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\""))
        && !etag.is_empty()
    {
        response.headers_mut().insert(header::ETAG, value);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], Some(""))]
    #[case::any(&["*"], Some(""))]
    #[case::one(&["\"1f\""], Some("1f"))]
    #[case::bare(&["1f"], None)]
    #[case::weak(&["W/\"1f\""], None)]
    #[case::empty(&["\"\""], None)]
    #[case::list(&["\"1f\", \"20\""], None)]
    #[case::lines(&["\"1f\"", "\"20\""], None)]
    fn an_etag_is_asked_for(#[case] values: &[&'static str], #[case] expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        let mut violations = Violations::default();
        let etag = asked(&headers, &mut violations);
        let is_refused = violations.into_result().is_err();
        assert_eq!((!is_refused).then_some(&*etag), expected);
    }
}
