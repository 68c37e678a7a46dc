//! Which server is the master, as the sentinels say.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, RedisResult};
use tokio::time::{sleep, timeout};

use super::{connection::CLIENT_NAME, url};

/// How long one sentinel is listened to before the next one is: one that has fallen silent says nothing of a failover.
const LISTEN: Duration = Duration::from_secs(5);

/// Pause after a sentinel that could not be asked.
const PAUSE: Duration = Duration::from_millis(200);

/// The channel in which a sentinel tells of a new master.
const SWITCH: &str = "+switch-master";

/// The sentinels of one master, as one link sees them.
#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    sentinels: Arc<[ConnectionInfo]>,
    master: Arc<str>,
    node: ConnectionInfo,
    /// How long one sentinel may take to answer.
    patience: Duration,
    known: Arc<Mutex<Known>>,
}

/// What was learnt last.
#[derive(Debug, Default)]
struct Known {
    /// Index of the sentinel to ask first.
    first: usize,
    named: Named,
    /// Whether it was told that a sentinel refuses to be listened to.
    complained: bool,
}

/// A master as a sentinel names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
    /// Grows with each failover, so that a sentinel that slept through one is found out.
    epoch: u64,
}

impl Sentinels {
    /// `patience` is how long connecting may take in all.
    pub(super) fn new(
        sentinels: Vec<ConnectionInfo>,
        master: String,
        node: ConnectionInfo,
        patience: Duration,
    ) -> Self {
        Self {
            patience: patience / 4,
            sentinels: sentinels.into(),
            master: master.into(),
            node,
            known: Arc::default(),
        }
    }

    /// How to connect to the master, by the first sentinel that answers and knows of the last failover. If none knows of it,
    /// they are other ones now, and the one with the latest news is believed.
    ///
    /// # Errors
    ///
    /// If no sentinel answers, or none knows a master of that name.
    pub(super) async fn master(&self) -> RedisResult<ConnectionInfo> {
        let (first, epoch) = {
            let known = self.known();
            (known.first, known.named.epoch)
        };
        let mut failure = (ErrorKind::Io, "no sentinel answered in time").into();
        let mut best: Option<Named> = None;
        for index in (first..).take(self.sentinels.len()) {
            let asked = timeout(self.patience, self.ask(index)).await;
            match asked {
                Ok(Ok(named)) => {
                    let is_news = best.as_ref().is_none_or(|best| best.epoch < named.epoch);
                    if is_news {
                        self.known().first = index % self.sentinels.len();
                        best = Some(named);
                    }
                    if best.as_ref().is_some_and(|best| best.epoch >= epoch) {
                        break;
                    }
                }
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        let named = best.ok_or(failure)?;
        let info = url::at(&self.node, &named.host, named.port);
        self.known().named = named;
        Ok(info)
    }

    /// What [`master`](Self::master) named turned out to be none: another sentinel is asked first next time.
    pub(super) fn mistrust(&self) {
        let mut known = self.known();
        known.first = (known.first + 1) % self.sentinels.len();
    }

    /// Waits until a sentinel tells of another master than the one named last.
    pub(super) async fn switched(&self) {
        if self.sentinels.is_empty() {
            pending::<()>().await;
        }
        let first = self.known().first;
        for index in (first..).chain(0..) {
            let index = index % self.sentinels.len();
            match timeout(LISTEN, self.listen(index)).await {
                Ok(Ok(())) => {
                    self.known().first = index;
                    return;
                }
                Ok(Err(error)) => {
                    self.refused(index, &error);
                    sleep(PAUSE).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Until this sentinel tells of another master.
    async fn listen(&self, index: usize) -> RedisResult<()> {
        let client = Client::open(self.sentinels[index].clone())?;
        let mut messages = timeout(self.patience, client.get_async_pubsub())
            .await
            .unwrap_or_else(|_| Err((ErrorKind::Io, "the sentinel did not answer").into()))?;
        messages.subscribe(SWITCH).await?;
        // It may have told before anybody listened.
        let named = self.ask(index).await?;
        let known = self.known().named.clone();
        if named.epoch > known.epoch && (&named.host, named.port) != (&known.host, known.port) {
            return Ok(());
        }
        let mut messages = messages.on_message();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload()?;
            if text.split(' ').next() == Some(&self.master) {
                return Ok(());
            }
        }
        Err((ErrorKind::Io, "the sentinel is gone").into())
    }

    /// Tells once why a sentinel that is there will not tell of a new master, as if the user may not subscribe. One that is gone tells
    /// nothing either, and is no news.
    fn refused(&self, index: usize, error: &RedisError) {
        if error.code().is_none() || std::mem::replace(&mut self.known().complained, true) {
            return;
        }
        tracing::warn!(
            sentinel = %self.sentinels[index].addr(),
            %error,
            "a sentinel does not tell of new masters: a failover is noticed only when the connection to the old one fails"
        );
    }

    async fn ask(&self, index: usize) -> RedisResult<Named> {
        let client = Client::open(self.sentinels[index % self.sentinels.len()].clone())?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(self.patience));
        let mut sentinel = client.get_multiplexed_async_connection_with_config(&config).await?;
        // An old sentinel does not know the command, and need not.
        let _: RedisResult<()> =
            redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).query_async(&mut sentinel).await;
        let of: HashMap<String, String> =
            redis::cmd("SENTINEL").arg("MASTER").arg(&*self.master).query_async(&mut sentinel).await?;
        let number = |field: &str| of.get(field).and_then(|number| number.parse().ok());
        let named = || {
            Some(Named {
                host: of.get("ip")?.clone(),
                port: u16::try_from(number("port")?).ok()?,
                epoch: number("config-epoch")?,
            })
        };
        named().ok_or_else(|| {
            (ErrorKind::UnexpectedReturnType, "a sentinel names ip, port and config-epoch").into()
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
