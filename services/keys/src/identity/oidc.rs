//! Tokens of external issuers (OpenID Connect Core 1.0, section 3.1.3.7).

mod key_set;
mod source;

use std::{sync::Arc, time::Duration};

use jsonwebtoken::Validation;
use serde::Deserialize;
use tidegate_chassis::{auth::Role, clock::Clock};

use self::key_set::CachedKeys;
pub use self::source::{HttpKeySets, KeySets};
use super::OidcIssuerConfig;
use crate::{
    domain::{Email, ExternalIdentity, OrganizationId},
    error::KeysError,
};

/// By how much clocks may differ.
const LEEWAY_US: u64 = 60_000_000;
/// A longer token is none.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// A longer subject is none (OpenID Connect Core 1.0, section 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// Issuers that the settings name. Clones are the same.
#[derive(Clone)]
pub struct Issuers(Arc<Vec<Issuer>>);

struct Issuer {
    config: OidcIssuerConfig,
    keys: CachedKeys,
    clock: Clock,
}

/// Whom a token of an external issuer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalUser {
    /// By what the issuer knows it.
    pub identity: ExternalIdentity,
    /// Its address, if the issuer has verified it.
    pub email: Option<Email>,
    /// Of which organization it becomes a member when it comes for the first time, and as what.
    pub joins: Option<(OrganizationId, Role)>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    iat: u64,
    azp: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: Flag,
}

/// Some issuers write it as a text.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Flag {
    Plain(bool),
    Text(String),
    #[default]
    Absent,
}

#[derive(Deserialize)]
struct Named {
    iss: String,
}

impl Issuers {
    /// Believes these issuers, whose keys `source` gives.
    #[must_use]
    pub fn new(configs: &[OidcIssuerConfig], source: &Arc<dyn KeySets>, clock: &Clock) -> Self {
        let issuer = |config: &OidcIssuerConfig| Issuer {
            config: config.clone(),
            keys: CachedKeys::new(config.clone(), Arc::clone(source), clock.clone()),
            clock: clock.clone(),
        };
        Self(Arc::new(configs.iter().map(issuer).collect()))
    }

    /// Whom a token names.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`], whatever is wrong; the log has it.
    pub async fn verify(&self, token: &str) -> Result<ExternalUser, KeysError> {
        self.named(token).await.map_err(|why| {
            tracing::debug!(why, "a token of an external issuer is refused");
            KeysError::CredentialsInvalid
        })
    }

    async fn named(&self, token: &str) -> Result<ExternalUser, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("too long");
        }
        // Says only whose keys are to be asked for; what is believed is what they signed.
        let named: Named =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| "not a token")?;
        let issuer = self.0.iter().find(|issuer| issuer.config.issuer == named.iss);
        issuer.ok_or("of an issuer that the settings do not name")?.verify(token).await
    }
}

impl Issuer {
    async fn verify(&self, token: &str) -> Result<ExternalUser, &'static str> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| "no header that could be read")?;
        let is_pinned = self.config.algorithms.iter().any(|pinned| pinned.algorithm() == header.alg);
        if !is_pinned {
            return Err("by an algorithm that the issuer does not use");
        }
        let key =
            self.keys.find(header.kid.as_deref(), header.alg).await.ok_or("by a key that is not known")?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Time is told by the injected clock, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        let claims = decoded.map_err(|_| "not signed by the issuer, or for another audience")?.claims;
        self.user(claims)
    }

    fn user(&self, claims: Claims) -> Result<ExternalUser, &'static str> {
        let us = |seconds: u64| seconds.saturating_mul(1_000_000);
        let now_us = self.clock.now_us();
        if now_us >= us(claims.exp).saturating_add(LEEWAY_US) {
            return Err("expired");
        }
        if us(claims.nbf.max(claims.iat)) > now_us.saturating_add(LEEWAY_US) {
            return Err("not good yet");
        }
        if claims.azp.is_some_and(|party| party != self.config.audience) {
            return Err("given to another party");
        }
        if !(1..=MAX_SUBJECT_BYTES).contains(&claims.sub.len()) {
            return Err("without a subject");
        }
        let is_verified = match claims.email_verified {
            Flag::Plain(is_verified) => is_verified,
            Flag::Text(text) => text == "true",
            Flag::Absent => false,
        };
        let email = claims.email.filter(|_| is_verified).and_then(|email| Email::parse(&email).ok());
        let identity = ExternalIdentity { issuer: self.config.issuer.clone(), subject: claims.sub };
        let joins = self.config.organization.map(|id| (OrganizationId(id), self.config.role));
        Ok(ExternalUser { identity, email, joins })
    }
}

/// For one look-up of keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests;
