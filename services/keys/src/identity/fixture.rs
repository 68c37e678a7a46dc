//! The use cases on a real store, for tests.

use std::{sync::Arc, time::Duration};

use tidegate_chassis::{
    auth::{AuthConfig, Authenticator, Caller, How, Role, TokenUse},
    clock::{Clock, ManualClock, Random},
    config::{Environment, Secret},
    metrics::Metrics,
};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::{
    Admitted, Attempts, HttpKeySets, IdentityConfig, Issuers, LimitsConfig, LogIn, Members, Minter,
    OidcIssuerConfig, Passwords, PasswordsConfig, ServiceTokens, Sessions, SignUp, SigningKeys, Tokens,
};
use crate::{
    domain::{Action, Event, OrganizationId, Outcome},
    error::KeysError,
    idempotency::Keep,
    origin::RequestOrigin,
    sealing::Sealing,
    store::{self, KeysStore, conformance},
};

pub(crate) const START_US: u64 = 1_800_000_000_000_000;
pub(crate) const PASSWORD: &str = "a password of some length";
pub(crate) const SECRET: &str = "a secret of the settings, which is long enough";

/// One replica, on a database in memory.
pub(crate) struct Replica {
    pub(crate) store: Arc<dyn KeysStore>,
    pub(crate) hand: ManualClock,
    pub(crate) clock: Clock,
    pub(crate) keys: SigningKeys,
    pub(crate) passwords: Passwords,
    pub(crate) sessions: Sessions,
    pub(crate) members: Members,
    pub(crate) service_tokens: ServiceTokens,
    pub(crate) authenticator: Authenticator,
    _keys: AbortOnDropHandle<()>,
}

pub(crate) fn config() -> IdentityConfig {
    let day = Duration::from_secs(86_400);
    IdentityConfig {
        secret: Secret::new(SECRET),
        previous_secret: Secret::default(),
        admin_email: String::new(),
        admin_password: Secret::default(),
        hs256_kid: String::new(),
        access_ttl: Duration::from_secs(1_800).into(),
        refresh_ttl: (day * 7).into(),
        invitation_ttl: (day * 7).into(),
        password_reset_ttl: Duration::from_secs(3_600).into(),
        trusted_proxies: Vec::new(),
        passwords: PasswordsConfig { threads: 2, queue: 64, max_wait: Duration::from_secs(60).into() },
        limits: LimitsConfig { url: String::new(), timeout: Duration::from_millis(200).into() },
        oidc: Vec::new(),
    }
}

pub(crate) async fn store() -> Arc<dyn KeysStore> {
    let config = conformance::config("sqlite::memory:");
    store::open(&config, Environment::Development).await.expect("a database in memory")
}

pub(crate) async fn replica() -> Replica {
    with(store().await, &config(), &AuthConfig::default()).await
}

pub(crate) async fn with_issuers(issuers: Vec<OidcIssuerConfig>) -> Replica {
    let config = IdentityConfig { oidc: issuers, ..config() };
    with(store().await, &config, &AuthConfig::default()).await
}

pub(crate) async fn with(store: Arc<dyn KeysStore>, config: &IdentityConfig, auth: &AuthConfig) -> Replica {
    let (clock, hand) = Clock::manual(START_US);
    let times = || (clock.clone(), Random::system());
    let sealing = Arc::new(Sealing::new(config.secret.expose(), config.previous_secret.expose()));
    let access_ttl_us = super::tokens::micros(&config.access_ttl);
    let keys = SigningKeys::new(Arc::clone(&store), sealing, times(), access_ttl_us);
    keys.ensure().await.expect("a key that signs");
    let source = Some(Arc::new(keys.clone()) as _);
    let authenticator =
        Authenticator::new(auth, source, clock.clone(), &Metrics::new()).expect("settings that are good");
    let kept = authenticator.clone();
    let keep_keys = AbortOnDropHandle::new(tokio::spawn(async move { kept.keep_keys().await }));
    let minter = Minter::new(config, auth, keys.clone(), times());
    let now = clock.clone();
    let attempts = Arc::new(Attempts::new(None, move || now.now_us()));
    let key_sets = Arc::new(HttpKeySets::new().expect("authorities")) as _;
    let issuers = Issuers::new(&config.oidc, &key_sets, &clock);
    let passwords = Passwords::start(&config.passwords);
    let sessions =
        Sessions::new(Arc::clone(&store), passwords.clone(), minter.clone(), attempts, issuers, times());
    let members = Members::new(Arc::clone(&store), config, times());
    let service_tokens = ServiceTokens::new(Arc::clone(&store), minter, authenticator.clone(), times());
    Replica {
        store,
        hand,
        clock,
        keys,
        passwords,
        sessions,
        members,
        service_tokens,
        authenticator,
        _keys: keep_keys,
    }
}

pub(crate) fn origin() -> RequestOrigin {
    RequestOrigin {
        ip_address: Some("203.0.113.7".to_owned()),
        user_agent: Some("test/1".to_owned()),
        request_id: Some("r-1".to_owned()),
    }
}

/// An operator of everything.
pub(crate) fn admin() -> Caller {
    Caller {
        role: Role::Admin,
        subject: "root".to_owned(),
        organization: None,
        email: None,
        how: How::Certificate,
    }
}

impl Replica {
    pub(crate) async fn sign_up(&self, email: &str) -> Admitted {
        self.try_sign_up(email, PASSWORD).await.expect("signed up")
    }

    pub(crate) async fn try_sign_up(&self, email: &str, password: &str) -> Result<Admitted, KeysError> {
        let asked = SignUp {
            email: email.to_owned(),
            password: Zeroizing::new(password.to_owned()),
            organization_name: format!("of {email}"),
        };
        self.sessions.sign_up(self.sessions.place()?, asked, &origin(), &Keep::nothing()).await
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Result<Tokens, KeysError> {
        self.log_in_at(email, password, "").await
    }

    pub(crate) async fn log_in_at(
        &self,
        email: &str,
        password: &str,
        organization: &str,
    ) -> Result<Tokens, KeysError> {
        let asked = LogIn {
            email: email.to_owned(),
            password: Zeroizing::new(password.to_owned()),
            organization_id: organization.to_owned(),
        };
        self.sessions.log_in(self.sessions.place()?, asked, &origin(), &Keep::nothing()).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<Tokens, KeysError> {
        self.sessions.refresh(token, &origin(), &Keep::nothing()).await
    }

    /// Whom a token names, as every service finds out.
    pub(crate) async fn caller(&self, token: &str) -> Option<Caller> {
        let header = format!("Bearer {token}");
        self.authenticator.authenticate(header.as_bytes()).await.ok().map(Arc::unwrap_or_clone)
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        self.store.outbox(None, 1_000).await.expect("asked")
    }

    pub(crate) async fn told(&self) -> Vec<(Action, Outcome)> {
        self.events().await.into_iter().map(|event| (event.action, event.outcome)).collect()
    }
}

/// The caller that an access token of `admitted` would name.
pub(crate) fn caller_of(admitted: &Admitted, role: Role) -> Caller {
    operator(admitted.user.id.to_string(), role, admitted.organization.id)
}

pub(crate) fn operator(subject: String, role: Role, organization: OrganizationId) -> Caller {
    let how = How::Token { id: String::new(), token_use: TokenUse::Access, expires_at_s: 0 };
    Caller { role, subject, organization: Some(organization.0), email: None, how }
}
