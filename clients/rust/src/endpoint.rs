//! From a URL to addresses, and from an address to a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Uri;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const USER_AGENT: &str = concat!("tidegate-client/", env!("CARGO_PKG_VERSION"));
/// Bytes an HTTP/2 stream may be ahead; the answer to a batch of 1,000 fits.
const STREAM_WINDOW: u32 = 1 << 20;

/// How connections are made, for every URL.
#[derive(Clone, Debug)]
pub(crate) struct Connecting {
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) resolve_every: Duration,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

/// How one service is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    urls: Vec<Url>,
    connecting: Connecting,
}

#[derive(Debug)]
struct Url {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<ClientTlsConfig>,
}

/// One address of one URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    url: usize,
    pub(crate) address: SocketAddr,
}

impl Endpoints {
    /// # Errors
    ///
    /// What is wrong with each URL, or with the certificates.
    pub(crate) fn new(urls: &[String], connecting: &Connecting) -> Result<Self, Vec<String>> {
        let parsed = urls.iter().map(|text| {
            let url = Url::parse(text, connecting)?;
            let probe = SocketAddr::from(([127, 0, 0, 1], 1));
            url.endpoint(probe, connecting).map_err(|error| format!("{text}: {}", in_full(&error)))?;
            Ok(url)
        });
        let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
        if bad.is_empty() {
            let urls = good.into_iter().filter_map(Result::ok).collect();
            return Ok(Self(Arc::new(Inner { urls, connecting: connecting.clone() })));
        }
        Err(bad.into_iter().filter_map(Result::err).collect())
    }

    pub(crate) fn are_all_addresses(&self) -> bool {
        self.0.urls.iter().all(|url| url.literal().is_some())
    }

    pub(crate) fn resolve_every(&self) -> Duration {
        self.0.connecting.resolve_every
    }

    /// Every address of every URL, sorted; those of a name that cannot be looked up are missing.
    pub(crate) async fn resolve(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (index, url) in self.0.urls.iter().enumerate() {
            let found = url.look_up(self.0.connecting.connect_timeout).await;
            keys.extend(found.into_iter().map(|address| Key { url: index, address }));
        }
        keys.sort();
        keys.dedup();
        keys
    }

    pub(crate) fn connect(&self, key: &Key) -> Channel {
        self.0.urls[key.url]
            .endpoint(key.address, &self.0.connecting)
            .expect("`new` built an endpoint of the same URL and certificates")
            .connect_lazy()
    }
}

impl Url {
    fn parse(text: &str, connecting: &Connecting) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("{text:?}: must begin with http:// or https://")),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || uri.path() != "/" || uri.query().is_some() {
            return Err(format!("{text:?}: must be http://HOST:PORT or https://HOST:PORT"));
        }
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = is_tls.then(|| connecting.tls(&host));
        Ok(Self { uri, host, port, tls })
    }

    fn literal(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    async fn look_up(&self, within: Duration) -> Vec<SocketAddr> {
        if let Some(address) = self.literal() {
            return vec![address];
        }
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(within, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(host = self.host, %error, "a name cannot be looked up");
                Vec::new()
            }
            Err(_elapsed) => {
                tracing::warn!(host = self.host, "a name was not looked up in time");
                Vec::new()
            }
        }
    }

    fn endpoint(
        &self,
        address: SocketAddr,
        connecting: &Connecting,
    ) -> Result<Endpoint, tonic::transport::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .origin(self.uri.clone())
            .user_agent(USER_AGENT)?
            .connect_timeout(connecting.connect_timeout)
            .http2_keep_alive_interval(connecting.keepalive_interval)
            .keep_alive_timeout(connecting.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .tcp_nodelay(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()),
            None => Ok(endpoint),
        }
    }
}

impl Connecting {
    fn tls(&self, host: &str) -> ClientTlsConfig {
        let tls = ClientTlsConfig::new().domain_name(host);
        let tls = match &self.ca_pem {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        match &self.identity_pem {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        }
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
