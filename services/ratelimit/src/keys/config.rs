//! The `[keys]` section; `config.default.toml` explains each key.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::config::HumanDuration;

/// The `[keys]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// `http://host:port` or `https://host:port` of the keys service; empty for none.
    #[garde(custom(a_url))]
    pub url: String,
    /// How long a look-up may take, 10 ms to 1 minute.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_mins(1))))]
    pub deadline: HumanDuration,
    /// Look-ups under way at a time, 1 to 100,000.
    #[garde(range(min = 1, max = 100_000))]
    pub max_lookups: usize,
    /// Keys that are remembered, 100 to 100,000,000.
    #[garde(range(min = 100, max = 100_000_000))]
    pub max_keys: usize,
    /// How long a key is remembered at most, 1 s to 12 hours: half of what fences are kept for.
    #[garde(custom(between(Duration::from_secs(1), Duration::from_hours(12))))]
    pub max_age: HumanDuration,
    /// How long what is remembered is believed without a word of the feed, 3 s to 12 hours.
    #[garde(custom(between(Duration::from_secs(3), Duration::from_hours(12))))]
    pub stale_for: HumanDuration,
    /// Values that are remembered as nobody's, 100 to 100,000,000.
    #[garde(range(min = 100, max = 100_000_000))]
    pub max_unknown: usize,
    /// For how long they are, 100 ms to 10 minutes.
    #[garde(custom(between(Duration::from_millis(100), Duration::from_mins(10))))]
    pub unknown_ttl: HumanDuration,
    /// How often it is told how keys were used, 100 ms to 10 minutes.
    #[garde(custom(between(Duration::from_millis(100), Duration::from_mins(10))))]
    pub report_every: HumanDuration,
    /// Uses that may wait to be told, by key, day and outcome, 1,000 to 100,000,000.
    #[garde(range(min = 1_000, max = 100_000_000))]
    pub max_used: usize,
    /// For a URL with `https`.
    #[garde(custom(cert_with_key))]
    pub tls: KeysTlsConfig,
}

/// The `[keys.tls]` section: paths of PEM files; empty for none.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeysTlsConfig {
    /// Authorities that sign the certificate of the keys service; those of the system if empty.
    pub ca: String,
    /// Certificate of this service.
    pub cert: String,
    /// Its key.
    pub key: String,
}

fn between(least: Duration, most: Duration) -> impl Fn(&HumanDuration, &()) -> garde::Result {
    move |value, &()| {
        if (least..=most).contains(&value.get()) {
            return Ok(());
        }
        let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
        Err(garde::Error::new(format!("must be {least} to {most}")))
    }
}

fn a_url(url: &str, _: &()) -> garde::Result {
    let parsed = url.parse::<http::Uri>();
    let scheme = parsed.as_ref().ok().and_then(http::Uri::scheme_str);
    if url.is_empty() || matches!(scheme, Some("http" | "https")) {
        return Ok(());
    }
    Err(garde::Error::new("must be http://host:port or https://host:port"))
}

fn cert_with_key(tls: &KeysTlsConfig, _: &()) -> garde::Result {
    if tls.cert.is_empty() == tls.key.is_empty() {
        return Ok(());
    }
    Err(garde::Error::new("cert and key belong together, and one is missing"))
}
