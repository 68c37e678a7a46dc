//! The `[auth]` section.

use std::{collections::BTreeMap, net::IpAddr};

use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Role, internal};
use crate::{
    config::{Environment, Fault, Secret, url_if_any, uuid_if_any},
    tls::ClientFiles,
};

/// Who is believed. `config.default.toml` of this crate explains each key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Who is believed without credentials.
    #[garde(skip)]
    pub anonymous: Anonymous,
    /// Signs tokens among Tidegate's own services; empty = such tokens are neither made nor believed.
    #[garde(skip)]
    pub internal_secret: Secret,
    /// Keys service whose signing keys are trusted, `http://host:port` or `https://host:port`; empty = none.
    #[garde(custom(url_if_any))]
    pub keys_url: String,
    /// Whether production takes an `http://` one that is not on this machine, since something else protects the way.
    #[garde(skip)]
    pub keys_in_clear: bool,
    /// For an `https://` one.
    #[garde(dive)]
    pub keys_tls: ClientFiles,
    /// The `iss` of every token, 1 to 255 bytes.
    #[garde(length(min = 1, max = 255))]
    pub issuer: String,
    /// The `aud` of every token, 1 to 255 bytes.
    #[garde(length(min = 1, max = 255))]
    pub audience: String,
    /// Shared secrets of tokens that are signed by HS256, by their `kid`.
    #[garde(custom(secrets_by_kid))]
    pub hs256_secrets: BTreeMap<String, Secret>,
    /// Client certificates that are callers; the first that fits counts.
    #[garde(dive)]
    pub certificates: Vec<CertificateIdentity>,
}

impl Default for AuthConfig {
    /// The values of `config.default.toml`.
    fn default() -> Self {
        Self {
            anonymous: Anonymous::Nobody,
            internal_secret: Secret::default(),
            keys_url: String::new(),
            keys_in_clear: false,
            keys_tls: ClientFiles::default(),
            issuer: "tidegate".to_owned(),
            audience: "tidegate".to_owned(),
            hs256_secrets: BTreeMap::new(),
            certificates: Vec::new(),
        }
    }
}

/// Who is believed without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nobody.
    Nobody,
    /// Callers on this machine, who may do everything; for trying out.
    Loopback,
    /// Whoever reaches the port, as a backend.
    Network,
}

/// A client certificate that is a caller.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct CertificateIdentity {
    /// A DNS name or a URI of its subject alternative names, as it stands there.
    #[garde(length(min = 1))]
    pub name: String,
    /// What it may do.
    #[garde(custom(fits(&self.organization)))]
    pub role: Role,
    /// The only organization that it may touch; empty = all of them.
    #[serde(default, deserialize_with = "uuid_if_any", skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub organization: Option<Uuid>,
}

impl AuthConfig {
    /// Adds what `environment` does not allow: in production, callers that are believed for being near, secrets that could be
    /// guessed, and signing keys that could be replaced on their way.
    pub fn refuse_unfit(&self, environment: Environment, faults: &mut Vec<Fault>) {
        environment.refuse_in_production(
            "auth.anonymous",
            self.anonymous == Anonymous::Loopback,
            "\"loopback\", which lets every process of this machine do everything; say \"nobody\", or \"network\"",
            faults,
        );
        environment.refuse_in_production(
            "auth.keys_url",
            !self.keys_in_clear && is_in_clear(&self.keys_url),
            "signing keys that are fetched over http, where anybody on the way could replace them; take https://, or say \
             auth.keys_in_clear = true if something else protects the way",
            faults,
        );
        let weak = "a secret that could be guessed; take 32 random bytes or more";
        let mut refuse = |key: &str, secret: &Secret| {
            environment.refuse_in_production(key, !secret.is_empty() && secret.is_weak(), weak, faults);
        };
        refuse("auth.internal_secret", &self.internal_secret);
        for (kid, secret) in &self.hs256_secrets {
            refuse(&format!("auth.hs256_secrets.{kid}"), secret);
        }
    }
}

/// Whether what is fetched there goes over a network, and not encrypted.
fn is_in_clear(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.is_some_and(|uri| {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
        uri.scheme_str() == Some("http") && !is_loopback
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn secrets_by_kid(secrets: &BTreeMap<String, Secret>, _: &()) -> garde::Result {
    let is_kid = |kid: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=64).contains(&kid.len()) && kid.bytes().all(is_allowed) && kid != internal::KID
    };
    let faults: Vec<_> = secrets
        .iter()
        .filter_map(|(kid, secret)| match secret {
            _ if !is_kid(kid) => {
                Some(format!("{kid:?} must be 1 to 64 of [A-Za-z0-9_-], and not {:?}", internal::KID))
            }
            secret if secret.is_empty() => Some(format!("{kid} must not be empty")),
            _ => None,
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(garde::Error::new(faults.join("; "))) }
}

fn fits(organization: &Option<Uuid>) -> impl FnOnce(&Role, &()) -> garde::Result + '_ {
    move |role, ()| role.fits(organization.is_some()).map_err(garde::Error::new)
}
