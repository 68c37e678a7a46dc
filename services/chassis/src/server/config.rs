//! The `[server]` section.

use std::{net::SocketAddr, num::NonZero, time::Duration};

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{config::HumanDuration, tls::TlsConfig};

/// How a gRPC server listens, what it allows, and how it leaves. `config.default.toml` of this crate
/// explains each key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the gRPC port; port 0 takes a free one.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// Address of the ops port.
    #[garde(skip)]
    pub ops_listen: SocketAddr,
    /// Worker threads, each with its own runtime; 0 = one per core.
    #[garde(range(max = 1024))]
    pub workers: usize,
    /// From NOT_SERVING until the port closes; 0 = at once.
    #[garde(skip)]
    pub lame_duck: HumanDuration,
    /// Longest time for calls in flight once the port is closed; at least a second.
    #[garde(custom(at_least_a_second))]
    pub drain_timeout: HumanDuration,
    /// Longest time for a connection's HTTP/2 preface, and for a call whose request is one message,
    /// from its headers to its answer; a shorter `grpc-timeout` ends the call sooner. At least a second.
    #[garde(custom(at_least_a_second))]
    pub request_timeout: HumanDuration,
    /// Age after which a connection is closed politely, ±10 %; at least a second, or 0 = never.
    #[garde(custom(never_or_at_least_a_second))]
    pub max_connection_age: HumanDuration,
    /// Longest time for calls in flight on such a connection.
    #[garde(skip)]
    pub max_connection_age_grace: HumanDuration,
    /// Silence after which a peer is asked for a sign of life; at least a second.
    #[garde(custom(at_least_a_second))]
    pub keepalive_interval: HumanDuration,
    /// How long it may take to give one.
    #[garde(custom(at_least_a_second))]
    pub keepalive_timeout: HumanDuration,
    /// Connections at a time; more are refused at accept.
    #[garde(range(min = 1))]
    pub max_connections: usize,
    /// Calls at a time on one connection. It may make the server hold as many messages of
    /// `max_message_bytes`: of unary calls for `request_timeout` at most, of streams while they last.
    #[garde(range(min = 1))]
    pub max_concurrent_streams: u32,
    /// Calls at a time in the process; more are answered `RESOURCE_EXHAUSTED`. Streams of health and
    /// reflection may be as many again; health checks are always answered.
    #[garde(range(min = 1))]
    pub max_in_flight: usize,
    /// Largest request message, in bytes. The server cannot know messages from their bytes, so the
    /// service applies it: `FooServer::new(api).max_decoding_message_size(config.max_message_bytes)`.
    #[garde(range(min = 1024))]
    pub max_message_bytes: usize,
    /// Largest request metadata, in bytes.
    #[garde(range(min = 1024, max = 1_048_576))]
    pub max_header_bytes: u32,
    /// Server reflection; never in production.
    #[garde(skip)]
    pub reflection: bool,
    /// Certificates; `None` (all paths empty) = plain text.
    #[serde(deserialize_with = "tls_if_any", default)]
    #[garde(dive)]
    pub tls: Option<TlsConfig>,
}

impl ServerConfig {
    /// Worker threads that will run.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        }
    }
}

impl Default for ServerConfig {
    /// Free ports on loopback and the values of `config.default.toml`.
    fn default() -> Self {
        let seconds = |seconds| HumanDuration::from(Duration::from_secs(seconds));
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 0,
            lame_duck: seconds(2),
            drain_timeout: seconds(20),
            request_timeout: seconds(10),
            max_connection_age: seconds(1800),
            max_connection_age_grace: seconds(30),
            keepalive_interval: seconds(60),
            keepalive_timeout: seconds(20),
            max_connections: 10_000,
            max_concurrent_streams: 1024,
            max_in_flight: 20_000,
            max_message_bytes: 1 << 20,
            max_header_bytes: 16 << 10,
            reflection: true,
            tls: None,
        }
    }
}

fn tls_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TlsConfig>, D::Error> {
    Ok(Option::<TlsConfig>::deserialize(deserializer)?.filter(TlsConfig::is_any_set))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn at_least_a_second(duration: &HumanDuration, _: &()) -> garde::Result {
    if **duration < Duration::from_secs(1) {
        return Err(garde::Error::new("must be at least 1s: a shorter one would drop healthy peers"));
    }
    Ok(())
}

fn never_or_at_least_a_second(duration: &HumanDuration, context: &()) -> garde::Result {
    if duration.is_zero() { Ok(()) } else { at_least_a_second(duration, context) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{auth::AuthConfig, config, telemetry::TelemetryConfig};

    #[derive(Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Shared {
        #[garde(dive)]
        server: ServerConfig,
        #[garde(dive)]
        telemetry: TelemetryConfig,
        #[garde(dive)]
        auth: AuthConfig,
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        let source =
            config::Source { defaults: include_str!("../../config.default.toml"), ..Default::default() };
        let shared: Shared = config::load(&source).expect("the defaults are valid");
        assert_eq!(shared.server, ServerConfig::default());
        assert_eq!(shared.telemetry.otlp_endpoint, None);
        assert_eq!(shared.auth, AuthConfig::default());
    }

    fn load_with(name: &str, value: &str) -> Result<Shared, config::ConfigError> {
        config::load(&config::Source {
            defaults: include_str!("../../config.default.toml"),
            env: vec![(name.to_owned(), value.to_owned())],
            ..Default::default()
        })
    }

    #[test]
    fn half_a_tls_identity_is_refused() {
        let refused = load_with("TIDEGATE_SERVER__TLS__CERT", "/tmp/cert.pem");
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("server.tls.key"), "{error}");
    }

    #[rstest]
    fn times_too_short_for_a_healthy_peer_are_refused(
        #[values("drain_timeout", "request_timeout", "max_connection_age", "keepalive_interval")] key: &str,
    ) {
        let variable = format!("TIDEGATE_SERVER__{}", key.to_ascii_uppercase());
        assert!(load_with(&variable, "1s").is_ok());
        let error = load_with(&variable, "999ms").err().expect("refused").to_string();
        assert!(error.contains(&format!("server.{key}: must be at least 1s")), "{error}");
    }

    #[test]
    fn connections_may_live_for_ever() {
        assert!(load_with("TIDEGATE_SERVER__MAX_CONNECTION_AGE", "0s").is_ok());
    }
}
