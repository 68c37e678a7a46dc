//! The addresses of one service, each with its own connection, and which of them is called next.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tidegate_chassis::clock::Random;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use super::endpoint::{Endpoints, Key};

/// How long an address is passed over after a failure, if there is another.
const SUSPECTED_FOR: Duration = Duration::from_secs(1);
/// Between look-ups that failures ask for.
const LEAST_BETWEEN_LOOKUPS: Duration = Duration::from_secs(1);

/// Every address of one service. Connections are opened when they are first needed, on the runtime
/// the pool was opened on, and again whenever they broke.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Arc<ArcSwap<Vec<Arc<Member>>>>,
    random: Random,
    /// Asks for a look-up before its time.
    stale: Arc<Notify>,
    _refresh: AbortOnDropHandle<()>,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Member {
    key: Key,
    channel: Channel,
    in_flight: AtomicUsize,
    opened: Instant,
    /// Milliseconds after `opened` until which it is passed over.
    suspected_until_ms: AtomicU64,
}

impl Pool {
    /// Looks the names up once, and then again and again in the background.
    pub(crate) async fn open(endpoints: Endpoints, random: Random) -> Self {
        let found = endpoints.resolve().await;
        let first = found.into_iter().map(|key| Arc::new(Member::new(key, &endpoints))).collect();
        let members = Arc::new(ArcSwap::from_pointee(first));
        let stale = Arc::new(Notify::new());
        let refresh = tokio::spawn(refresh(Arc::clone(&members), endpoints, Arc::clone(&stale)));
        Self { members, random, stale, _refresh: AbortOnDropHandle::new(refresh) }
    }

    /// The address to call: one that has not just failed, and of those one with the fewest calls in
    /// flight. `avoid` is taken only if there is no other. `None` if no address is known.
    #[must_use]
    pub(crate) fn pick(&self, avoid: Option<&Arc<Member>>) -> Option<Arc<Member>> {
        let members = self.members.load();
        let count = members.len();
        let start = usize::try_from(self.random.below(count as u64)).unwrap_or_default();
        // From a random start, since the first of equals is taken.
        let turned = members[start.min(count)..].iter().chain(&members[..start.min(count)]);
        let best = turned.min_by_key(|member| {
            let is_avoided = avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, member));
            (is_avoided, member.is_suspected(), member.in_flight.load(Ordering::Relaxed))
        });
        best.map(Arc::clone)
    }

    /// Passes `member` over for a while, after a failure, and has the names looked up again: the
    /// service may have moved.
    pub(crate) fn suspect(&self, member: &Member) {
        member.suspect();
        self.stale.notify_one();
    }

    /// Every address.
    #[must_use]
    pub(crate) fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }
}

impl Member {
    fn new(key: Key, endpoints: &Endpoints) -> Self {
        Self {
            channel: endpoints.connect(&key),
            key,
            in_flight: AtomicUsize::new(0),
            opened: Instant::now(),
            suspected_until_ms: AtomicU64::new(0),
        }
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.key.address
    }

    /// Its connection.
    #[must_use]
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    fn suspect(&self) {
        let until = self.opened.elapsed() + SUSPECTED_FOR;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.suspected_until_ms.store(until, Ordering::Relaxed);
    }

    fn is_suspected(&self) -> bool {
        let until = self.suspected_until_ms.load(Ordering::Relaxed);
        until > 0 && self.opened.elapsed() < Duration::from_millis(until)
    }
}

/// One call in flight.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Member);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn refresh(members: Arc<ArcSwap<Vec<Arc<Member>>>>, endpoints: Endpoints, stale: Arc<Notify>) {
    if endpoints.are_all_addresses() {
        return;
    }
    let every = endpoints.resolve_every();
    loop {
        let least = every.min(LEAST_BETWEEN_LOOKUPS);
        tokio::time::sleep(least).await;
        // Either way it is time.
        let _ = tokio::time::timeout(every.saturating_sub(least), stale.notified()).await;
        let found = endpoints.resolve().await;
        // A name that cannot be looked up now does not make its addresses bad.
        if found.is_empty() {
            continue;
        }
        let known = members.load_full();
        if known.iter().map(|member| &member.key).eq(&found) {
            continue;
        }
        let next: Vec<_> = found
            .into_iter()
            .map(|key| match known.iter().find(|member| member.key == key) {
                Some(member) => Arc::clone(member),
                None => Arc::new(Member::new(key, &endpoints)),
            })
            .collect();
        tracing::info!(addresses = next.len(), "the addresses of a service changed");
        members.store(Arc::new(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn endpoints(url: &str, more: &str) -> Endpoints {
        let config = fixture::config_with(url, more).upstreams;
        Endpoints::new(&config.ratelimit, &config).unwrap()
    }

    async fn pool(url: &str, more: &str) -> Pool {
        Pool::open(endpoints(url, more), Random::seeded(1)).await
    }

    async fn found_again(pool: &Pool) -> bool {
        let found = async {
            while pool.members().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.is_ok()
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_and_again() {
        let pool = pool("http://localhost:1", "[upstreams]\nresolve_every = \"20ms\"").await;
        let before = pool.members();
        assert!(!before.is_empty());
        // As if the name had pointed elsewhere until now.
        pool.members.store(Arc::default());
        assert!(found_again(&pool).await);
        assert_eq!(pool.members().len(), before.len());
    }

    #[tokio::test]
    async fn a_failed_address_has_its_name_looked_up_before_its_time() {
        let pool = pool("http://localhost:1", "[upstreams]\nresolve_every = \"1h\"").await;
        let failed = pool.pick(None).unwrap();
        pool.members.store(Arc::default());
        pool.suspect(&failed);
        assert!(found_again(&pool).await);
    }

    #[tokio::test]
    async fn connections_to_addresses_that_stay_are_kept() {
        let pool = pool("http://localhost:1", "[upstreams]\nresolve_every = \"20ms\"").await;
        let kept = Arc::clone(&pool.members()[0]);
        let elsewhere = endpoints("http://192.0.2.1:1", "");
        let gone = Arc::new(Member::new(elsewhere.resolve().await.remove(0), &elsewhere));
        pool.members.store(Arc::new(vec![Arc::clone(&gone), Arc::clone(&kept)]));
        let is_gone = async {
            while pool.members().iter().any(|member| Arc::ptr_eq(member, &gone)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_gone).await.expect("it is looked up again");
        assert!(pool.members().iter().any(|member| Arc::ptr_eq(member, &kept)));
    }

    #[tokio::test]
    async fn the_least_busy_address_is_picked_and_a_failed_one_only_if_there_is_no_other() {
        let config = fixture::config_with(fixture::NOBODY, "").upstreams;
        let urls: Vec<_> =
            (1..=3).map(|port| format!("http://127.0.0.1:{port}").try_into().unwrap()).collect();
        let pool = Pool::open(Endpoints::new(&urls, &config).unwrap(), Random::seeded(1)).await;
        let members = pool.members();
        let picked = || pool.pick(None).unwrap().address().port();

        let _busy = [members[0].enter(), members[1].enter()];
        assert!((0..32).all(|_| picked() == 3));
        pool.suspect(&members[2]);
        assert!((0..32).all(|_| picked() != 3), "although it is the least busy");
        pool.suspect(&members[0]);
        assert!((0..32).all(|_| picked() == 2));
        let other = pool.pick(Some(&members[1])).unwrap();
        assert!(!Arc::ptr_eq(&other, &members[1]), "another failed one rather than the same again");
    }
}
