//! The way to the keys service.

use std::{fs, time::Duration};

use anyhow::Context;
use tidegate_chassis::{
    auth::{BearerToken, InternalTokens},
    tls::install_crypto_provider,
};
use tidegate_proto::keys::v1::keys_service_client::KeysServiceClient;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{KeysConfig, KeysTlsConfig};

/// For one connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which the keys service is asked for a sign of life, and how long that may take: so long a feed that vanished is
/// taken for alive at most.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A client whose connection is made when it is first needed, and again when it is lost.
pub(super) struct Client(KeysServiceClient<InterceptedService<Channel, BearerToken>>);

impl Client {
    /// On the current runtime.
    ///
    /// # Errors
    ///
    /// The URL or the files of the settings cannot be used.
    pub(super) fn new(config: &KeysConfig, tokens: Option<InternalTokens>) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(config.url.clone()).context("keys.url")?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let endpoint = match config.url.starts_with("https://") {
            true => endpoint.tls_config(tls(&config.tls)?).context("keys.tls")?,
            false => endpoint,
        };
        Ok(Self(KeysServiceClient::with_interceptor(endpoint.connect_lazy(), BearerToken(tokens))))
    }

    pub(super) fn get(&self) -> KeysServiceClient<InterceptedService<Channel, BearerToken>> {
        self.0.clone()
    }
}

fn tls(files: &KeysTlsConfig) -> anyhow::Result<ClientTlsConfig> {
    install_crypto_provider();
    let read = |path: &str| fs::read(path).with_context(|| format!("keys.tls: {path}"));
    let tls = match files.ca.as_str() {
        "" => ClientTlsConfig::new().with_native_roots(),
        ca => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
    };
    Ok(match files.cert.as_str() {
        "" => tls,
        cert => tls.identity(Identity::from_pem(read(cert)?, read(&files.key)?)),
    })
}
