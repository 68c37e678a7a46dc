//! Connections to Redis, made in the background.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, PushInfo, PushKind,
    RedisResult, Value, aio::MultiplexedConnection,
};
use tidegate_chassis::clock::Random;
use tokio::sync::Notify;

use super::{
    cluster::discovery,
    denied::{self, Denied},
    history::History,
    metrics::StoreMetrics,
    rights, script,
    sentinel::Sentinels,
};

/// The name of our connections in `CLIENT LIST`.
pub(super) const CLIENT_NAME: &str = "tidegate-ratelimit";

/// The key that probes write, outside of clusters.
const PROBE: &str = "tg2:probe";

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// A connection ready to decide checks.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Never sends anything twice, and never reconnects by itself.
    pub(super) redis: MultiplexedConnection,
    /// Digest of the script, which this server has.
    pub(super) sha: Arc<str>,
    /// Notified once when the connection has broken.
    pub(super) lost: Arc<Notify>,
    /// Number of the connection, if Redis tells over it of writes.
    pub(super) tracking: Option<u64>,
    /// Who watches the node over this connection stops when nobody else uses it.
    _in_use: Arc<()>,
}

/// What a link leads to.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// Always the same server.
    Server(ConnectionInfo),
    /// A node of a cluster, which takes writes of some keys only.
    ClusterNode(ConnectionInfo),
    /// Whichever server is the master.
    Master(Sentinels),
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    origin: Origin,
    history: Arc<History>,
    denied: Arc<Denied>,
    timeout: Duration,
    random: Random,
    metrics: StoreMetrics,
}

impl Connector {
    /// Connects later; each attempt takes at most `timeout`, and with sentinels as long again to ask them.
    pub(super) fn new(
        origin: Origin,
        history: Arc<History>,
        denied: Arc<Denied>,
        timeout: Duration,
        random: Random,
        metrics: StoreMetrics,
    ) -> Self {
        Self { origin, history, denied, timeout, random, metrics }
    }

    /// Waits for a while that grows with the number of failures in a row (none after 0), then tries once.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached in time, refuses the credentials, cannot load the script or takes no writes.
    pub(super) async fn connect(self, failures: u32) -> RedisResult<Connection> {
        tokio::time::sleep(self.delay(failures)).await;
        let info = match &self.origin {
            Origin::Server(info) | Origin::ClusterNode(info) => info.clone(),
            Origin::Master(sentinels) => sentinels.master().await?,
        };
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let result = match tokio::time::timeout(self.timeout, self.prepare(info)).await {
            Ok(result) => result,
            // A Redis without TLS waits for more when it is greeted with TLS.
            Err(_) if is_tls => {
                Err((ErrorKind::Io, "no connection within connect_timeout: is it the port of TLS?").into())
            }
            Err(_) => Err((ErrorKind::Io, "no connection within connect_timeout").into()),
        };
        if let (Origin::Master(sentinels), Err(_)) = (&self.origin, &result) {
            sentinels.mistrust();
        }
        result
    }

    /// What is remembered of denials by what its connections are told.
    pub(super) fn denied(&self) -> &Denied {
        &self.denied
    }

    /// Whether what is sent goes to one of several nodes, by its slot.
    pub(super) fn is_in_cluster(&self) -> bool {
        matches!(self.origin, Origin::ClusterNode(_))
    }

    /// Waits until the link leads elsewhere, for ever if it cannot.
    pub(super) async fn switched(self) {
        match &self.origin {
            Origin::Server(_) | Origin::ClusterNode(_) => pending().await,
            Origin::Master(sentinels) => sentinels.switched().await,
        }
    }

    /// Whether a probe was answered by a Redis that can decide.
    ///
    /// # Errors
    ///
    /// As Redis answers, or the connection fails.
    pub(super) async fn probe(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let key = self.probe_key(redis).await?;
        self.probe_by(redis, &key).await
    }

    /// A key that the node has to write.
    async fn probe_key(&self, redis: &mut MultiplexedConnection) -> RedisResult<String> {
        match &self.origin {
            Origin::ClusterNode(info) => own_key(redis, &info.addr().to_string()).await,
            Origin::Server(_) | Origin::Master(_) => Ok(PROBE.to_owned()),
        }
    }

    async fn probe_by(&self, redis: &mut MultiplexedConnection, key: &str) -> RedisResult<()> {
        match script::probe(redis, key).await {
            // It has no slots (any more), and is well enough to know who has.
            Err(error)
                if matches!(self.origin, Origin::ClusterNode(_)) && error.redirect_node().is_some() =>
            {
                Ok(())
            }
            result => result,
        }
    }

    async fn prepare(&self, info: ConnectionInfo) -> RedisResult<Connection> {
        let lost = Arc::new(Notify::new());
        let (on_push, denied) = (lost.clone(), Arc::clone(&self.denied));
        let number = denied.next_connection();
        let config = AsyncConnectionConfig::new()
            // The one around all of this ends first, and says what it was about.
            .set_connection_timeout(Some(2 * self.timeout))
            // Deadlines are kept by the coalescer, which also knows what was sent.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    on_push.notify_one();
                }
                denied.pushed(number, &push);
                Ok::<(), std::convert::Infallible>(())
            });
        let node = info.addr().to_string();
        let mut redis = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        if let Origin::Master(_) = self.origin {
            be_master(&mut redis).await?;
        }
        let sha = script::load(&mut redis).await?;
        let key = self.probe_key(&mut redis).await?;
        self.probe_by(&mut redis, &key).await?;
        self.check_rights(&node, &mut redis, &key).await?;
        self.check_eviction(&node, &mut redis, &lost).await;
        let _: () = redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).query_async(&mut redis).await?;
        // Before anything is decided by what it has.
        let id = self.history.learn(&mut redis, &node, self.is_in_cluster()).await;
        let in_use = Arc::new(());
        let tracking = self.track(&node, &mut redis).await.then_some(number);
        let history = Arc::clone(&self.history);
        let watched = Arc::downgrade(&in_use);
        tokio::spawn(history.watch(redis.clone(), node, self.is_in_cluster(), id, watched));
        Ok(Connection { redis, sha: sha.into(), lost, tracking, _in_use: in_use })
    }

    /// Whether Redis tells of writes over this connection.
    async fn track(&self, node: &str, redis: &mut MultiplexedConnection) -> bool {
        if !self.denied.is_on() {
            return false;
        }
        let tracked = denied::track(redis).await;
        if let Err(error) = &tracked {
            tracing::warn!(
                node,
                %error,
                "Redis does not tell of writes (CLIENT TRACKING): denials are not remembered, and each asks Redis"
            );
        }
        tracked.is_ok()
    }

    fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_DELAY);
        // Half of it by chance, so that replicas do not all come back at the same moment.
        delay.mul_f64(0.5 + self.random.unit_f64() / 2.0)
    }

    /// Tells of all that the user may not do and would have to, while somebody looks: the connection has just been made.
    async fn check_rights(
        &self,
        node: &str,
        redis: &mut MultiplexedConnection,
        probe: &str,
    ) -> RedisResult<()> {
        let missing = rights::missing(redis, probe, self.is_in_cluster()).await?;
        if !missing.is_empty() {
            tracing::warn!(
                node,
                commands = missing.join(" "),
                "the user of Redis may not run all commands that counting needs: give it those"
            );
        }
        Ok(())
    }

    /// A Redis that evicts keys forgets counts, and so admits too much.
    async fn check_eviction(&self, node: &str, redis: &mut MultiplexedConnection, held: &Arc<Notify>) {
        let answer: RedisResult<HashMap<String, String>> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(redis).await;
        let policy = answer.ok().and_then(|mut answer| answer.remove("maxmemory-policy"));
        self.metrics.noeviction(node, policy.as_deref() == Some("noeviction"), held);
        match policy.as_deref() {
            Some("noeviction") => {}
            Some(policy) => tracing::warn!(
                node,
                maxmemory_policy = policy,
                "Redis may evict counters when its memory is full, which admits too much: set maxmemory-policy to noeviction"
            ),
            None => tracing::warn!(
                node,
                "Redis does not tell its maxmemory-policy (CONFIG GET is refused): make sure that it is noeviction"
            ),
        }
    }
}

/// A key for the probe in a slot of counters that the `node` of a cluster has, `host:port`: only what it has to write tells whether it
/// takes writes.
async fn own_key(redis: &mut MultiplexedConnection, node: &str) -> RedisResult<String> {
    let tag = discovery::own_tags(redis, node).await?.into_iter().next();
    Ok(tag.map_or_else(|| PROBE.to_owned(), |tag| format!("tg2:{{{tag}}}probe")))
}

/// Sentinels may name a server that is no master any more, or not yet.
async fn be_master(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(redis).await?;
    let is_master = role.first().is_some_and(|role| *role == Value::BulkString(b"master".to_vec()));
    if is_master {
        Ok(())
    } else {
        Err((ErrorKind::Io, "the server that the sentinels name is no master").into())
    }
}
