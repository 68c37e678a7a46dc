//! When the process is asked to leave.

use tokio::signal::unix::{SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal: killed, not left.
const EXIT_IMPATIENT: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second signal ends the process at
/// once.
///
/// # Panics
/// Outside of a tokio runtime with I/O enabled.
#[must_use]
pub fn signal() -> CancellationToken {
    let mut terminate = listen(SignalKind::terminate()).expect("the runtime has its I/O driver");
    let mut interrupt = listen(SignalKind::interrupt()).expect("the runtime has its I/O driver");
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for signals in 1.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if signals > 1 {
                tracing::warn!(signal = name, "second signal, leaving at once");
                std::process::exit(EXIT_IMPATIENT);
            }
            tracing::info!(signal = name, "leaving");
            token.cancel();
        }
    });
    stop
}
