//! Settings of the service; `config.default.toml` explains each.

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    auth::AuthConfig,
    config::{ConfigError, Environment, Fault, HumanDuration},
    server::ServerConfig,
    telemetry::TelemetryConfig,
};

pub use crate::{
    keys::{KeysConfig, KeysTlsConfig},
    usage::UsageConfig,
};

use crate::store::{MemoryStoreConfig, RedisStoreConfig, catalog::DatabaseConfig};

/// The embedded defaults: every key, with its explanation.
pub const CONFIG_DEFAULTS: &str = include_str!("../config.default.toml");

/// Environment variables with names of their own, and the keys they set.
pub const ENV_ALIASES: &[(&str, &str)] = &[
    ("TIDEGATE_RATELIMIT_LISTEN", "server.listen"),
    ("REDIS_URL", "store.redis.url"),
    ("DATABASE_URL", "database.url"),
    ("RATE_LIMIT_ENABLED", "enabled"),
    ("ENVIRONMENT", "environment"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
];

/// Variables of the other binaries, which may stand in the same environment.
pub const FOREIGN_ENV: &[&str] =
    &["TIDEGATE_GATEWAY_LISTEN", "TIDEGATE_KEYS_LISTEN", "TIDEGATE_AUDIT_LISTEN", "TIDEGATE_HEALTH_LISTEN"];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Production refuses what is only good for trying out.
    #[garde(skip)]
    pub environment: Environment,
    /// The global off switch.
    #[garde(skip)]
    pub enabled: bool,
    /// Ports, threads, limits of the server.
    #[garde(dive)]
    pub server: ServerConfig,
    /// Who is believed.
    #[garde(dive)]
    pub auth: AuthConfig,
    /// Logs and traces.
    #[garde(dive)]
    pub telemetry: TelemetryConfig,
    /// Where policies come from.
    #[garde(dive)]
    pub policies: PoliciesConfig,
    /// Where policies live that are set over the API.
    #[garde(dive)]
    pub database: DatabaseConfig,
    /// How retries are recognized.
    #[garde(dive)]
    pub idempotency: IdempotencyConfig,
    /// Where counters live.
    #[garde(dive)]
    pub store: StoreConfig,
    /// Who knows whose API keys are.
    #[garde(dive)]
    pub keys: KeysConfig,
    /// Who is told that a limit was reached.
    #[garde(dive)]
    pub upgrade_hook: UpgradeHookConfig,
    /// What is kept of use.
    #[garde(dive)]
    pub usage: UsageConfig,
}

/// The `[policies]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct PoliciesConfig {
    /// TOML file; empty for the built-in policies.
    #[garde(skip)]
    pub file: String,
    /// Replicas that share the limits, 1 to 10,000.
    #[garde(range(min = 1, max = 10_000))]
    pub replicas: u32,
}

/// The `[idempotency]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct IdempotencyConfig {
    /// How long an admission is remembered, 1 s to 30 days.
    #[garde(custom(a_sensible_ttl))]
    pub ttl: HumanDuration,
}

/// The `[upgrade_hook]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct UpgradeHookConfig {
    /// `http://host:port` or `https://host:port`; empty for none.
    #[garde(custom(a_hook_url))]
    pub url: String,
    /// How long a subject is not told again, 1 s to 30 days.
    #[garde(custom(a_sensible_ttl))]
    pub quiet: HumanDuration,
    /// Notices that may wait, 1 to 1,000,000.
    #[garde(range(min = 1, max = 1_000_000))]
    pub queue: usize,
    /// How long one attempt may take, 10 ms to 1 minute.
    #[garde(custom(a_sensible_timeout))]
    pub timeout: HumanDuration,
    /// Attempts for each notice, 1 to 20.
    #[garde(range(min = 1, max = 20))]
    pub attempts: u32,
    /// For a URL with `https`.
    #[garde(custom(cert_with_key))]
    pub tls: HookTlsConfig,
}

/// The `[upgrade_hook.tls]` section: paths of PEM files; empty for none.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HookTlsConfig {
    /// Authorities that sign the hook's certificate; those of the system if empty.
    pub ca: String,
    /// Certificate of this service.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// The `[store]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store.
    #[garde(skip)]
    pub backend: Backend,
    /// Settings of the store in memory.
    #[garde(dive)]
    pub memory: MemoryStoreConfig,
    /// Settings of the store in Redis.
    #[garde(dive)]
    pub redis: RedisStoreConfig,
}

/// Where counters live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Redis if its URL is set, else memory.
    Auto,
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

impl Config {
    /// Whether counters live in Redis.
    pub fn uses_redis(&self) -> bool {
        match self.store.backend {
            Backend::Auto => !self.store.redis.url.is_empty(),
            Backend::Memory => false,
            Backend::Redis => true,
        }
    }

    /// Rules that span several settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with every fault.
    pub fn refuse_unfit(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let key = "store.backend";
        self.environment.refuse_in_production(
            key,
            !self.uses_redis(),
            "counters in memory; set REDIS_URL",
            &mut faults,
        );
        if self.store.backend == Backend::Redis && self.store.redis.url.is_empty() {
            let message = "must be set for store.backend = \"redis\"; also: REDIS_URL".to_owned();
            faults.push(Fault { key: "store.redis.url".to_owned(), origin: None, message });
        }
        self.auth.refuse_unfit(self.environment, &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Refused(faults)) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_sensible_ttl(ttl: &HumanDuration, _: &()) -> garde::Result {
    let seconds = ttl.as_secs_f64();
    if (1.0..=30.0 * 86_400.0).contains(&seconds) {
        Ok(())
    } else {
        Err(garde::Error::new("must be 1s to 30d"))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_sensible_timeout(timeout: &HumanDuration, _: &()) -> garde::Result {
    if (0.01..=60.0).contains(&timeout.as_secs_f64()) {
        Ok(())
    } else {
        Err(garde::Error::new("must be 10ms to 1m"))
    }
}

fn a_hook_url(url: &str, _: &()) -> garde::Result {
    let parsed = url.parse::<http::Uri>();
    let scheme = parsed.as_ref().ok().and_then(http::Uri::scheme_str);
    if url.is_empty() || matches!(scheme, Some("http" | "https")) {
        return Ok(());
    }
    Err(garde::Error::new("must be http://host:port or https://host:port"))
}

fn cert_with_key(tls: &HookTlsConfig, _: &()) -> garde::Result {
    if tls.cert.is_empty() == tls.key.is_empty() {
        return Ok(());
    }
    Err(garde::Error::new("cert and key belong together, and one is missing"))
}
