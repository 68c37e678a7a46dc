//! PEM files of a TLS client whose library takes them as bytes.

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{TlsError, certificates, mismatch};

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
