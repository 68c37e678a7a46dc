//! The headers OWASP recommends for APIs, on every answer.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Answers are data for programs: nothing in them may be run, framed, sniffed or kept.
const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// A year. Other hosts of the same domain are not for the gateway to decide on.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Puts them in, replacing whatever was there; HSTS only if the caller used TLS.
pub(super) fn write_headers(headers: &mut HeaderMap, is_https: bool) {
    for (name, value) in &ALWAYS {
        headers.insert(name, value.clone());
    }
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}
