//! Use cases on real stores.

mod credits;
mod keys;
mod lookups;

use std::{collections::BTreeMap, sync::Arc};

use tidegate_chassis::{
    auth::BearerToken,
    clock::{Clock, ManualClock, Random},
    config::{Environment as Surroundings, HumanDuration, Secret},
    metrics::Metrics,
    tls::ClientFiles,
};
use tidegate_credentials::{Environment, Prefix};
use tidegate_tests::postgres_server::PostgresServer;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    RateLimitConfig,
    api_keys::{ApiKeys, CreatedKey, Expiry, KeySettings, NewKey},
    changes::{By, Changes},
    credits::Credits,
    domain::{Action, Event, Organization, OrganizationId},
    feed::Feed,
    fence::Fences,
    idempotency::Keep,
    organizations::Organizations,
    origin::{Actor, RequestOrigin},
    peppers::Peppers,
    resolve::Resolver,
    store::{self, KeysStore, conformance::config},
};

/// 2026-11-29, noon.
pub(crate) const NOW_US: u64 = 1_795_953_600_000_000;
pub(crate) const DAY_US: u64 = 86_400_000_000;

/// One replica of the service, without its ports.
pub(crate) struct Replica {
    pub(crate) store: Arc<dyn KeysStore>,
    pub(crate) changes: Changes,
    pub(crate) organizations: Organizations,
    pub(crate) keys: ApiKeys,
    pub(crate) credits: Credits,
    pub(crate) resolver: Resolver,
    pub(crate) feed: Feed,
    pub(crate) fences: Fences,
    pub(crate) hand: ManualClock,
    _following: AbortOnDropHandle<()>,
    _stop: tokio_util::sync::DropGuard,
}

/// A store in memory.
pub(crate) async fn sqlite() -> Arc<dyn KeysStore> {
    store::open(&config("sqlite::memory:"), Surroundings::Development).await.expect("SQLite")
}

/// A database of its own in PostgreSQL, for `replicas`.
pub(crate) async fn postgres(replicas: usize) -> Vec<Arc<dyn KeysStore>> {
    let server = PostgresServer::shared().await.expect("PostgreSQL");
    let url = server.database().await.expect("a database");
    let mut stores = Vec::new();
    for _ in 0..replicas {
        stores.push(store::open(&config(&url), Surroundings::Development).await.expect("PostgreSQL"));
    }
    stores
}

impl Replica {
    pub(crate) async fn new(store: Arc<dyn KeysStore>) -> Self {
        Self::with(store, &[], 1).await
    }

    /// One that tells the rate-limit services at `urls`, and whose current pepper is this one of two.
    pub(crate) async fn with(store: Arc<dyn KeysStore>, urls: &[String], pepper: u16) -> Self {
        let (clock, hand) = Clock::manual(NOW_US);
        let random = Random::system();
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let feed = Feed::load(Arc::clone(&store), &metrics).await.expect("the feed");
        let second = |seconds| HumanDuration::from(std::time::Duration::from_secs(seconds));
        let ratelimit =
            RateLimitConfig { urls: urls.to_vec(), deadline: second(5), tls: ClientFiles::default() };
        let fences = Fences::start(&ratelimit, &BearerToken(None), &random, &metrics, &stop).expect("fences");
        let changes = Changes::new(
            Arc::clone(&store),
            feed.hashes().clone(),
            fences.clone(),
            (clock.clone(), random.clone()),
        );
        let peppers = BTreeMap::from([(1, Secret::new("the first")), (2, Secret::new("the second"))]);
        let peppers = Arc::new(Peppers::new(&peppers, pepper).expect("peppers"));
        let settings = KeySettings {
            prefix: Prefix::parse("tk").expect("a prefix"),
            default_expiry: Some(std::time::Duration::from_secs(365 * 86_400)),
        };
        let keys = ApiKeys::new(changes.clone(), Arc::clone(&peppers), settings);
        let followed = feed.clone();
        let following = tokio::spawn(async move {
            let never = followed.follow(std::time::Duration::from_millis(100), &random).await;
            match never {}
        });
        Self {
            organizations: Organizations::new(changes.clone()),
            credits: Credits::new(changes.clone(), keys.clone()),
            resolver: Resolver::new(Arc::clone(&store), peppers, feed.clone()),
            store,
            changes,
            keys,
            feed,
            fences,
            hand,
            _following: AbortOnDropHandle::new(following),
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn organization(&self) -> Organization {
        let keep = Keep::nothing();
        self.organizations.create(&by(), "Acme".to_owned(), "free".to_owned(), keep).await.expect("made")
    }

    pub(crate) async fn key(&self, organization: OrganizationId) -> CreatedKey {
        self.keys.create(&by(), organization, new_key("Key"), Keep::nothing()).await.expect("made")
    }

    /// The one event of an action.
    pub(crate) async fn event(&self, action: Action) -> Event {
        let mut events: Vec<_> =
            self.events().await.into_iter().filter(|event| event.action == action).collect();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        self.store.outbox(None, 10_000).await.expect("asked")
    }
}

pub(crate) fn by() -> By {
    By { actor: Actor::system(), origin: RequestOrigin::default() }
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        environment: Environment::Live,
        scopes: vec!["read".to_owned()],
        expiry: Expiry::Default,
        allowed_cidrs: Vec::new(),
        metadata: BTreeMap::new(),
        limits: Vec::new(),
    }
}
