//! Tokens that Tidegate's services show each other.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};

use super::{AuthConfig, Claims, Role, TokenUse};
use crate::clock::Clock;

/// The `kid` of such tokens, which no other key may have.
pub(super) const KID: &str = "internal";
/// How long such a token is good, at most.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// How long one is shown; the rest is for the way, and for clocks that differ.
const SHOWN_FOR: Duration = Duration::from_secs(180);

/// Makes the tokens of one service, and keeps each while it is good.
#[derive(Clone)]
pub struct InternalTokens(Arc<Mint>);

struct Mint {
    key: EncodingKey,
    issuer: String,
    audience: String,
    service: String,
    clock: Clock,
    current: ArcSwapOption<Minted>,
}

struct Minted {
    header: HeaderValue,
    made_us: u64,
}

impl InternalTokens {
    /// Tokens for `service`, as `tidegate-keys`; none if the settings have no `internal_secret`.
    #[must_use]
    pub fn new(config: &AuthConfig, service: &str, clock: Clock) -> Option<Self> {
        if config.internal_secret.is_empty() {
            return None;
        }
        Some(Self(Arc::new(Mint {
            key: EncodingKey::from_secret(config.internal_secret.expose().as_bytes()),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            service: service.to_owned(),
            clock,
            current: ArcSwapOption::empty(),
        })))
    }

    /// The value of an `authorization` header that is good for two more minutes at least.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let now_us = self.0.clock.now_us();
        let is_fresh = |made_us| Duration::from_micros(now_us.abs_diff(made_us)) < SHOWN_FOR;
        if let Some(minted) = &*self.0.current.load()
            && is_fresh(minted.made_us)
        {
            return minted.header.clone();
        }
        let header = self.0.mint(now_us);
        self.0.current.store(Some(Arc::new(Minted { header: header.clone(), made_us: now_us })));
        header
    }
}

impl Mint {
    fn mint(&self, now_us: u64) -> HeaderValue {
        let now_s = now_us / 1_000_000;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: self.service.clone(),
            role: Role::Service,
            org: None,
            email: None,
            exp: now_s + LIFETIME.as_secs(),
            nbf: None,
            iat: now_s,
            jti: String::new(),
            token_use: TokenUse::Internal,
        };
        let header = Header { kid: Some(KID.to_owned()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key)
            .expect("HMAC takes a key of any length, and these claims are JSON");
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).expect("a JWT is base64url and dots");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for InternalTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalTokens").field("service", &self.0.service).finish_non_exhaustive()
    }
}

/// Shows an internal token with every call of a client that names no other caller; nothing, if there are none.
#[derive(Clone, Debug)]
pub struct BearerToken(pub Option<InternalTokens>);

impl Interceptor for BearerToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(tokens) = &self.0
            && !metadata.contains_key("authorization")
        {
            let value =
                MetadataValue::try_from(tokens.header().as_bytes()).expect("a header's value is ASCII");
            metadata.insert("authorization", value);
        }
        Ok(request)
    }
}
