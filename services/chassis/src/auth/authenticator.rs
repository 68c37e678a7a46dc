//! Tells who calls.

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::{Algorithm, Validation};
use prometheus_client::metrics::{counter::Counter, family::Family};

use super::{
    Anonymous, AuthConfig, AuthError, Caller, CertificateIdentity, Claims, How, Role, SigningKeySource,
    TokenUse, internal,
    keys::{Key, Keys},
    remote::RemoteKeys,
};
use crate::{clock::Clock, metrics::Metrics};

/// By how much clocks may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// Tells who calls, for one service. Clones are the same.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    anonymous: Anonymous,
    certificates: Vec<CertificateIdentity>,
    keys: Keys,
    eddsa: Validation,
    hs256: Validation,
    clock: Clock,
    /// Ids of tokens that are good no longer, though they have not expired.
    revoked: Mutex<HashSet<String>>,
    /// Raised whenever what was good may be so no longer.
    epoch: Arc<AtomicU64>,
    refused: [Counter; AuthError::REASONS.len()],
}

/// A caller that a token named.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) caller: Arc<Caller>,
    /// Until when, Unix µs.
    good_until_us: u64,
    /// As of which it was good.
    epoch: u64,
}

#[cfg(test)]
impl Verified {
    /// Good for ever.
    pub(crate) fn of(caller: Arc<Caller>) -> Self {
        Self { caller, good_until_us: u64::MAX, epoch: 0 }
    }
}

impl Authenticator {
    /// Believes whom `config` names. Signing keys come from `source`, as the keys service has it, or else from the keys
    /// service that the settings name; [`Self::keep_keys`] looks them up.
    ///
    /// # Errors
    ///
    /// `keys_url` or the files of `keys_tls` cannot be used.
    pub fn new(
        config: &AuthConfig,
        source: Option<Arc<dyn SigningKeySource>>,
        clock: Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let source = match source {
            Some(source) => Some(source),
            None => RemoteKeys::of(config)?.map(|remote| Arc::new(remote) as Arc<dyn SigningKeySource>),
        };
        let family: Family<[(&str, &str); 1], Counter> = Family::default();
        let refused = AuthError::REASONS.map(|reason| family.get_or_create(&[("reason", reason)]).clone());
        metrics.register("tidegate_auth_refused_calls", "Calls refused for who made them, by reason", family);
        let epoch = Arc::new(AtomicU64::new(0));
        Ok(Self(Arc::new(Inner {
            anonymous: config.anonymous,
            certificates: config.certificates.clone(),
            keys: Keys::new(config, source, Arc::clone(&epoch)),
            eddsa: validation(Algorithm::EdDSA, config),
            hs256: validation(Algorithm::HS256, config),
            clock,
            revoked: Mutex::default(),
            epoch,
            refused,
        })))
    }

    /// Looks signing keys up for as long as it is polled: at once, every half minute, and when a token names one that is
    /// not known. The server of a service does this; only who has no such server calls it.
    pub async fn keep_keys(&self) {
        self.0.keys.keep().await;
    }

    /// Refuses the token of this `jti` from now on.
    pub fn revoke(&self, id: impl Into<String>) {
        self.revoked(|revoked| {
            revoked.insert(id.into());
        });
    }

    /// The `jti` of all tokens that are refused since they were revoked.
    #[must_use]
    pub fn revoked_ids(&self) -> HashSet<String> {
        self.0.revoked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets that these were revoked, which have expired by now: half a minute ago or more, since clocks may differ.
    pub fn forget_revoked(&self, ids: &HashSet<String>) {
        if !ids.is_empty() {
            self.revoked(|revoked| revoked.retain(|id| !ids.contains(id)));
        }
    }

    /// Whom the value of an `authorization` header names.
    ///
    /// # Errors
    ///
    /// It is no bearer token, or not one that is good.
    pub async fn authenticate(&self, authorization: &[u8]) -> Result<Arc<Caller>, AuthError> {
        Ok(self.verify(authorization).await?.caller)
    }

    /// Whom a connection names without a word of its calls: by `names` of its certificate, or for where it comes from.
    #[must_use]
    pub fn of_connection(&self, peer: IpAddr, names: &[String]) -> Option<Caller> {
        let by_certificate = self.0.certificates.iter().find(|identity| names.contains(&identity.name));
        if let Some(CertificateIdentity { name, role, organization }) = by_certificate {
            let (subject, organization) = (name.clone(), *organization);
            return Some(Caller { role: *role, subject, organization, email: None, how: How::Certificate });
        }
        let role = match self.0.anonymous {
            Anonymous::Nobody => return None,
            // IPv4 comes as IPv6 through a socket that takes both.
            Anonymous::Loopback => peer.to_canonical().is_loopback().then_some(Role::Admin)?,
            Anonymous::Network => Role::Service,
        };
        let subject = String::new();
        Some(Caller { role, subject, organization: None, email: None, how: How::Anonymous })
    }

    /// Whether what was verified is good still.
    pub(crate) fn is_good(&self, verified: &Verified) -> bool {
        verified.epoch == self.0.epoch.load(Ordering::Acquire)
            && self.0.clock.now_us() < verified.good_until_us
    }

    /// As [`Self::verify`], if the key that signed is known; otherwise nothing.
    pub(crate) fn verify_at_once(&self, authorization: &[u8]) -> Result<Option<Verified>, AuthError> {
        let token = bearer(authorization)?;
        match self.0.keys.get(&kid(token)?) {
            Some(key) => self.verify_by(token, &key).map(Some),
            None => Ok(None),
        }
    }

    /// Whom the value of an `authorization` header names.
    pub(crate) async fn verify(&self, authorization: &[u8]) -> Result<Verified, AuthError> {
        let token = bearer(authorization)?;
        let key = self.0.keys.look_up(&kid(token)?).await?;
        self.verify_by(token, &key)
    }

    /// Counts a call that was refused.
    pub(crate) fn count(&self, error: AuthError) {
        if let AuthError::Invalid(why) = error {
            tracing::debug!(why, "credentials refused");
        }
        self.0.refused[error.index()].inc();
    }

    fn verify_by(&self, token: &str, key: &Key) -> Result<Verified, AuthError> {
        // Before what it is compared with: a change in between makes it too old, not too new.
        let epoch = self.0.epoch.load(Ordering::Acquire);
        let validation = if key.algorithm == Algorithm::EdDSA { &self.0.eddsa } else { &self.0.hs256 };
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, validation)
            .map_err(|error| AuthError::Invalid(why(&error)))?
            .claims;
        let now_us = self.0.clock.now_us();
        let leeway_us = micros(LEEWAY.as_secs());
        let good_until_us = micros(claims.exp).saturating_add(leeway_us);
        if now_us >= good_until_us {
            return Err(AuthError::Invalid("expired"));
        }
        if claims.nbf.is_some_and(|nbf| micros(nbf) > now_us.saturating_add(leeway_us)) {
            return Err(AuthError::Invalid("not good yet"));
        }
        if key.is_internal != (claims.token_use == TokenUse::Internal) {
            return Err(AuthError::Invalid("signed by a key that is not for its use"));
        }
        if key.is_internal {
            let longest_us = micros(internal::LIFETIME.as_secs()).saturating_add(leeway_us);
            let is_plain = claims.role == Role::Service && claims.org.is_none();
            if !is_plain || micros(claims.exp) > now_us.saturating_add(longest_us) {
                return Err(AuthError::Invalid("not what a service shows another"));
            }
        }
        let is_revoked = self.0.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(&claims.jti);
        if is_revoked {
            return Err(AuthError::Invalid("revoked"));
        }
        Ok(Verified { caller: Arc::new(claims.into_caller()?), good_until_us, epoch })
    }

    fn revoked(&self, change: impl FnOnce(&mut HashSet<String>)) {
        let mut revoked = self.0.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut revoked);
        revoked.remove("");
        self.0.epoch.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("anonymous", &self.anonymous)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What jsonwebtoken checks besides the signature. Time it is not: that is the [`Clock`]'s.
fn validation(algorithm: Algorithm, config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&[&config.audience]);
    validation
}

/// The token of an `authorization` header.
fn bearer(authorization: &[u8]) -> Result<&str, AuthError> {
    const SCHEME: &[u8] = b"bearer ";
    let not_bearer = AuthError::Invalid("no bearer token");
    let (scheme, token) = authorization.split_at_checked(SCHEME.len()).ok_or(not_bearer)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(not_bearer);
    }
    std::str::from_utf8(token).map(str::trim_ascii).map_err(|_| not_bearer)
}

/// Which key a token says that it was signed by.
fn kid(token: &str) -> Result<String, AuthError> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| AuthError::Invalid(why(&error)))?;
    header.kid.ok_or(AuthError::Invalid("names no key"))
}

/// For the log: nothing of what the token says itself.
fn why(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "the signature is not of it",
        ErrorKind::InvalidAlgorithm => "another algorithm than its key has",
        ErrorKind::InvalidIssuer => "of another issuer",
        ErrorKind::InvalidAudience => "for another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => "a claim is missing or malformed",
        _ => "malformed",
    }
}

fn micros(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000)
}
