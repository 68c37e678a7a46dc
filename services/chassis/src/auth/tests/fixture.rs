//! Those who issue tokens, honest or not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use super::super::{AuthConfig, AuthError, Authenticator, Caller, SigningKeySource, VerifyingKey};
use crate::{
    clock::{Clock, ManualClock},
    config::Secret,
    metrics::Metrics,
};

/// Unix seconds at which the tests begin.
pub(super) const NOW_S: u64 = 1_800_000_000;
pub(super) const SHARED: &str = "a shared secret that is drawn at random";
pub(super) const INTERNAL: &str = "a secret among our own, drawn at random";

/// What the keys service knows.
pub(super) struct Source {
    pub(super) listed: ArcSwap<Vec<VerifyingKey>>,
    pub(super) is_away: AtomicBool,
    pub(super) asked: AtomicUsize,
}

#[tonic::async_trait]
impl SigningKeySource for Source {
    async fn list(&self) -> anyhow::Result<Vec<VerifyingKey>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        anyhow::ensure!(!self.is_away.load(Ordering::Relaxed), "away");
        Ok(self.listed.load().to_vec())
    }
}

/// A key that signs, and its name.
pub(super) struct Signer {
    pub(super) kid: &'static str,
    pub(super) pair: KeyPair,
}

impl Signer {
    pub(super) fn new(kid: &'static str) -> Self {
        Self { kid, pair: KeyPair::generate_for(&PKCS_ED25519).unwrap() }
    }

    pub(super) fn verifying(&self) -> VerifyingKey {
        let public_key = self.pair.public_key_raw().try_into().unwrap();
        VerifyingKey { kid: self.kid.to_owned(), public_key }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let key = EncodingKey::from_ed_der(&self.pair.serialize_der());
        signed(Algorithm::EdDSA, Some(self.kid), claims, &key)
    }
}

/// A service that believes operators, backends and its own kind.
pub(super) struct Fixture {
    pub(super) auth: Authenticator,
    pub(super) source: Arc<Source>,
    pub(super) signer: Signer,
    pub(super) time: ManualClock,
}

pub(super) fn settings() -> AuthConfig {
    AuthConfig {
        internal_secret: Secret::new(INTERNAL),
        hs256_secrets: [("shared".to_owned(), Secret::new(SHARED))].into(),
        ..AuthConfig::default()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(&settings())
    }

    pub(super) fn with(config: &AuthConfig) -> Self {
        let signer = Signer::new("first");
        let source = Arc::new(Source {
            listed: ArcSwap::from_pointee(vec![signer.verifying()]),
            is_away: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        });
        let (clock, time) = Clock::manual(NOW_S * 1_000_000);
        let auth = Authenticator::new(config, Some(source.clone()), clock, &Metrics::new()).unwrap();
        Self { auth, source, signer, time }
    }

    /// Looks keys up in the background, as a server does.
    pub(super) fn keep_keys(&self) {
        let auth = self.auth.clone();
        tokio::spawn(async move { auth.keep_keys().await });
    }

    /// Whom a token names.
    pub(super) async fn show(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        self.auth.authenticate(format!("Bearer {token}").as_bytes()).await
    }

    /// Why a token is refused.
    pub(super) async fn refused(&self, token: &str) -> AuthError {
        self.show(token).await.expect_err("it is not good")
    }
}

/// What a token of an operator says.
pub(super) fn claims() -> Value {
    json!({
        "iss": "tidegate", "aud": "tidegate", "sub": "somebody", "role": "admin", "exp": NOW_S + 600, "iat": NOW_S,
        "jti": "token-1", "use": "access",
    })
}

/// The same, but for `changes`; null leaves a claim out.
pub(super) fn claims_but(changes: Value) -> Value {
    let mut claims = claims();
    let of = claims.as_object_mut().unwrap();
    let Value::Object(changes) = changes else { panic!("changes of what?") };
    for (name, value) in changes {
        match value {
            Value::Null => of.remove(&name),
            value => of.insert(name, value),
        };
    }
    claims
}

pub(super) fn signed(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// Signed with a shared secret.
pub(super) fn shared(kid: &str, claims: &Value, secret: &[u8]) -> String {
    signed(Algorithm::HS256, Some(kid), claims, &EncodingKey::from_secret(secret))
}
