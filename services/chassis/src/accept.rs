//! Taking connections in.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::net::{TcpListener, TcpStream};

/// Before accepting again after the system refused to, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// At most one line in this time: out of descriptors, accepting fails again and again.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Accepts the connections of one port. What the system refuses is logged once per burst.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    port: &'static str,
    burst: Burst,
}

impl Acceptor {
    /// `port` names it in the log.
    pub(crate) fn new(listener: TcpListener, port: &'static str) -> Self {
        Self { listener, port, burst: Burst::default() }
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if let Some(unlogged) = self.burst.take_in(Instant::now()) {
            tracing::warn!(%error, port = self.port, unlogged, "cannot accept connections");
        }
    }
}

/// Failures that come in bursts.
#[derive(Debug, Default)]
struct Burst {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Burst {
    /// Counts one more; if it is to be logged, with how many were not since the last that was.
    fn take_in(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < LOG_EVERY) {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_logged_once_and_the_next_line_counts_the_rest() {
        let start = Instant::now();
        let mut burst = Burst::default();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(burst.take_in(start), Some(0));
        for millis in [50, 100, 9_999] {
            assert_eq!(burst.take_in(after(millis)), None);
        }
        assert_eq!(burst.take_in(after(10_000)), Some(3));
        assert_eq!(burst.take_in(after(10_050)), None);
        assert_eq!(burst.take_in(after(30_000)), Some(1));
    }
}
