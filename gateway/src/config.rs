//! Settings. `config.default.toml` names them all and is their manual.

mod values;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    auth::{AuthConfig, InternalTokens},
    clock::Clock,
    config::{HumanDuration, Secret, not_empty},
    telemetry::TelemetryConfig,
};

pub use self::values::{Cidr, Origin, UpstreamUrl};

/// The commented defaults; every key stands there.
pub const CONFIG_DEFAULTS: &str = include_str!("../config.default.toml");

/// Environment variables beside `TIDEGATE_<SECTION>__<KEY>`, with the keys they set.
pub const ENV_ALIASES: &[(&str, &str)] = &[
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("TIDEGATE_GATEWAY_LISTEN", "server.listen"),
];

/// Variables of the other binaries, which may stand in the same environment.
pub const FOREIGN_ENV: &[&str] =
    &["TIDEGATE_RATELIMIT_LISTEN", "TIDEGATE_KEYS_LISTEN", "TIDEGATE_AUDIT_LISTEN", "TIDEGATE_HEALTH_LISTEN"];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listening and connections.
    #[garde(dive)]
    pub server: ServerConfig,
    /// What one request may bring.
    #[garde(dive)]
    pub limits: LimitsConfig,
    /// The services behind the gateway.
    #[garde(dive)]
    pub upstreams: UpstreamsConfig,
    /// The readiness probe.
    #[garde(dive)]
    pub health: HealthConfig,
    /// The limit for callers without credentials.
    #[garde(dive)]
    pub anonymous: AnonymousConfig,
    /// How the gateway proves itself to the services behind.
    #[garde(dive)]
    pub auth: GatewayAuthConfig,
    /// What proxies may ask of requests that they are about to pass on.
    #[garde(skip)]
    pub forward_auth: ForwardAuthConfig,
    /// Whose word on the caller's address counts.
    #[garde(skip)]
    pub proxies: ProxiesConfig,
    /// Which web pages of other origins may call.
    #[garde(skip)]
    pub cors: CorsConfig,
    /// Logs and traces.
    #[garde(dive)]
    pub telemetry: TelemetryConfig,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ServerConfig {
    /// REST, HTTP/1.1 and HTTP/2 without TLS; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `/metrics`, `/live`, `/ready`.
    pub ops_listen: SocketAddr,
    /// Threads that serve; 0 means one per core.
    #[garde(range(max = 1024))]
    pub workers: usize,
    /// Connections at once; more wait in the kernel's queue.
    #[garde(range(min = 1))]
    pub max_connections: usize,
    /// Requests at once on one HTTP/2 connection.
    #[garde(range(min = 1))]
    pub max_concurrent_streams: u32,
    /// For the first request to begin, for headers to arrive, and between requests.
    #[garde(custom(positive))]
    pub header_read_timeout: HumanDuration,
    /// For the peer to take some of what was sent to it.
    #[garde(custom(at_least_a_second))]
    pub send_timeout: HumanDuration,
    /// Between HTTP/2 pings.
    #[garde(custom(at_least_a_second))]
    pub keepalive_interval: HumanDuration,
    /// For the answer to such a ping.
    #[garde(custom(at_least_a_second))]
    pub keepalive_timeout: HumanDuration,
    /// From "not ready" to the end of accepting.
    pub lame_duck: HumanDuration,
    /// For requests in flight when leaving.
    pub drain_timeout: HumanDuration,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct LimitsConfig {
    /// Bytes of a body; more is 413.
    #[garde(range(min = 1024, max = 67_108_864))]
    pub body_bytes: usize,
    /// For a body to arrive; longer is 408.
    #[garde(custom(positive))]
    pub body_timeout: HumanDuration,
    /// Bytes of all headers, names and values; more is 431.
    #[garde(range(min = 1024, max = 65_536))]
    pub header_bytes: usize,
    /// Header lines; more is 431.
    #[garde(range(min = 16, max = 100))]
    pub headers: usize,
    /// Bytes of path and query; more is 414.
    #[garde(range(min = 256, max = 32_768))]
    pub uri_bytes: usize,
}

/// `[upstreams]`
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct UpstreamsConfig {
    /// Where the rate-limit service is.
    #[garde(length(min = 1))]
    pub ratelimit: Vec<UpstreamUrl>,
    /// Where the keys service is; empty if there is none.
    pub keys: Vec<UpstreamUrl>,
    /// For one call of the rate-limit service, retry included.
    #[garde(custom(positive))]
    pub deadline: HumanDuration,
    /// For one call of the keys service, retry included.
    #[garde(custom(positive))]
    pub keys_deadline: HumanDuration,
    /// For one connection to come up.
    #[garde(custom(positive))]
    pub connect_timeout: HumanDuration,
    /// Between look-ups of names.
    #[garde(custom(positive))]
    pub resolve_every: HumanDuration,
    /// Between HTTP/2 pings, idle or not.
    #[garde(custom(at_least_a_second))]
    pub keepalive_interval: HumanDuration,
    /// For the answer to such a ping.
    #[garde(custom(positive))]
    pub keepalive_timeout: HumanDuration,
    /// For `https://` URLs.
    #[garde(custom(cert_with_key))]
    pub tls: UpstreamTlsConfig,
}

/// `[upstreams.tls]`: paths of PEM files.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsConfig {
    /// Authorities that sign the services' certificates; unset means the system's.
    #[serde(deserialize_with = "not_empty")]
    pub ca: Option<String>,
    /// The gateway's own certificate, for mTLS.
    #[serde(deserialize_with = "not_empty")]
    pub cert: Option<String>,
    /// Its key.
    #[serde(deserialize_with = "not_empty")]
    pub key: Option<String>,
}

/// `[health]`
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// Between probes of a service.
    #[garde(custom(positive))]
    pub interval: HumanDuration,
    /// For one probe.
    #[garde(custom(positive))]
    pub timeout: HumanDuration,
}

/// `[anonymous]`
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct AnonymousConfig {
    /// Whether callers without credentials are limited at all.
    #[garde(skip)]
    pub enabled: bool,
    /// For the decision; later the call goes on unlimited.
    #[garde(custom(positive))]
    pub deadline: HumanDuration,
}

/// `[auth]`. The gateway verifies nothing itself: the services behind do.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct GatewayAuthConfig {
    /// Signs the tokens of calls that the gateway makes for itself; empty = it makes them without.
    #[garde(skip)]
    pub internal_secret: Secret,
    /// The `iss` of these tokens, as at the services.
    #[garde(length(min = 1, max = 255))]
    pub issuer: String,
    /// The `aud` of these tokens, as at the services.
    #[garde(length(min = 1, max = 255))]
    pub audience: String,
}

impl GatewayAuthConfig {
    /// Tokens by which the gateway proves itself, if there is a secret.
    pub(crate) fn tokens(&self, clock: Clock) -> Option<InternalTokens> {
        let config = AuthConfig {
            internal_secret: self.internal_secret.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            ..AuthConfig::default()
        };
        InternalTokens::new(&config, "tidegate-gateway", clock)
    }
}

/// `[forward_auth]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuthConfig {
    /// Whether anybody may ask.
    pub enabled: bool,
    /// Peers that may ask, and whose word on the caller's address counts there.
    pub trusted: Vec<Cidr>,
}

/// `[proxies]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProxiesConfig {
    /// Peers whose forwarding header is believed.
    pub trusted: Vec<Cidr>,
    /// The one header that they write.
    pub header: ForwardingHeader,
}

/// `[cors]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins that may call, `https://console.example.com`; none means CORS is off.
    pub origins: Vec<Origin>,
    /// How long a browser may remember the permission.
    pub max_age: HumanDuration,
}

/// Which header names the caller. Only one is believed: a proxy that writes the one passes the
/// other on as the caller sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn positive(duration: &HumanDuration, _: &()) -> garde::Result {
    if duration.is_zero() { Err(garde::Error::new("must be more than 0")) } else { Ok(()) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn at_least_a_second(duration: &HumanDuration, _: &()) -> garde::Result {
    if duration.as_secs() < 1 {
        return Err(garde::Error::new("must be at least 1s: a shorter one would drop healthy peers"));
    }
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn cert_with_key(tls: &UpstreamTlsConfig, _: &()) -> garde::Result {
    if tls.cert.is_some() == tls.key.is_some() {
        return Ok(());
    }
    Err(garde::Error::new("cert and key belong together, and one is missing"))
}
