//! A network between a client and a server, mostly a service and its Redis, which loses answers or holds them back.

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
    sync::watch,
    task::JoinHandle,
};

/// The calls that it counts are those of scripts.
const CALL: &[u8] = b"EVALSHA";

/// A port that leads to a server, until this is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    losses: Arc<Losses>,
    is_holding: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Losses {
    /// Calls until that whose answer is to be lost; 0 if none is.
    due: AtomicU32,
    done: AtomicU32,
}

impl Relay {
    /// Opens a port that leads to that of a server on this machine.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn before(server: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let losses = Arc::<Losses>::default();
        let shared = Arc::clone(&losses);
        let (is_holding, held) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, Arc::clone(&shared), held.clone()));
            }
        });
        Ok(Self { port, losses, is_holding, accepting })
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

    /// Holds answers back, or passes on those that were held and all that come. Requests pass in any case.
    pub fn hold(&self, answers: bool) {
        self.is_holding.send_replace(answers);
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
async fn pass_on(
    mut client: TcpStream,
    server: u16,
    losses: Arc<Losses>,
    mut is_holding: watch::Receiver<bool>,
) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_doomed = false;
    loop {
        let holds = *is_holding.borrow_and_update();
        let written = tokio::select! {
            changed = is_holding.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = client.read(&mut asked) => match read {
                Ok(length @ 1..) => {
                    is_doomed |= losses.meet(calls(&asked[..length]));
                    server.write_all(&asked[..length]).await
                }
                _ => return,
            },
            read = server.read(&mut answered), if !holds => match read {
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
