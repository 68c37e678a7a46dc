//! A certificate authority of the test's own, and certificates signed by it.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A private certificate authority with a folder for what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

/// A certificate and its key: PEM text, and files with the same.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// File with the certificate.
    pub certificate_file: PathBuf,
    /// File with the key.
    pub key_file: PathBuf,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// No temp folder, or the key cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Tidegate test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.pem"), &pem)?;
        Ok(Self { issuer: Issuer::new(params, key), pem, folder })
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// File with the authority's own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Settings of a service that shows `server` and lets in only clients of this authority.
    #[must_use]
    pub fn server_settings(&self, server: &Identity) -> String {
        format!(
            "[server.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
            server.certificate_file,
            server.key_file,
            self.file()
        )
    }

    /// Signs a certificate for `localhost` and 127.0.0.1, fit for servers and clients. Signing the
    /// same name again writes over the files, as a renewal does.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn sign(&self, name: &str) -> anyhow::Result<Identity> {
        self.sign_for(name, &["localhost", "127.0.0.1"])
    }

    /// The same for other hosts, which are names or addresses.
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign).
    pub fn sign_for(&self, name: &str, hosts: &[&str]) -> anyhow::Result<Identity> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let pair = KeyPair::generate()?;
        let identity = Identity {
            certificate: params.signed_by(&pair, &self.issuer)?.pem(),
            key: pair.serialize_pem(),
            certificate_file: self.folder.path().join(format!("{name}.pem")),
            key_file: self.folder.path().join(format!("{name}.key")),
        };
        fs::write(&identity.key_file, &identity.key)?;
        fs::write(&identity.certificate_file, &identity.certificate)?;
        Ok(identity)
    }
}
