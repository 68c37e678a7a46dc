//! TLS and mutual TLS, with certificates that are reloaded when they are renewed.

mod certificate;
mod client;
mod reload;

use std::{
    path::PathBuf,
    sync::{Arc, Once},
};

use garde::Validate;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};

pub use self::client::{ClientFiles, read_authorities, read_identity};
pub(crate) use self::reload::Identity;

/// The `[server.tls]` section: PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain, the server's own certificate first.
    #[garde(custom(is_set))]
    pub cert: PathBuf,
    /// Private key of the first certificate.
    #[garde(custom(is_set))]
    pub key: PathBuf,
    /// Authorities that clients must be signed by; empty = clients need no certificate.
    #[garde(skip)]
    pub client_ca: PathBuf,
}

impl TlsConfig {
    pub(crate) fn is_any_set(&self) -> bool {
        [&self.cert, &self.key, &self.client_ca].into_iter().any(|path| !path.as_os_str().is_empty())
    }
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not PEM, or holds nothing that fits.
    #[error("{} holds no usable {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The certificates do not fit together.
    #[error("the certificate, the key and the client authorities do not fit together")]
    Mismatch(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes aws-lc-rs the process's cryptography; further calls do nothing. The server calls it itself;
/// a process that is only a TLS client calls it once at its start.
pub fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Someone may have installed one before; then that one stays.
        let _ = aws_lc_rs::default_provider().install_default();
    });
}

/// The bytes of the files, to see whether they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })
        };
        let client_ca =
            (!config.client_ca.as_os_str().is_empty()).then(|| read(&config.client_ca)).transpose()?;
        Ok(Self { cert: read(&config.cert)?, key: read(&config.key)?, client_ca })
    }

    /// A server that speaks h2 over TLS 1.2 or later, and its certificate chain.
    fn build(&self, config: &TlsConfig) -> Result<(ServerConfig, Vec<CertificateDer<'static>>), TlsError> {
        let chain = certificates(&self.cert, &config.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::Pem { path: config.key.clone(), what: "private key" })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?;
        let builder = match &self.client_ca {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, &config.client_ca)? {
                    roots.add(authority).map_err(mismatch)?;
                }
                let provider = Arc::new(aws_lc_rs::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(mismatch)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain.clone(), key).map_err(mismatch)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok((server, chain))
    }
}

fn certificates(pem: &[u8], path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsError::Pem { path: path.to_owned(), what: "certificate" })
}

fn mismatch(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::Mismatch(error.into())
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::ptr_arg, reason = "the signature that garde calls")]
fn is_set(path: &PathBuf, _: &()) -> garde::Result {
    if path.as_os_str().is_empty() {
        return Err(garde::Error::new("TLS needs both a certificate and its key"));
    }
    Ok(())
}
