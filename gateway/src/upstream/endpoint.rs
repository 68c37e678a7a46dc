//! From a configured URL to addresses, and from an address to a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{UpstreamTlsConfig, UpstreamUrl, UpstreamsConfig};

const USER_AGENT: &str = concat!("tidegate-gateway/", env!("CARGO_PKG_VERSION"));
/// Bytes an HTTP/2 stream may be ahead; answers are small, and batches of 100 fit.
const STREAM_WINDOW: u32 = 1 << 20;

/// How one service is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// With the endpoint's settings, all but the address.
    urls: Vec<(UpstreamUrl, Option<ClientTlsConfig>)>,
    config: UpstreamsConfig,
}

/// One address of one URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    url: usize,
    pub(super) address: SocketAddr,
}

impl Endpoints {
    /// Reads the certificates, so that a wrong one stops the start.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold what it should.
    pub(crate) fn new(urls: &[UpstreamUrl], config: &UpstreamsConfig) -> anyhow::Result<Self> {
        let urls = urls.iter().map(|url| {
            let tls = url.is_tls().then(|| tls(url, &config.tls)).transpose()?;
            let probe = SocketAddr::from(([127, 0, 0, 1], 1));
            endpoint(url, tls.as_ref(), probe, config).with_context(|| format!("upstream {}", url.uri()))?;
            Ok((url.clone(), tls))
        });
        let urls = urls.collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Inner { urls, config: config.clone() })))
    }

    pub(super) fn are_all_addresses(&self) -> bool {
        self.0.urls.iter().all(|(url, _)| literal(url).is_some())
    }

    pub(super) fn resolve_every(&self) -> Duration {
        self.0.config.resolve_every.get()
    }

    /// Every address of every URL, sorted; those of a name that cannot be looked up are missing.
    pub(super) async fn resolve(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (index, (url, _)) in self.0.urls.iter().enumerate() {
            keys.extend(self.look_up(url).await.into_iter().map(|address| Key { url: index, address }));
        }
        keys.sort();
        keys.dedup();
        keys
    }

    async fn look_up(&self, url: &UpstreamUrl) -> Vec<SocketAddr> {
        if let Some(address) = literal(url) {
            return vec![address];
        }
        let lookup = tokio::net::lookup_host((url.host(), url.port()));
        match tokio::time::timeout(self.0.config.deadline.get(), lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(host = url.host(), %error, "a name cannot be looked up");
                Vec::new()
            }
            Err(_elapsed) => {
                tracing::warn!(host = url.host(), "a name was not looked up in time");
                Vec::new()
            }
        }
    }

    pub(super) fn connect(&self, key: &Key) -> Channel {
        let (url, tls) = &self.0.urls[key.url];
        endpoint(url, tls.as_ref(), key.address, &self.0.config)
            .expect("`new` built an endpoint of the same URL and certificates")
            .connect_lazy()
    }
}

fn literal(url: &UpstreamUrl) -> Option<SocketAddr> {
    url.host().parse().ok().map(|ip| SocketAddr::new(ip, url.port()))
}

fn endpoint(
    url: &UpstreamUrl,
    tls: Option<&ClientTlsConfig>,
    address: SocketAddr,
    config: &UpstreamsConfig,
) -> Result<Endpoint, tonic::transport::Error> {
    let scheme = if url.is_tls() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .origin(url.uri().clone())
        .user_agent(USER_AGENT)?
        .connect_timeout(config.connect_timeout.get())
        .http2_keep_alive_interval(config.keepalive_interval.get())
        .keep_alive_timeout(config.keepalive_timeout.get())
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .tcp_nodelay(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls.clone()),
        None => Ok(endpoint),
    }
}

fn tls(url: &UpstreamUrl, config: &UpstreamTlsConfig) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &str| std::fs::read(path).with_context(|| format!("upstreams.tls: {path}"));
    let tls = ClientTlsConfig::new().domain_name(url.host());
    let tls = match &config.ca {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_native_roots(),
    };
    match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => Ok(tls.identity(Identity::from_pem(read(cert)?, read(key)?))),
        _ => Ok(tls),
    }
}
