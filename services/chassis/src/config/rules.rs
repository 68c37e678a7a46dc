//! Rules that settings of several services have to follow.

use serde::{Deserialize, Deserializer, de::Error};
use uuid::Uuid;

/// `http://host:port` or `https://host:port`.
///
/// # Errors
///
/// It is another.
pub fn url(url: &str, _: &()) -> garde::Result {
    let parsed = url.parse::<http::Uri>().ok();
    let is_web = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if is_web { Ok(()) } else { Err(garde::Error::new("must be http://host:port or https://host:port")) }
}

/// As [`fn@url`], or empty.
///
/// # Errors
///
/// As [`fn@url`].
pub fn url_if_any(text: &str, context: &()) -> garde::Result {
    if text.is_empty() { Ok(()) } else { url(text, context) }
}

/// A UUID; none if the text is empty.
///
/// # Errors
///
/// It is another text.
pub fn uuid_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| D::Error::custom("must be a UUID, or empty")),
    }
}
