//! A real Envoy that asks the rate-limit service before it lets a request through.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{eventually::eventually, http_client, ports, process::Process, services::Service, tools};

const UP_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: &str = "5s";

/// What Envoy does about the service.
#[derive(Clone, Copy, Debug)]
pub struct EnvoySettings {
    /// How long it waits for a decision.
    pub timeout: Duration,
    /// Whether a request that was not decided is answered 500; if not, it is let through.
    pub failure_mode_deny: bool,
}

impl Default for EnvoySettings {
    /// Waits longer than a debug build on a busy machine ever takes, and denies.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), failure_mode_deny: true }
    }
}

/// Envoy before an upstream that answers 200 to everything.
#[derive(Debug)]
pub struct Envoy {
    address: String,
    admin: String,
    _process: Process,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with the given `rate_limits` on every path, in the domain `edge`, and waits until it is live. A
    /// request that the service cannot decide is answered 500.
    ///
    /// # Errors
    ///
    /// It cannot be installed, or does not come up (the message carries its log).
    pub async fn start(service: &Service, rate_limits: &Value) -> anyhow::Result<Self> {
        Self::start_with(service, rate_limits, &EnvoySettings::default()).await
    }

    /// As [`start`](Self::start), with settings of its own.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(
        service: &Service,
        rate_limits: &Value,
        settings: &EnvoySettings,
    ) -> anyhow::Result<Self> {
        let (port, admin) = (ports::free()?, format!("127.0.0.1:{}", ports::free()?));
        let config = config_of(service, port, &admin, rate_limits, settings)?;
        Self::run(&config.to_string(), "envoy.json", port, admin).await
    }

    /// Starts Envoy with a configuration of somebody else, as YAML without `admin`; it has to listen on `port` of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn configured(yaml: &str, port: u16) -> anyhow::Result<Self> {
        let admin = ports::free()?;
        let address = format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }}");
        let config = format!("{yaml}\nadmin:\n  address: {address}\n");
        Self::run(&config, "envoy.yaml", port, format!("127.0.0.1:{admin}")).await
    }

    async fn run(text: &str, file: &str, port: u16, admin: String) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join(file);
        fs::write(&config, text)?;
        let mut command = Command::new(tools::envoy()?);
        command.arg("--config-path").arg(&config);
        command.args(["--log-level", "warning", "--concurrency", "1", "--disable-hot-restart"]);
        let mut process = Process::spawn("envoy", &mut command)?;
        let live = eventually("envoy", UP_WITHIN, async || {
            if let Some(status) = process.ended()? {
                bail!("ended with {status} before it was live");
            }
            Ok(http_client::get(&admin, "/ready").await.is_ok_and(|answer| answer.status.is_success()))
        });
        live.await.with_context(|| format!("envoy is not live\n{}", process.tail()))?;
        Ok(Self { address: format!("127.0.0.1:{port}"), admin, _process: process, _folder: folder })
    }

    /// `HOST:PORT` at which it takes requests.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `HOST:PORT` of its admin interface.
    #[must_use]
    pub fn admin(&self) -> &str {
        &self.admin
    }
}

fn config_of(
    service: &Service,
    port: u16,
    admin: &str,
    rate_limits: &Value,
    settings: &EnvoySettings,
) -> anyhow::Result<Value> {
    let type_of = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let rate_limit = json!({
        "@type": type_of("http.ratelimit.v3.RateLimit"),
        "domain": "edge",
        "failure_mode_deny": settings.failure_mode_deny,
        "timeout": format!("{}s", settings.timeout.as_secs_f64()),
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": {
            "grpc_service": { "envoy_grpc": { "cluster_name": "ratelimit" } },
            "transport_api_version": "V3",
        },
    });
    // What stands behind Envoy is the ops port of the service: it answers 200 to "/live".
    let route = json!({
        "match": { "prefix": "/" },
        "route": {
            "cluster": "upstream",
            "regex_rewrite": { "pattern": { "regex": ".*" }, "substitution": "/live" },
        },
        // Here and not in the route: only here descriptors may have hits of their own.
        "typed_per_filter_config": {
            "envoy.filters.http.ratelimit": {
                "@type": type_of("http.ratelimit.v3.RateLimitPerRoute"),
                "rate_limits": rate_limits,
            },
        },
    });
    let connections = json!({
        "@type": type_of("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "edge",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        "http_filters": [
            { "name": "envoy.filters.http.ratelimit", "typed_config": rate_limit },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": type_of("http.router.v3.Router") },
            },
        ],
    });
    let listener = json!({
        "name": "edge",
        "address": socket(&format!("127.0.0.1:{port}"))?,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connections,
        }] }],
    });
    let mut ratelimit = cluster("ratelimit", service.address())?;
    ratelimit["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    Ok(json!({
        "admin": { "address": socket(admin)? },
        "static_resources": {
            "listeners": [listener],
            "clusters": [ratelimit, cluster("upstream", service.ops())?],
        },
    }))
}

fn cluster(name: &str, address: &str) -> anyhow::Result<Value> {
    let endpoint = json!({ "endpoint": { "address": socket(address)? } });
    Ok(json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    }))
}

fn socket(address: &str) -> anyhow::Result<Value> {
    let (host, port) = address.rsplit_once(':').context("an address is host and port")?;
    Ok(json!({ "socket_address": { "address": host, "port_value": port.parse::<u16>()? } }))
}
