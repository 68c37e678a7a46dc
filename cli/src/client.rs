//! How commands reach the rate-limit service.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tidegate_chassis::error::ERROR_DOMAIN;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic_types::StatusExt;

/// Longest wait for a connection, and then for each answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for the answer to a change: longer than the service works on a call, so that it says itself what became of it.
const PATIENCE_WITH_CHANGES: Duration = Duration::from_secs(15);

/// A connection to the service at `addr`, `HOST:PORT` or a URL.
///
/// # Errors
///
/// It is no address, or nobody is there.
pub(crate) async fn connect(addr: &str) -> anyhow::Result<Channel> {
    connect_for(addr, PATIENCE).await
}

/// The same for commands that change policies.
///
/// # Errors
///
/// As of [`connect`].
pub(crate) async fn connect_for_changes(addr: &str) -> anyhow::Result<Channel> {
    connect_for(addr, PATIENCE_WITH_CHANGES).await
}

async fn connect_for(addr: &str, patience: Duration) -> anyhow::Result<Channel> {
    let url = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let mut endpoint = Endpoint::from_shared(url.clone())
        .with_context(|| format!("--addr {url}: write HOST:PORT"))?
        .connect_timeout(PATIENCE)
        .timeout(patience);
    if url.starts_with("https://") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    endpoint.connect().await.with_context(|| format!("cannot reach {url} (is `tidegate up` running?)"))
}

/// The reason that a status gives, if it is one of the service.
pub(crate) fn reason(status: &tonic::Status) -> Option<String> {
    let info = status.get_error_details().error_info().cloned()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

/// The status with its reason and every field that is wrong.
pub(crate) fn explain(status: &tonic::Status) -> anyhow::Error {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| format!(" {}", info.reason)).unwrap_or_default();
    let mut text = format!("{:?}{reason}: {}", status.code(), status.message());
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    anyhow!(text)
}
