//! Which node of a cluster a check goes to, and where it goes on to if that node does not have its slot.
//!
//! The slots are learnt from the nodes, again each second, at once when a node says that a slot has moved, and more often
//! while one is gone. A check is sent once; only a node that says it has run nothing (MOVED, ASK, TRYAGAIN)
//! makes it go on to another, within its deadline.

pub(super) mod discovery;
mod held;
mod spread;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, ConnectionInfo, RedisError, Value};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use self::{discovery::Range, held::Held};
use super::{
    RedisBackend,
    batch::{Answered, Lane},
    call::{self, Elsewhere, Failure},
    connection::Origin,
    fence,
    link::Link,
    tls::explained,
    url,
};
use crate::{
    domain::{Check, Decision},
    key::{SLOTS, slot},
    store::{Answer, StoreError},
};

/// How often a check or a command follows where nodes send it.
const MOST_REDIRECTIONS: u32 = 5;

/// Pause before a node is asked again that was in the midst of moving the keys of a check.
const PAUSE: Duration = Duration::from_millis(1);

/// The nodes of a cluster, as one worker knows them.
#[derive(Debug)]
pub(super) struct Cluster {
    backend: RedisBackend,
    seeds: Vec<ConnectionInfo>,
    /// Locked only within the worker's thread.
    map: Mutex<Map>,
    /// Wakes who waits for the first map.
    mapped: Notify,
    /// Wakes who keeps the map.
    stale: Arc<Notify>,
    /// Whether a node has said that the cluster is down: it may be cut off, and so may be who told the map.
    doubted: AtomicBool,
}

/// Which node has which slot.
#[derive(Debug)]
struct Map {
    /// Index into `nodes`, or [`NOBODY`].
    owners: Box<[u16]>,
    nodes: Vec<Arc<Node>>,
    state: MapState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MapState {
    /// No node was asked yet: checks wait for the answer.
    Unknown,
    Known,
    /// No node could be asked, and none ever was: checks fail at once.
    Failed,
}

const NOBODY: u16 = u16::MAX;

/// A node that has slots, or was named as one that may.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) link: Link,
    /// Whether somebody was sent here lately.
    asked: AtomicBool,
}

impl Cluster {
    /// A task on the current runtime keeps the map until the last check has been answered and this is dropped.
    pub(super) fn open(backend: &RedisBackend, seeds: Vec<ConnectionInfo>) -> Arc<Self> {
        let owners = vec![NOBODY; SLOTS.into()].into();
        let cluster = Arc::new(Self {
            backend: backend.clone(),
            seeds,
            map: Mutex::new(Map { owners, nodes: Vec::new(), state: MapState::Unknown }),
            mapped: Notify::new(),
            stale: Arc::default(),
            doubted: AtomicBool::new(false),
        });
        tokio::spawn(discovery::keep_up(Arc::downgrade(&cluster)));
        cluster
    }

    /// Decides a check whose keys may lie anywhere.
    pub(super) fn decide(self: &Arc<Self>, check: &Check<'_>) -> Answer<'static, Decision> {
        let mut slots = check.keys().map(slot);
        let first = slots.next().or_else(|| check.fence.map(|fence| fence::slot_of(check, fence)));
        let first = first.unwrap_or_default();
        let is_spread = slots.any(|slot| slot != first);
        let owner = if is_spread { None } else { self.known_owner(first) };
        if let Some(decision) = owner.as_ref().and_then(|node| node.link.denied.answer(check)) {
            return Answer::Ready(Ok(decision));
        }
        let deadline = Instant::now() + self.backend.config.deadline.get();
        let cluster = Arc::clone(self);
        let held = Held::from(check);
        if is_spread {
            return Answer::Pending(Box::pin(async move {
                spread::decide(&cluster, &held, false, deadline).await
            }));
        }
        let lane = Lane { slot: first, beside: true, ..Lane::default() };
        let pushed = owner.map(|node| {
            let pending = node.link.ask(check, lane, deadline);
            (node, pending)
        });
        Answer::Pending(Box::pin(async move {
            let refused = match pushed {
                // The sweep keeps the deadline. The node is held, so that its link lasts.
                Some((node, pending)) => {
                    match pending?.await.map_err(|failure| cluster.heard(&node, failure)) {
                        Err(Failure::Elsewhere(elsewhere)) => Some(elsewhere),
                        answer => return Ok(answer?.decision),
                    }
                }
                None => None,
            };
            match cluster.go_on(refused, first, &held, false, deadline).await {
                Err(Failure::Elsewhere(_)) => spread::decide(&cluster, &held, true, deadline).await,
                answer => Ok(answer?.decision),
            }
        }))
    }

    /// Decides a check of one slot. [`Elsewhere::Divided`] only if it has several keys.
    async fn ask(
        &self,
        slot: u16,
        check: &Held,
        alone: bool,
        deadline: Instant,
    ) -> Result<Answered, Failure> {
        self.go_on(None, slot, check, alone, deadline).await
    }

    /// Sends a check where the nodes that have `refused` it send it. One with several keys that are not all in
    /// one place comes back as [`Elsewhere::Divided`].
    async fn go_on(
        &self,
        mut refused: Option<Elsewhere>,
        slot: u16,
        check: &Held,
        mut alone: bool,
        deadline: Instant,
    ) -> Result<Answered, Failure> {
        let mut redirections = 0;
        let follow = async {
            loop {
                let is_divided = refused == Some(Elsewhere::Divided);
                if is_divided && alone && check.keys() > 1 {
                    return Err(Failure::Elsewhere(Elsewhere::Divided));
                }
                let was_alone = alone;
                // From now on a call with other keys would be refused for them.
                alone |= is_divided || matches!(refused, Some(Elsewhere::Ask(_)));
                if is_divided && was_alone {
                    sleep(PAUSE).await;
                }
                let (node, asking) =
                    self.next(refused, &mut redirections, slot).await.map_err(Failure::Refused)?;
                let lane = Lane { slot, alone, asking, beside: true };
                let pending =
                    node.link.queue.push(&check.borrow(), lane, deadline).map_err(Failure::Refused)?;
                match pending.await.map_err(|failure| self.heard(&node, failure)) {
                    Err(Failure::Elsewhere(elsewhere)) => refused = Some(elsewhere),
                    answer => return answer,
                }
            }
        };
        timeout_at(deadline, follow).await.unwrap_or(Err(StoreError::Timeout.into()))
    }

    /// Sends a command about a key to the node that has it, and gives its answer. It is sent again only where a node says that it did not run.
    ///
    /// # Errors
    ///
    /// As Redis answers, or the connection fails.
    pub(super) async fn send(&self, key: &[u8], command: &Cmd) -> Result<Value, StoreError> {
        let (slot, mut failure, mut redirections) = (slot(key), None, 0);
        loop {
            let (node, asking) = self.next(failure, &mut redirections, slot).await?;
            let mut redis = node.link.queue.connection().await?;
            match call::send_known(&mut redis, command, asking).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match self.heard(&node, call::failure(&error)) {
                    Failure::Elsewhere(elsewhere) => failure = Some(elsewhere),
                    other => return Err(other.into()),
                },
            }
        }
    }

    /// Takes in why a node did not decide. Where it sends callers without naming a host, it means its own.
    fn heard(&self, node: &Node, failure: Failure) -> Failure {
        match failure {
            Failure::Elsewhere(elsewhere) => Failure::Elsewhere(elsewhere.completed(&node.link.name)),
            Failure::Down => {
                self.doubted.store(true, Ordering::Relaxed);
                self.stale.notify_one();
                Failure::Down
            }
            Failure::Store(_) | Failure::Refused(_) => failure,
        }
    }

    /// As [`CounterStore::complete_for_us`](crate::store::CounterStore::complete_for_us).
    pub(super) fn complete_for_us(&self, key: &[u8]) -> u64 {
        self.known_owner(slot(key)).map_or(0, |node| node.link.history.complete_for_us())
    }

    /// Where to send what belongs to a slot, after a node has refused it, and whether that node has to be told that the
    /// slot is moving there. Nodes that send callers to and fro are not followed for ever.
    async fn next(
        &self,
        refused: Option<Elsewhere>,
        redirections: &mut u32,
        slot: u16,
    ) -> Result<(Arc<Node>, bool), StoreError> {
        *redirections += u32::from(matches!(refused, Some(Elsewhere::Moved(_) | Elsewhere::Ask(_))));
        if *redirections > MOST_REDIRECTIONS {
            return Err(StoreError::Protocol);
        }
        match refused {
            None | Some(Elsewhere::Divided) => {}
            Some(Elsewhere::Moved(address)) => {
                self.stale.notify_one();
                let node = self.named(&address)?;
                self.lock().set_owner(slot, &node);
            }
            Some(Elsewhere::Ask(address)) => {
                let node = self.named(&address)?;
                node.asked.store(true, Ordering::Relaxed);
                return Ok((node, true));
            }
        }
        Ok((self.owner(slot).await?, false))
    }

    /// The node of a slot, once anything is known.
    async fn owner(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        loop {
            let mapped = self.mapped.notified();
            if let Some(node) = self.known_owner(slot) {
                return Ok(node);
            }
            if self.lock().state != MapState::Unknown {
                return Err(StoreError::Disconnected);
            }
            mapped.await;
        }
    }

    fn known_owner(&self, slot: u16) -> Option<Arc<Node>> {
        let map = self.lock();
        map.nodes.get(usize::from(map.owners[usize::from(slot)])).cloned()
    }

    /// The node at an address, a new one if it was never heard of.
    fn named(&self, address: &str) -> Result<Arc<Node>, StoreError> {
        let mut map = self.lock();
        if let Some(node) = map.find(address) {
            return Ok(node);
        }
        let node = self.new_node(address).ok_or(StoreError::Protocol)?;
        map.nodes.push(Arc::clone(&node));
        Ok(node)
    }

    fn new_node(&self, address: &str) -> Option<Arc<Node>> {
        let (host, port) = url::host_and_port(address)?;
        let origin = Origin::ClusterNode(url::at(self.seeds.first()?, host, port));
        Some(Arc::new(Node {
            link: Link::open(&self.backend, address, origin),
            asked: AtomicBool::new(true),
        }))
    }

    /// Puts a new map in force. Nodes without a slot are forgotten, unless somebody was sent there since the last map.
    fn adopt(&self, ranges: &[Range]) {
        let mut map = self.lock();
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        let mut owners = vec![NOBODY; SLOTS.into()];
        for range in ranges {
            let known = nodes.iter().position(|node| *node.link.name == *range.address);
            let index = known.or_else(|| {
                let node = map.find(&range.address).or_else(|| self.new_node(&range.address))?;
                nodes.push(node);
                Some(nodes.len() - 1)
            });
            let index = index.and_then(|index| u16::try_from(index).ok()).unwrap_or(NOBODY);
            owners[usize::from(range.first)..=usize::from(range.last)].fill(index);
        }
        for node in &map.nodes {
            let is_new = !nodes.iter().any(|known| Arc::ptr_eq(known, node));
            if is_new && node.asked.swap(false, Ordering::Relaxed) {
                nodes.push(Arc::clone(node));
            }
        }
        if map.state != MapState::Known {
            tracing::info!(nodes = nodes.len(), "the slots of the cluster are known");
        }
        *map = Map { owners: owners.into(), nodes, state: MapState::Known };
        drop(map);
        self.mapped.notify_waiters();
    }

    /// No node could be asked for the map.
    fn not_mapped(&self, error: &RedisError) {
        let mut map = self.lock();
        if map.state == MapState::Unknown {
            map.state = MapState::Failed;
            drop(map);
            let error = explained(error);
            tracing::warn!(
                error,
                "no node tells the slots of the cluster; policies are answered by their failure modes"
            );
            self.mapped.notify_waiters();
        }
    }

    /// How many slots have a node, as far as is known.
    fn slots_known(&self) -> usize {
        self.lock().owners.iter().filter(|owner| **owner != NOBODY).count()
    }

    /// Whether every slot has a node, and every node a connection.
    fn is_well(&self) -> bool {
        let map = self.lock();
        map.state == MapState::Known
            && map.nodes.iter().all(|node| node.link.queue.is_linked())
            && !map.owners.contains(&NOBODY)
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn find(&self, address: &str) -> Option<Arc<Node>> {
        self.nodes.iter().find(|node| *node.link.name == *address).cloned()
    }

    fn set_owner(&mut self, slot: u16, node: &Arc<Node>) {
        let index = self.nodes.iter().position(|known| Arc::ptr_eq(known, node));
        if let Some(index) = index.and_then(|index| u16::try_from(index).ok()) {
            self.owners[usize::from(slot)] = index;
        }
    }
}
