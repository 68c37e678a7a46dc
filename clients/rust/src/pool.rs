//! The addresses of one service, each with its own connection, and which of them is called next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use crate::{
    endpoint::{Endpoints, Key},
    random,
};

/// How long an address is passed over after a failure, if there is another.
const SUSPECTED_FOR: Duration = Duration::from_secs(1);
/// Between look-ups that failures ask for.
const LEAST_BETWEEN_LOOKUPS: Duration = Duration::from_secs(1);

/// Every address of one service. Connections are opened when they are first needed, and again whenever they broke.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Arc<ArcSwap<Vec<Arc<Member>>>>,
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
    pub(crate) async fn open(endpoints: Endpoints) -> Self {
        let found = endpoints.resolve().await;
        let first = found.into_iter().map(|key| Arc::new(Member::new(key, &endpoints))).collect();
        let members = Arc::new(ArcSwap::from_pointee(first));
        let stale = Arc::new(Notify::new());
        let refresh = tokio::spawn(refresh(Arc::clone(&members), endpoints, Arc::clone(&stale)));
        Self { members, stale, _refresh: AbortOnDropHandle::new(refresh) }
    }

    /// The address to call: one that has not just failed, and of those one with the fewest calls in flight. `avoid` is taken
    /// only if there is no other. `None` if no address is known.
    pub(crate) fn pick(&self, avoid: Option<&Arc<Member>>) -> Option<Arc<Member>> {
        let members = self.members.load();
        let start = random::below(members.len());
        // From a random start, since the first of equals is taken.
        let turned = members[start..].iter().chain(&members[..start]);
        let best = turned.min_by_key(|member| {
            let is_avoided = avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, member));
            (is_avoided, member.is_suspected(), member.in_flight.load(Ordering::Relaxed))
        });
        if best.is_none() {
            self.stale.notify_one();
        }
        best.map(Arc::clone)
    }

    /// Passes `member` over for a while, after a failure, and has the names looked up again: the service may have moved.
    pub(crate) fn suspect(&self, member: &Member) {
        member.suspect();
        self.stale.notify_one();
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

    /// Its connection.
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
        self.suspected_until_ms
            .store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
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
    use crate::builder::connecting;

    fn endpoints(urls: &[&str], resolve_every: Duration) -> Endpoints {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        Endpoints::new(&urls, &crate::endpoint::Connecting { resolve_every, ..connecting() }).unwrap()
    }

    async fn found_again(pool: &Pool) -> bool {
        let found = async {
            while pool.members.load().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.is_ok()
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_and_again() {
        let pool = Pool::open(endpoints(&["http://localhost:1"], Duration::from_millis(20))).await;
        let before = pool.members.load_full();
        assert!(!before.is_empty());
        // As if the name had pointed elsewhere until now.
        pool.members.store(Arc::default());
        assert!(found_again(&pool).await);
        assert_eq!(pool.members.load().len(), before.len());
    }

    #[tokio::test]
    async fn a_failure_has_names_looked_up_before_their_time() {
        let pool = Pool::open(endpoints(&["http://localhost:1"], Duration::from_secs(3600))).await;
        let failed = pool.pick(None).unwrap();
        pool.members.store(Arc::default());
        pool.suspect(&failed);
        assert!(found_again(&pool).await);
    }

    #[tokio::test]
    async fn connections_to_addresses_that_stay_are_kept() {
        let pool = Pool::open(endpoints(&["http://localhost:1"], Duration::from_millis(20))).await;
        let kept = Arc::clone(&pool.members.load()[0]);
        let elsewhere = endpoints(&["http://192.0.2.1:1"], Duration::from_secs(1));
        let gone = Arc::new(Member::new(elsewhere.resolve().await.remove(0), &elsewhere));
        pool.members.store(Arc::new(vec![Arc::clone(&gone), Arc::clone(&kept)]));
        let is_gone = async {
            while pool.members.load().iter().any(|member| Arc::ptr_eq(member, &gone)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_gone).await.expect("it is looked up again");
        assert!(pool.members.load().iter().any(|member| Arc::ptr_eq(member, &kept)));
    }

    #[tokio::test]
    async fn the_least_busy_address_is_picked_and_a_failed_one_only_if_there_is_no_other() {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        let pool = Pool::open(endpoints(&urls, Duration::from_secs(1))).await;
        let members = pool.members.load_full();
        let picked = || pool.pick(None).unwrap().key.address.port();

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
