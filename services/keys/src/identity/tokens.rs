//! Mints the tokens that the chassis verifies.

use std::fmt;

use jsonwebtoken::Header;
use tidegate_chassis::{
    auth::{AuthConfig, Claims, Role, TokenUse},
    clock::{Clock, Random, uuid_v7},
};

use super::{IdentityConfig, Signer, SigningKeys};
use crate::{
    domain::{OrganizationId, ServiceToken, User},
    error::KeysError,
};

/// Mints access and service tokens. Cheap enough to clone.
#[derive(Clone)]
pub struct Minter {
    signing: Signing,
    issuer: String,
    audience: String,
    access_ttl_us: u64,
    refresh_ttl_us: u64,
    clock: Clock,
    random: Random,
}

#[derive(Clone)]
enum Signing {
    Database(SigningKeys),
    Shared(Signer),
}

/// What a login gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// A JWT.
    pub access: String,
    /// Good once.
    pub refresh: String,
    /// Seconds until the access token expires.
    pub access_s: u64,
    /// Seconds until the refresh token expires.
    pub refresh_s: u64,
}

/// Without the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access: _, refresh: _, access_s, refresh_s } = self;
        let mut tokens = f.debug_struct("Tokens");
        tokens.field("access_s", access_s).field("refresh_s", refresh_s).finish_non_exhaustive()
    }
}

impl Minter {
    /// Signs with `keys`, unless the settings name a shared secret.
    #[must_use]
    pub fn new(
        config: &IdentityConfig,
        auth: &AuthConfig,
        keys: SigningKeys,
        (clock, random): (Clock, Random),
    ) -> Self {
        let signing = match auth.hs256_secrets.get(&config.hs256_kid) {
            Some(secret) => Signing::Shared(Signer::shared(&config.hs256_kid, secret.expose())),
            None => Signing::Database(keys),
        };
        Self {
            signing,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            access_ttl_us: micros(&config.access_ttl),
            refresh_ttl_us: micros(&config.refresh_ttl),
            clock,
            random,
        }
    }

    /// The keys of the database, if they sign.
    #[must_use]
    pub fn keys(&self) -> Option<&SigningKeys> {
        match &self.signing {
            Signing::Database(keys) => Some(keys),
            Signing::Shared(_) => None,
        }
    }

    /// How long a refresh token is good.
    pub(super) fn refresh_ttl_us(&self) -> u64 {
        self.refresh_ttl_us
    }

    /// What signs, as of half a minute ago at most.
    pub(super) async fn signer(&self) -> Result<Signer, KeysError> {
        match &self.signing {
            Signing::Database(keys) => keys.current().await,
            Signing::Shared(signer) => Ok(signer.clone()),
        }
    }

    /// What signs, as of now.
    pub(super) async fn fresh_signer(&self) -> Result<Signer, KeysError> {
        match &self.signing {
            Signing::Database(keys) => keys.read().await,
            Signing::Shared(signer) => Ok(signer.clone()),
        }
    }

    /// Tokens for an account, with a refresh token that is drawn already.
    pub(super) fn tokens(
        &self,
        signer: &Signer,
        user: &User,
        (role, organization): (Role, Option<OrganizationId>),
        refresh: String,
    ) -> Result<Tokens, KeysError> {
        let now_us = self.clock.now_us();
        let claims = Claims {
            sub: user.id.to_string(),
            role,
            org: organization.map(|id| id.0),
            email: Some(user.email.as_str().to_owned()),
            exp: seconds(now_us + self.access_ttl_us),
            jti: uuid_v7(now_us, &self.random).to_string(),
            token_use: TokenUse::Access,
            ..self.claims(now_us)
        };
        let (access_s, refresh_s) = (seconds(self.access_ttl_us), seconds(self.refresh_ttl_us));
        Ok(Tokens { access: sign(signer, &claims)?, refresh, access_s, refresh_s })
    }

    /// The token of a backend.
    pub(super) fn service_token(&self, signer: &Signer, token: &ServiceToken) -> Result<String, KeysError> {
        let id = token.id.to_string();
        let claims = Claims {
            sub: id.clone(),
            org: token.organization_id.map(|id| id.0),
            exp: seconds(token.expires_us),
            jti: id,
            token_use: TokenUse::Service,
            ..self.claims(token.created_us)
        };
        sign(signer, &claims)
    }

    fn claims(&self, now_us: u64) -> Claims {
        Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: String::new(),
            role: Role::Service,
            org: None,
            email: None,
            exp: 0,
            nbf: None,
            iat: seconds(now_us),
            jti: String::new(),
            token_use: TokenUse::Service,
        }
    }
}

fn sign(signer: &Signer, claims: &Claims) -> Result<String, KeysError> {
    // Nobody would believe it.
    claims.role.fits(claims.org.is_some()).map_err(|why| KeysError::Internal(why.to_owned()))?;
    let header = Header { kid: Some(signer.kid.clone()), ..Header::new(signer.algorithm) };
    let signed = jsonwebtoken::encode(&header, claims, &signer.key);
    signed.map_err(|error| KeysError::Internal(format!("a token cannot be signed: {error}")))
}

fn seconds(us: u64) -> u64 {
    us / 1_000_000
}

/// A duration of the settings, in microseconds.
pub(super) fn micros(duration: &std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
