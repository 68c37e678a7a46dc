//! How commands reach the services.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, anyhow};
use http::HeaderValue;
use tidegate_chassis::error::ERROR_DOMAIN;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

/// Has the token that commands show to services, if there is one.
const TOKEN: &str = "TIDEGATE_TOKEN";

/// Longest wait for a connection, and then for each answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for the answer to a change: longer than the service works on a call, so that it says itself what became of it.
const PATIENCE_WITH_CHANGES: Duration = Duration::from_secs(15);

/// A connection on which each call shows who is calling.
pub(crate) type Connection = InterceptedService<Channel, Bearer>;

/// Shows a token with each call, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Shows this token.
    ///
    /// # Errors
    ///
    /// It is no token: it has characters that none has.
    pub(crate) fn new(token: &str) -> anyhow::Result<Self> {
        let value = format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| anyhow!("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// Shows the token of the environment, if there is one.
    ///
    /// # Errors
    ///
    /// As of [`Bearer::new`].
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        match std::env::var(TOKEN) {
            Ok(token) if !token.trim().is_empty() => Self::new(&token).context(TOKEN),
            _ => Ok(Self::default()),
        }
    }

    /// The value of the header `authorization`, if there is one.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.0.as_ref().map(|token| {
            let mut value =
                HeaderValue::from_bytes(token.as_bytes()).expect("what goes for gRPC goes for HTTP");
            value.set_sensitive(true);
            value
        })
    }

    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection to the service at `addr`, `HOST:PORT` or a URL. Calls show the token of `TIDEGATE_TOKEN`, if it is set.
///
/// # Errors
///
/// It is no address, or nobody is there.
pub(crate) async fn connect(addr: &str) -> anyhow::Result<Connection> {
    Ok(InterceptedService::new(channel(addr, PATIENCE).await?, Bearer::of_environment()?))
}

/// The same for commands that change policies.
///
/// # Errors
///
/// As of [`connect`].
pub(crate) async fn connect_for_changes(addr: &str) -> anyhow::Result<Connection> {
    let bearer = Bearer::of_environment()?;
    if bearer.is_some() {
        warn_of_plain_text(addr);
    }
    Ok(InterceptedService::new(channel(addr, PATIENCE_WITH_CHANGES).await?, bearer))
}

/// The same, showing another token, or a password in the call.
///
/// # Errors
///
/// As of [`connect`].
pub(crate) async fn connect_as(addr: &str, bearer: Bearer) -> anyhow::Result<Connection> {
    warn_of_plain_text(addr);
    Ok(InterceptedService::new(channel(addr, PATIENCE_WITH_CHANGES).await?, bearer))
}

async fn channel(addr: &str, patience: Duration) -> anyhow::Result<Channel> {
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

/// Says so if passwords and tokens go to another machine as anybody on the way can read them.
fn warn_of_plain_text(addr: &str) {
    let Some(host) = host_in_plain_text(addr) else { return };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_here {
        anstream::eprintln!("warning: {host} is spoken to in plain text; write https://… if it can TLS");
    }
}

/// The host of an address that is not spoken to over TLS.
fn host_in_plain_text(addr: &str) -> Option<&str> {
    let rest = match addr.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return None,
        None => addr,
    };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// The reason that a status gives, if it is one of the service.
pub(crate) fn reason(status: &Status) -> Option<String> {
    let info = status.get_error_details().error_info().cloned()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

/// The status with its reason and every field that is wrong.
pub(crate) fn explain(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| format!(" {}", info.reason)).unwrap_or_default();
    let mut text = format!("{:?}{reason}: {}", status.code(), status.message());
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_spoken_to_in_plain_text_are_told_apart() {
        let cases = [
            ("keys.example.com:8082", Some("keys.example.com")),
            ("http://keys.example.com:8082/", Some("keys.example.com")),
            ("[::1]:8082", Some("::1")),
            ("https://keys.example.com:8082", None),
        ];
        for (addr, host) in cases {
            assert_eq!(host_in_plain_text(addr), host, "{addr}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let bearer = Bearer::new("eyJ.secret\n").unwrap();
        assert!(!format!("{bearer:?}").contains("secret"), "{bearer:?}");
        assert!(Bearer::new("two\nlines").is_err());
    }
}
