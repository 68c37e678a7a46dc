//! A network between a service and a Redis, which loses answers.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The calls that it counts are those of scripts.
const CALL: &[u8] = b"EVALSHA";

/// A port that leads to a Redis, until this is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    losses: Arc<Losses>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Losses {
    /// Calls until that whose answer is to be lost; 0 if none is.
    due: AtomicU32,
    done: AtomicU32,
}

impl Relay {
    /// Opens a port that leads to that of a Redis on this machine.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn before(redis: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let losses = Arc::<Losses>::default();
        let shared = Arc::clone(&losses);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, redis, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, losses, accepting })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses the answer to one call of those that come from now on: 1 is the next, 0 none. Redis runs the call; its answer is swallowed, and the
    /// connection is cut.
    pub fn lose(&self, number: u32) {
        self.losses.due.store(number, Ordering::SeqCst);
    }

    /// How many answers were lost.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.losses.done.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until one side closes the connection, or an answer was lost.
async fn pass_on(mut client: TcpStream, redis: u16, losses: Arc<Losses>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_doomed = false;
    loop {
        let written = tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(length @ 1..) => {
                    is_doomed |= losses.meet(calls(&asked[..length]));
                    server.write_all(&asked[..length]).await
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(1..) if is_doomed => {
                    losses.done.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Ok(length @ 1..) => client.write_all(&answered[..length]).await,
                _ => return,
            },
        };
        if written.is_err() {
            return;
        }
    }
}

impl Losses {
    /// Counts calls, and answers whether one of them is to be lost.
    fn meet(&self, calls: u32) -> bool {
        let counted =
            self.due.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |due| Some(due.saturating_sub(calls)));
        counted.is_ok_and(|due| (1..=calls).contains(&due))
    }
}

fn calls(bytes: &[u8]) -> u32 {
    let count = bytes.windows(CALL.len()).filter(|word| *word == CALL).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
