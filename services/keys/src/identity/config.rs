//! The `[identity]` section; `config.default.toml` explains each key.

use std::{collections::HashSet, time::Duration};

use garde::Validate;
use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    auth::{AuthConfig, Role},
    config::{Environment, Fault, HumanDuration, Secret, uuid_if_any},
};
use uuid::Uuid;

/// How people and backends become known.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Seals what is secret in the database.
    #[garde(skip)]
    pub secret: Secret,
    /// The one before it; empty for none.
    #[garde(skip)]
    pub previous_secret: Secret,
    /// Address of the first `admin`, who is made at the start if there is none; empty for none.
    #[garde(skip)]
    pub admin_email: String,
    /// The password of that account.
    #[garde(skip)]
    pub admin_password: Secret,
    /// The `kid` in `auth.hs256_secrets` of the secret that signs tokens; empty for keys of the database.
    #[garde(skip)]
    pub hs256_kid: String,
    /// How long an access token is good, 1 minute to 1 day.
    #[garde(custom(between(60, 86_400)))]
    pub access_ttl: HumanDuration,
    /// How long a refresh token is good, 1 hour to 90 days.
    #[garde(custom(between(3_600, 90 * 86_400)))]
    pub refresh_ttl: HumanDuration,
    /// How long an invitation can be accepted, 1 minute to 30 days.
    #[garde(custom(between(60, 30 * 86_400)))]
    pub invitation_ttl: HumanDuration,
    /// How long a token to set a password can be used, 1 minute to 7 days.
    #[garde(custom(between(60, 7 * 86_400)))]
    pub password_reset_ttl: HumanDuration,
    /// Peers whose `x-client-ip` is believed.
    #[garde(skip)]
    pub trusted_proxies: Vec<IpNet>,
    /// How passwords are hashed.
    #[garde(dive)]
    pub passwords: PasswordsConfig,
    /// Who counts attempts.
    #[garde(dive)]
    pub limits: LimitsConfig,
    /// External issuers of OpenID Connect.
    #[garde(dive)]
    pub oidc: Vec<OidcIssuerConfig>,
}

/// The `[identity.passwords]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct PasswordsConfig {
    /// Threads that hash, 1 to 64; each takes 19 MiB.
    #[garde(range(min = 1, max = 64))]
    pub threads: usize,
    /// Passwords that may wait, 1 to 10,000.
    #[garde(range(min = 1, max = 10_000))]
    pub queue: usize,
    /// How long one may wait until it is hashed, 1 s to 1 minute.
    #[garde(custom(between(1, 60)))]
    pub max_wait: HumanDuration,
}

/// The `[identity.limits]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// The rate-limit service, `http://host:port` or `https://host:port`; empty to count in this process.
    #[garde(skip)]
    pub url: String,
    /// How long it may take, 10 ms to 5 s; then this process counts.
    #[garde(custom(a_timeout))]
    pub timeout: HumanDuration,
}

/// One of `[[identity.oidc]]`.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct OidcIssuerConfig {
    /// The `iss` of its tokens, exactly.
    #[garde(length(min = 1, max = 512))]
    pub issuer: String,
    /// The `aud` that its tokens must name: the client id.
    #[garde(length(min = 1, max = 512))]
    pub audience: String,
    /// Where its keys are, `https://…` or `http://…`; or
    #[serde(default)]
    #[garde(custom(one_source(&self.jwks_file)))]
    pub jwks_url: String,
    /// a file with them, read again when a key is not known.
    #[serde(default)]
    #[garde(skip)]
    pub jwks_file: String,
    /// The algorithms that it signs with.
    #[garde(length(min = 1))]
    pub algorithms: Vec<OidcAlgorithm>,
    /// The organization of accounts that are made when somebody comes for the first time; empty = nobody's is made.
    #[serde(default, deserialize_with = "uuid_if_any", skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub organization: Option<Uuid>,
    /// The role of such accounts.
    #[serde(default = "user")]
    #[garde(custom(a_members_role))]
    pub role: Role,
}

/// What an external issuer may sign with: signatures only, so that no public key is ever taken for a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum OidcAlgorithm {
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl OidcAlgorithm {
    /// As the library names it.
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl IdentityConfig {
    /// Adds what is wrong between settings, and what `environment` does not allow.
    pub fn refuse_unfit(&self, auth: &AuthConfig, environment: Environment, faults: &mut Vec<Fault>) {
        let mut fault = |key: &str, message: &str| {
            faults.push(Fault { key: key.to_owned(), origin: None, message: message.to_owned() });
        };
        if self.secret.expose().len() < Secret::STRONG_BYTES {
            fault("identity.secret", "must be set, to 32 random bytes or more: openssl rand -hex 32");
        }
        if !self.hs256_kid.is_empty() && !auth.hs256_secrets.contains_key(&self.hs256_kid) {
            fault("identity.hs256_kid", "must be the name of a secret in auth.hs256_secrets, or empty");
        }
        let mut seen = HashSet::new();
        if !self.oidc.iter().all(|issuer| seen.insert(&issuer.issuer)) {
            fault("identity.oidc", "two entries have the same issuer");
        }
        let clear = self.oidc.iter().any(|issuer| issuer.jwks_url.starts_with("http://"));
        environment.refuse_in_production(
            "identity.oidc",
            clear,
            "keys that are fetched over http, where anybody on the way could replace them",
            faults,
        );
    }
}

fn between(least_s: u64, most_s: u64) -> impl FnOnce(&HumanDuration, &()) -> garde::Result {
    move |duration, ()| {
        let (least, most) = (Duration::from_secs(least_s), Duration::from_secs(most_s));
        if (least..=most).contains(&duration.get()) {
            return Ok(());
        }
        let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
        Err(garde::Error::new(format!("must be {least} to {most}")))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_timeout(timeout: &HumanDuration, _: &()) -> garde::Result {
    if (0.01..=5.0).contains(&timeout.as_secs_f64()) {
        Ok(())
    } else {
        Err(garde::Error::new("must be 10ms to 5s"))
    }
}

fn one_source(file: &str) -> impl FnOnce(&String, &()) -> garde::Result + '_ {
    move |url, ()| {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        match (url.is_empty(), file.is_empty()) {
            (true, false) => Ok(()),
            (false, true) if is_web => Ok(()),
            (false, true) => Err(garde::Error::new("must be https://… or http://…")),
            (true, true) | (false, false) => {
                Err(garde::Error::new("either jwks_url or jwks_file must be set, and not both"))
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_members_role(role: &Role, _: &()) -> garde::Result {
    match role {
        Role::TenantAdmin | Role::User => Ok(()),
        Role::Admin | Role::Service => Err(garde::Error::new("must be tenant_admin or user")),
    }
}

fn user() -> Role {
    Role::User
}

#[cfg(test)]
mod tests;
