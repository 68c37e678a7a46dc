//! Connections to Redis, made in the background.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisResult, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tidegate_chassis::clock::Random;
use tokio::sync::Notify;

use super::{metrics::StoreMetrics, script};

/// The name of our connections in `CLIENT LIST`.
const CLIENT_NAME: &str = "tidegate-ratelimit";

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
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    random: Random,
    metrics: StoreMetrics,
}

impl Connector {
    /// Connects to `url` later.
    ///
    /// # Errors
    ///
    /// If the URL is not one of Redis. The message does not contain the URL.
    pub(super) fn new(
        url: &str,
        timeout: Duration,
        random: Random,
        metrics: StoreMetrics,
    ) -> RedisResult<Self> {
        Ok(Self { client: Client::open(parse_url(url)?)?, timeout, random, metrics })
    }

    /// Waits for a while that grows with the number of failures in a row (none after 0), then tries once.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached in time, refuses the credentials, cannot load the script or takes no writes.
    pub(super) async fn connect(self, failures: u32) -> RedisResult<Connection> {
        tokio::time::sleep(self.delay(failures)).await;
        let lost = Arc::new(Notify::new());
        let on_push = lost.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            // Deadlines are kept by the coalescer, which also knows what was sent.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    on_push.notify_one();
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let prepare = async {
            let mut redis = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let sha = script::load(&mut redis).await?;
            script::probe(&mut redis).await?;
            self.check_eviction(&mut redis).await;
            let _: () = redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).query_async(&mut redis).await?;
            Ok(Connection { redis, sha: sha.into(), lost })
        };
        match tokio::time::timeout(self.timeout, prepare).await {
            Ok(result) => result,
            Err(_) => Err((redis::ErrorKind::Io, "no connection within connect_timeout").into()),
        }
    }

    fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_DELAY);
        // Half of it by chance, so that replicas do not all come back at the same moment.
        delay.mul_f64(0.5 + self.random.unit_f64() / 2.0)
    }

    /// A Redis that evicts keys forgets counts, and so admits too much.
    async fn check_eviction(&self, redis: &mut MultiplexedConnection) {
        let answer: RedisResult<HashMap<String, String>> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(redis).await;
        let policy = answer.ok().and_then(|mut answer| answer.remove("maxmemory-policy"));
        self.metrics.noeviction.set(i64::from(policy.as_deref() == Some("noeviction")));
        match policy.as_deref() {
            Some("noeviction") => {}
            Some(policy) => tracing::warn!(
                maxmemory_policy = policy,
                "Redis may evict counters when its memory is full, which admits too much: set maxmemory-policy to noeviction"
            ),
            None => tracing::warn!(
                "Redis does not tell its maxmemory-policy (CONFIG GET is refused): make sure that it is noeviction"
            ),
        }
    }
}

/// Reads a URL and adds what our connections need.
///
/// # Errors
///
/// If it is not a URL of Redis.
pub(super) fn parse_url(url: &str) -> RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    // RESP3 tells when the connection breaks, also while nothing is under way.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
