//! How a client is set up.

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    Client, FailureMode,
    call::Upstream,
    client::Settings,
    endpoint::{Connecting, Endpoints},
    pool::Pool,
    token::{Token, TokenSource},
};

/// Whether a call that failed is sent again, within its deadline. No choice can charge a check twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retries {
    /// Never.
    Never,
    /// If it has certainly not been executed: no connection came up, or the peer says that it did not process it. A check
    /// with an idempotency key of the caller is sent again also if its answer was lost.
    #[default]
    Unexecuted,
    /// Also if its answer was lost: every check is given an idempotency key. The service remembers each admission for
    /// 24 hours then, at some 100 bytes; set its `idempotency.ttl` to a few minutes for this.
    Idempotent,
}

/// Sets up a [`Client`]. Without more than a URL: deadline 50 ms, plain text or TLS by the scheme, [`Retries::Unexecuted`],
/// [`FailureMode::Closed`], no token.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    keys_urls: Vec<String>,
    connecting: Connecting,
    token: TokenSource,
    metadata: HeaderMap,
    deadline: Duration,
    retries: Retries,
    failure_mode: FailureMode,
    remember_keys: Duration,
}

/// Everything that is wrong with the settings of a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct BuildError(Vec<String>);

impl BuildError {
    /// One line for each fault.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.0
    }
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            urls: vec![url],
            keys_urls: Vec::new(),
            connecting: connecting(),
            token: TokenSource::None,
            metadata: HeaderMap::new(),
            deadline: Duration::from_millis(50),
            retries: Retries::default(),
            failure_mode: FailureMode::default(),
            remember_keys: Duration::ZERO,
        }
    }

    /// One more URL of the rate-limit service. Calls are spread over all addresses of all URLs.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// A URL of the keys service, for [`Client::verify_key`]; may be given again for more.
    pub fn keys(mut self, url: impl Into<String>) -> Self {
        self.keys_urls.push(url.into());
        self
    }

    /// By what this client shows who it is: a service token.
    pub fn service_token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSource::Text(token.into());
        self
    }

    /// The same from a file, which is read again every 10 seconds, and when the service refuses the token.
    pub fn service_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = TokenSource::File(path.into());
        self
    }

    /// Trusts the certificates of this authority (PEM) for https instead of those of the system.
    pub fn tls_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.connecting.ca_pem = Some(pem.into());
        self
    }

    /// Shows a certificate of its own (PEM) with https.
    pub fn tls_identity(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.connecting.identity_pem = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// How long a call may take, retries and connecting included; 50 ms without.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long it may take until a connection stands or a name is looked up; 1 s without.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connecting.connect_timeout = timeout;
        self
    }

    /// How often a connection is asked whether it is alive, and how long it may take to say so; 10 s and 2 s without.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.connecting.keepalive_interval = interval;
        self.connecting.keepalive_timeout = timeout;
        self
    }

    /// How often names are looked up again; 10 s without. A failure has them looked up within a second.
    pub fn resolve_every(mut self, period: Duration) -> Self {
        self.connecting.resolve_every = period;
        self
    }

    /// Sends a header with every call.
    pub fn metadata(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.metadata.append(name, value);
        self
    }

    /// Whether a call that failed is sent again.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// How checks are answered while the service cannot be reached.
    pub fn failure_mode(mut self, mode: FailureMode) -> Self {
        self.failure_mode = mode;
        self
    }

    /// For how long after it was last accepted an API key is remembered, at most 10,000 of them, so that the failure mode decides for it as
    /// well: from the same client address, for scopes that it has. Without, such checks are denied while the service cannot be
    /// reached. A key that is revoked in that time is accepted for so long at most.
    pub fn remember_keys(mut self, keep_for: Duration) -> Self {
        self.remember_keys = keep_for;
        self
    }

    /// The client. It looks names up, and connects with the first call: a service that is not there yet is no fault.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub async fn build(self) -> Result<Client, BuildError> {
        let mut faults = Vec::new();
        for (name, duration) in [
            ("deadline", self.deadline),
            ("connect_timeout", self.connecting.connect_timeout),
            ("keepalive interval", self.connecting.keepalive_interval),
            ("keepalive timeout", self.connecting.keepalive_timeout),
            ("resolve_every", self.connecting.resolve_every),
        ] {
            if duration.is_zero() {
                faults.push(format!("{name}: must be above zero"));
            }
        }
        let ratelimit = good(Endpoints::new(&self.urls, &self.connecting), &mut faults);
        let keys = good(Endpoints::new(&self.keys_urls, &self.connecting), &mut faults);
        let token = Token::open(self.token).await.map_err(|fault| vec![format!("service token: {fault}")]);
        let token = good(token, &mut faults);
        let (Some(ratelimit), Some(keys), Some(token), true) = (ratelimit, keys, token, faults.is_empty())
        else {
            return Err(BuildError(faults));
        };
        let keys = match self.keys_urls.is_empty() {
            true => None,
            false => Some(Upstream::new(Pool::open(keys).await)),
        };
        Ok(Client::new(Settings {
            ratelimit: Upstream::new(Pool::open(ratelimit).await),
            keys,
            token,
            metadata: self.metadata,
            deadline: self.deadline,
            retries: self.retries,
            failure_mode: self.failure_mode,
            remember_keys: self.remember_keys,
        }))
    }
}

pub(crate) fn connecting() -> Connecting {
    Connecting {
        connect_timeout: Duration::from_secs(1),
        keepalive_interval: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(2),
        resolve_every: Duration::from_secs(10),
        ca_pem: None,
        identity_pem: None,
    }
}

fn good<T>(outcome: Result<T, Vec<String>>, faults: &mut Vec<String>) -> Option<T> {
    outcome.map_err(|more| faults.extend(more)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_that_is_wrong_is_said_at_once() {
        let builder = Client::builder("ftp://nowhere:1")
            .endpoint("http://somewhere:1/path")
            .keys("no url")
            .deadline(Duration::ZERO)
            .service_token("two words");
        let error = builder.build().await.expect_err("much is wrong");
        assert_eq!(error.faults().len(), 5, "{error}");
    }

    #[tokio::test]
    async fn a_certificate_that_is_none_is_found_at_once() {
        let builder = Client::builder("https://127.0.0.1:1").tls_ca("-----BEGIN CERTIFICATE-----\n!");
        assert!(builder.build().await.is_err());
    }
}
