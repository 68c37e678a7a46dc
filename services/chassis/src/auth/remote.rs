//! Signing keys, from the keys service.

use std::time::Duration;

use anyhow::Context;
use tidegate_proto::keys::v1::{ListSigningKeysRequest, SigningKey, auth_service_client::AuthServiceClient};
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

use super::{AuthConfig, SigningKeySource, VerifyingKey};

/// For one connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which the keys service is asked for a sign of life, so that one that vanished is not waited for.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// The only algorithm of keys that are served so, as JSON Web Algorithms names it.
const ALGORITHM: &str = "EdDSA";

/// The keys service that the settings name.
pub(super) struct RemoteKeys {
    endpoint: Endpoint,
    /// Made by the first look-up: a channel belongs to the runtime that it was made on.
    channel: OnceCell<Channel>,
}

impl RemoteKeys {
    /// # Errors
    ///
    /// The URL or the files cannot be used.
    pub(super) fn of(config: &AuthConfig) -> anyhow::Result<Option<Self>> {
        if config.keys_url.is_empty() {
            return Ok(None);
        }
        let endpoint = Endpoint::from_shared(config.keys_url.clone())
            .context("auth.keys_url")?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE);
        let endpoint = if config.keys_url.starts_with("https://") {
            let tls = config.keys_tls.read().context("auth.keys_tls")?;
            endpoint.tls_config(tls).context("auth.keys_tls")?
        } else {
            endpoint
        };
        Ok(Some(Self { endpoint, channel: OnceCell::new() }))
    }
}

#[tonic::async_trait]
impl SigningKeySource for RemoteKeys {
    async fn list(&self) -> anyhow::Result<Vec<VerifyingKey>> {
        let channel = self.channel.get_or_init(|| async { self.endpoint.connect_lazy() }).await;
        let answer =
            AuthServiceClient::new(channel.clone()).list_signing_keys(ListSigningKeysRequest {}).await?;
        let keys = answer.into_inner().keys.into_iter();
        keys.filter(|key| key.algorithm == ALGORITHM).map(verifying).collect()
    }
}

fn verifying(key: SigningKey) -> anyhow::Result<VerifyingKey> {
    let SigningKey { kid, public_key, .. } = key;
    let public_key =
        public_key.as_ref().try_into().with_context(|| format!("the key {kid:?} is not 32 bytes"))?;
    Ok(VerifyingKey { kid, public_key })
}
