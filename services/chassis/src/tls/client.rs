//! PEM files of a TLS client whose library takes them as bytes.

use std::{fs, path::Path};

use garde::Validate;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{TlsError, certificates, mismatch};

/// The settings of a client that calls another service over TLS: paths of PEM files, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ClientFiles {
    /// Authorities that sign the service's certificate; those of the system if empty.
    #[garde(skip)]
    pub ca: String,
    /// Certificate that the client shows.
    #[garde(custom(with_its_key(&self.key)))]
    pub cert: String,
    /// Its key.
    #[garde(skip)]
    pub key: String,
}

impl ClientFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One cannot be read, holds something else, or does not fit the others.
    pub fn read(&self) -> Result<ClientTlsConfig, TlsError> {
        let tls = match self.ca.as_str() {
            "" => ClientTlsConfig::new().with_native_roots(),
            path => {
                let authorities = read_authorities(Path::new(path))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities))
            }
        };
        if self.cert.is_empty() {
            return Ok(tls);
        }
        let (cert, key) = read_identity(Path::new(&self.cert), Path::new(&self.key))?;
        Ok(tls.identity(Identity::from_pem(cert, key)))
    }
}

fn with_its_key(key: &str) -> impl FnOnce(&String, &()) -> garde::Result + '_ {
    move |cert, ()| {
        if cert.is_empty() == key.is_empty() {
            return Ok(());
        }
        Err(garde::Error::new("cert and key belong together, and one is missing"))
    }
}

/// Reads the certificates of the authorities that servers must be signed by, as PEM.
///
/// # Errors
///
/// The file cannot be read, or holds something else.
pub fn read_authorities(path: &Path) -> Result<Vec<u8>, TlsError> {
    let pem = read(path)?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&pem, path)? {
        roots
            .add(authority)
            .map_err(|_| TlsError::Pem { path: path.to_owned(), what: "certificate of an authority" })?;
    }
    Ok(pem)
}

/// Reads the certificate chain that a client shows, its own first, and its private key, both as PEM.
///
/// # Errors
///
/// A file cannot be read or holds something else, or the two do not belong together.
pub fn read_identity(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let (chain, private) = (read(cert)?, read(key)?);
    let der = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|_| TlsError::Pem { path: key.to_owned(), what: "private key" })?;
    CertifiedKey::from_der(certificates(&chain, cert)?, der, &aws_lc_rs::default_provider())
        .map_err(mismatch)?;
    Ok((chain, private))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
