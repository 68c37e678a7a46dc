//! Settings of the service; `config.default.toml` explains each.

use std::{collections::BTreeMap, time::Duration};

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    auth::AuthConfig,
    config::{ConfigError, Environment, Fault, HumanDuration, Secret, url},
    server::ServerConfig,
    telemetry::TelemetryConfig,
    tls::ClientFiles,
};
use tidegate_credentials::Prefix;

use crate::{api_keys::KeySettings, identity::IdentityConfig, peppers::Peppers, store::DatabaseConfig};

/// The embedded defaults: every key, with its explanation.
pub const CONFIG_DEFAULTS: &str = include_str!("../config.default.toml");

/// Environment variables with names of their own, and the keys they set.
pub const ENV_ALIASES: &[(&str, &str)] = &[
    ("TIDEGATE_KEYS_LISTEN", "server.listen"),
    ("DATABASE_URL", "database.url"),
    ("ENVIRONMENT", "environment"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
];

/// Variables of the other binaries, which may stand in the same environment.
pub const FOREIGN_ENV: &[&str] = &[
    "TIDEGATE_RATELIMIT_LISTEN",
    "TIDEGATE_GATEWAY_LISTEN",
    "TIDEGATE_AUDIT_LISTEN",
    "TIDEGATE_HEALTH_LISTEN",
];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Production refuses what is only good for trying out.
    #[garde(skip)]
    pub environment: Environment,
    /// Ports, threads, limits of the server.
    #[garde(dive)]
    pub server: ServerConfig,
    /// Logs and traces.
    #[garde(dive)]
    pub telemetry: TelemetryConfig,
    /// Who is believed.
    #[garde(dive)]
    pub auth: AuthConfig,
    /// Where everything is kept.
    #[garde(dive)]
    pub database: DatabaseConfig,
    /// By what keys are found.
    #[garde(dive)]
    pub secrets: SecretsConfig,
    /// What keys look like, and how long they last.
    #[garde(dive)]
    pub keys: KeysConfig,
    /// How people and backends become known.
    #[garde(dive)]
    pub identity: IdentityConfig,
    /// Who is told of changes before they are answered.
    #[garde(dive)]
    pub ratelimit: RateLimitConfig,
}

/// The `[secrets]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct SecretsConfig {
    /// Version of the pepper of new keys.
    #[garde(skip)]
    pub pepper: u16,
    /// Peppers by their versions.
    #[garde(custom(versions))]
    pub peppers: BTreeMap<String, Secret>,
}

/// The `[keys]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// What the values of keys begin with.
    #[garde(custom(a_prefix))]
    pub prefix: String,
    /// When a key expires that is made without saying when; 0 for never.
    #[garde(custom(at_most_ten_years))]
    pub default_expiry: HumanDuration,
    /// How long before it expires a key is announced; 0 for not at all.
    #[garde(custom(at_most_ten_years))]
    pub announce_before: HumanDuration,
}

/// The `[ratelimit]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Rate-limit services, one for each store that counters live in.
    #[garde(inner(custom(url)))]
    pub urls: Vec<String>,
    /// How long one attempt to tell one may take, 10 ms to 10 s.
    #[garde(custom(a_deadline))]
    pub deadline: HumanDuration,
    /// For `https://` ones.
    #[garde(dive)]
    pub tls: ClientFiles,
}

impl Config {
    /// Rules that span several settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with every fault.
    pub fn refuse_unfit(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        self.auth.refuse_unfit(self.environment, &mut faults);
        self.identity.refuse_unfit(&self.auth, self.environment, &mut faults);
        let weak = "a secret that could be guessed; take 32 random bytes or more";
        let secret = &self.identity.secret;
        // One that is too short is refused everywhere.
        let is_guessable = secret.expose().len() >= Secret::STRONG_BYTES && secret.is_weak();
        self.environment.refuse_in_production("identity.secret", is_guessable, weak, &mut faults);
        if self.peppers().is_none() {
            let key = format!("secrets.peppers.{}", self.secrets.pepper);
            let message = "must be set, to 32 random bytes or more: openssl rand -hex 32".to_owned();
            faults.push(Fault { key, origin: None, message });
        }
        for (version, pepper) in &self.secrets.peppers {
            let key = format!("secrets.peppers.{version}");
            let weak = "a pepper that could be guessed; take 32 random bytes or more";
            self.environment.refuse_in_production(&key, pepper.is_weak(), weak, &mut faults);
        }
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Refused(faults)) }
    }

    /// The peppers; none if the current one is not among them, or empty.
    #[must_use]
    pub fn peppers(&self) -> Option<Peppers> {
        let by_version = self.secrets.peppers.iter().filter(|(_, pepper)| !pepper.is_empty());
        let by_version =
            by_version.filter_map(|(version, pepper)| Some((version.parse().ok()?, pepper.clone())));
        Peppers::new(&by_version.collect(), self.secrets.pepper)
    }

    /// What the use cases of keys need to know.
    #[must_use]
    pub fn key_settings(&self) -> KeySettings {
        let prefix = Prefix::parse(&self.keys.prefix).expect("it was seen to be one when it was read");
        let default_expiry = Some(self.keys.default_expiry.get()).filter(|expiry| !expiry.is_zero());
        KeySettings { prefix, default_expiry }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn versions(peppers: &BTreeMap<String, Secret>, _: &()) -> garde::Result {
    let is_version = |text: &String| text.parse::<u16>().is_ok_and(|version| version.to_string() == *text);
    match peppers.keys().find(|text| !is_version(text)) {
        Some(wrong) => Err(garde::Error::new(format!("{wrong:?} must be a version, 0 to 65535"))),
        None => Ok(()),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_prefix(prefix: &str, _: &()) -> garde::Result {
    Prefix::parse(prefix).map(drop).map_err(garde::Error::new)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn at_most_ten_years(duration: &HumanDuration, _: &()) -> garde::Result {
    if duration.get() <= Duration::from_secs(3_660 * 86_400) {
        return Ok(());
    }
    Err(garde::Error::new("must be at most 3660d"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_deadline(deadline: &HumanDuration, _: &()) -> garde::Result {
    if (0.01..=10.0).contains(&deadline.as_secs_f64()) {
        return Ok(());
    }
    Err(garde::Error::new("must be 10ms to 10s"))
}

#[cfg(test)]
mod tests {
    use tidegate_chassis::config::{self, Source};

    use super::*;

    fn load(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let source = Source { defaults: CONFIG_DEFAULTS, env, aliases: ENV_ALIASES, ..Source::default() };
        let config: Config = config::load(&source)?;
        config.refuse_unfit()?;
        Ok(config)
    }

    const PEPPER: (&str, &str) = ("TIDEGATE_SECRETS__PEPPERS__1", "3f7a9c51e8b24d60aa17c3f95be2d804");
    const SECRET: (&str, &str) = ("TIDEGATE_IDENTITY__SECRET", "9b1e47d2c06f8a35e4d7b09c12f6a83d");

    fn faults(env: &[(&str, &str)]) -> Vec<String> {
        match load(env) {
            Err(ConfigError::Refused(faults)) => faults.into_iter().map(|fault| fault.key).collect(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn secrets_are_all_that_has_to_be_set() {
        assert_eq!(faults(&[]), ["identity.secret", "secrets.peppers.1"]);
        let config = load(&[PEPPER, SECRET]).expect("settings");
        assert_eq!(config.key_settings().prefix.as_str(), "tk");
        assert_eq!(config.key_settings().default_expiry, Some(Duration::from_secs(365 * 86_400)));
    }

    #[test]
    fn a_new_pepper_leaves_the_one_before_in_use() {
        let next = ("TIDEGATE_SECRETS__PEPPERS__2", "another pepper, of more than 32 bytes");
        let config = load(&[PEPPER, SECRET, next, ("TIDEGATE_SECRETS__PEPPER", "2")]).expect("settings");
        let peppers = config.peppers().expect("peppers");
        assert_eq!((peppers.store(&[0; 32]).1, peppers.find(&[0; 32]).len()), (2, 2));
    }

    #[test]
    fn production_refuses_secrets_that_could_be_guessed() {
        let weak = ("TIDEGATE_SECRETS__PEPPERS__1", "secret");
        assert!(load(&[weak, SECRET]).is_ok());
        let production = ("ENVIRONMENT", "production");
        assert_eq!(faults(&[weak, SECRET, production]), ["secrets.peppers.1"]);
    }

    #[test]
    fn every_setting_that_is_wrong_is_named() {
        let env = [
            ("TIDEGATE_KEYS__PREFIX", "TK"),
            ("TIDEGATE_KEYS__DEFAULT_EXPIRY", "4000d"),
            ("TIDEGATE_RATELIMIT__DEADLINE", "1m"),
            ("TIDEGATE_RATELIMIT__URLS", "ratelimit:8081"),
            ("TIDEGATE_SECRETS__PEPPERS__NEW", "x"),
        ];
        let mut found = faults(&env);
        found.sort();
        let expected = [
            "keys.default_expiry",
            "keys.prefix",
            "ratelimit.deadline",
            "ratelimit.urls[0]",
            "secrets.peppers",
        ];
        assert_eq!(found, expected);
    }
}
