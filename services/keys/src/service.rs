//! The service as a whole: bound, then served, then left.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use tidegate_chassis::{
    auth::{Authenticator, BearerToken, InternalTokens, SigningKeySource},
    clock::{Clock, Random},
    metrics::Metrics,
    server::{Listeners, Server},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    api_keys::ApiKeys,
    changes::Changes,
    config::Config,
    credits::Credits,
    feed::Feed,
    fence::Fences,
    grpc::{
        self, AuthApi, Handlers, KeysApi, RateLimitAttempts, Services, TrustedProxies,
        idempotency::Idempotency,
    },
    identity::{
        AttemptLimiter, Attempts, HttpKeySets, Issuers, KeySets, Members, Minter, Passwords, ServiceTokens,
        Sessions, SigningKeys,
    },
    jobs,
    organizations::Organizations,
    resolve::Resolver,
    sealing::Sealing,
    store::{self, KeysStore},
    usage::KeyUsage,
};

/// As the service names itself to others.
const NAME: &str = "tidegate-keys";

/// The keys service, with its ports open.
pub struct Service {
    listeners: Listeners,
    config: Config,
    store: Arc<dyn KeysStore>,
    metrics: Metrics,
    clock: Clock,
    random: Random,
}

impl Service {
    /// Opens the database and the ports; nothing is served yet.
    ///
    /// # Errors
    ///
    /// Settings unfit for the environment, a database that cannot be reached, a port that cannot be had.
    pub async fn bind(
        config: Config,
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        config.refuse_unfit()?;
        let store =
            store::open(&config.database, config.environment).await.context("database.url (DATABASE_URL)")?;
        let listeners = Listeners::bind(&config.server).await?;
        Ok(Self { listeners, config, store, metrics, clock, random })
    }

    /// Address of the gRPC port.
    pub fn addr(&self) -> SocketAddr {
        self.listeners.grpc_addr()
    }

    /// Address of the ops port.
    pub fn ops_addr(&self) -> SocketAddr {
        self.listeners.ops_addr()
    }

    /// Serves until `stop`, then leaves gracefully.
    ///
    /// # Errors
    ///
    /// If what the database holds cannot be used, or the server cannot start its workers.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listeners, config, store, metrics, clock, random } = self;
        let peppers = Arc::new(config.peppers().context("secrets.peppers")?);
        let sealing =
            Arc::new(Sealing::new(config.identity.secret.expose(), config.identity.previous_secret.expose()));
        let injected = || (clock.clone(), random.clone());
        let feed = Feed::load(Arc::clone(&store), &metrics).await.context("the feed of changes")?;
        // To the very end, since what is asked while the server drains is answered too.
        let keep = CancellationToken::new();
        let _ends_last = keep.clone().drop_guard();
        let token = BearerToken(InternalTokens::new(&config.auth, NAME, clock.clone()));
        let fences = Fences::start(&config.ratelimit, &token, &random, &metrics, &keep)?;
        fences.tell_again(&feed);
        let changes = Changes::new(Arc::clone(&store), feed.hashes().clone(), fences, injected());

        let access_ttl_us = u64::try_from(config.identity.access_ttl.as_micros()).unwrap_or(u64::MAX);
        let signing_keys =
            SigningKeys::new(Arc::clone(&store), Arc::clone(&sealing), injected(), access_ttl_us);
        let signs_itself = config.identity.hs256_kid.is_empty();
        if signs_itself {
            signing_keys.ensure().await.context("the keys that sign tokens")?;
        }
        let source = signs_itself.then(|| Arc::new(signing_keys.clone()) as Arc<dyn SigningKeySource>);
        let auth = Authenticator::new(&config.auth, source, clock.clone(), &metrics)?;
        let minter = Minter::new(&config.identity, &config.auth, signing_keys, injected());
        let counted = RateLimitAttempts::connect(&config.identity.limits, token)?;
        let counted = counted.map(|remote| Box::new(remote) as Box<dyn AttemptLimiter>);
        let now = clock.clone();
        let attempts = Arc::new(Attempts::new(counted, move || now.now_us()));
        let key_sets: Arc<dyn KeySets> = Arc::new(HttpKeySets::of(&config.identity.oidc)?);
        let issuers = Issuers::new(&config.identity.oidc, &key_sets, &clock);
        let passwords = Passwords::start(&config.identity.passwords);
        let sessions = Sessions::new(
            Arc::clone(&store),
            passwords,
            minter.clone(),
            Arc::clone(&attempts),
            issuers,
            injected(),
        );
        if !config.identity.admin_email.is_empty() {
            let (email, password) = (&config.identity.admin_email, config.identity.admin_password.expose());
            sessions.ensure_administrator(email, password).await.context("identity.admin_email")?;
        }

        let proxies = TrustedProxies::new(config.identity.trusted_proxies.clone());
        let idempotency = Idempotency::new(Arc::clone(&store), Arc::clone(&sealing), clock.clone());
        let keys = ApiKeys::new(changes.clone(), Arc::clone(&peppers), config.key_settings());
        let handlers = Handlers {
            organizations: Organizations::new(changes.clone()),
            credits: Credits::new(changes.clone(), keys.clone()),
            usage: KeyUsage::new(changes.clone(), keys.clone()),
            keys,
            resolver: Resolver::new(Arc::clone(&store), peppers, feed.clone()),
            feed: feed.clone(),
            members: Members::new(Arc::clone(&store), &config.identity, injected()),
            service_tokens: ServiceTokens::new(Arc::clone(&store), minter, auth.clone(), injected()),
            attempts,
            idempotency: idempotency.clone(),
            sealing,
            proxies: proxies.clone(),
            clock: clock.clone(),
        };
        let keys_api = KeysApi::new(handlers);
        let auth_api = AuthApi::new(sessions, idempotency, proxies);

        let poll_every = config.database.poll_every.get();
        let following = (feed.clone(), random.clone());
        let _following = spawn(async move { following.0.follow(poll_every, &following.1).await });
        // Before anything is served.
        let refused = jobs::refuse_revoked(&feed, &changes, &auth).await.context("revoked service tokens")?;
        let _refusing = spawn(jobs::keep_refusing(feed.clone(), changes.clone(), auth.clone(), refused));
        let _forgetting = spawn(jobs::keep_forgetting(changes.clone(), auth.clone(), random.clone()));
        let announce_before = config.keys.announce_before.get();
        let _announcing = (!announce_before.is_zero())
            .then(|| spawn(jobs::keep_announcing(changes, announce_before, random.clone())));

        let max_message_bytes = config.server.max_message_bytes;
        let server = Server {
            listeners,
            config: config.server,
            metrics,
            clock,
            random,
            services: grpc::NAMES,
            descriptors: tidegate_proto::DESCRIPTORS,
            environment: config.environment,
            auth,
            access: grpc::ACCESS,
        };
        let make = move |_worker: usize| Services::new(keys_api.clone(), auth_api.clone(), max_message_bytes);
        server.serve(make, stop).await
    }
}

fn spawn(job: impl Future<Output = std::convert::Infallible> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let never = job.await;
        match never {}
    }))
}
