//! Where the keys of issuers come from: a web server, or a file.

use std::sync::Arc;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::OidcIssuerConfig;

/// More than any issuer's keys take.
const MAX_BYTES: usize = 256 * 1024;

const USER_AGENT: &str = concat!("tidegate-keys/", env!("CARGO_PKG_VERSION"));

/// Gives the keys of issuers.
#[async_trait]
pub trait KeySets: Send + Sync + 'static {
    /// The JWK Set (RFC 7517) of an issuer.
    ///
    /// # Errors
    ///
    /// It cannot be had, or is too large.
    async fn fetch(&self, issuer: &OidcIssuerConfig) -> anyhow::Result<Bytes>;
}

/// Fetches them, as the settings say.
pub struct HttpKeySets(Option<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>);

impl HttpKeySets {
    /// Trusts the authorities of the system.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn new() -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .context("the authorities of the system, for issuers of OpenID Connect")?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Some(Client::builder(TokioExecutor::new()).build(connector))))
    }

    /// As [`Self::new`] if the keys of one of these are fetched; else the system need not have authorities.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn of(issuers: &[OidcIssuerConfig]) -> anyhow::Result<Self> {
        let is_fetched = issuers.iter().any(|issuer| !issuer.jwks_url.is_empty());
        if is_fetched { Self::new() } else { Ok(Self(None)) }
    }

    /// As [`Self::new`], for [`super::Issuers`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn source() -> anyhow::Result<Arc<dyn KeySets>> {
        Ok(Arc::new(Self::new()?))
    }

    async fn get(&self, url: &str) -> anyhow::Result<Bytes> {
        let request = http::Request::get(url)
            .header(http::header::USER_AGENT, USER_AGENT)
            .header(http::header::ACCEPT, "application/json")
            .body(Empty::new())?;
        let client = self.0.as_ref().context("nothing is fetched for these issuers")?;
        let response = client.request(request).await?;
        // A redirection is not followed: the settings say where keys are.
        ensure!(response.status() == http::StatusCode::OK, "{url} answered {}", response.status());
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!("{url}: {error}"))?.to_bytes())
    }
}

#[async_trait]
impl KeySets for HttpKeySets {
    async fn fetch(&self, issuer: &OidcIssuerConfig) -> anyhow::Result<Bytes> {
        if !issuer.jwks_url.is_empty() {
            return self.get(&issuer.jwks_url).await;
        }
        let path = &issuer.jwks_file;
        let bytes = tokio::fs::read(path).await.with_context(|| path.clone())?;
        ensure!(bytes.len() <= MAX_BYTES, "{path} is larger than {MAX_BYTES} bytes");
        Ok(bytes.into())
    }
}
