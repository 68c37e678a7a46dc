//! Waiting for what another process does in its own time.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

/// Asks again and again until the answer is yes.
///
/// # Errors
///
/// Those of the question, and no yes `within` the time.
pub async fn eventually(
    what: &str,
    within: Duration,
    mut question: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !question().await? {
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
