//! Certificates, and what their faults mean.

use std::path::Path;

use anyhow::Context;
use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use tidegate_chassis::tls::{read_authorities, read_identity};

use super::RedisStoreConfig;

/// Reads the files of the settings.
///
/// # Errors
///
/// If one cannot be read or holds something else, or certificate and key do not belong together.
pub(super) fn read(config: &RedisStoreConfig) -> anyhow::Result<TlsCertificates> {
    let root_cert = match config.tls_ca.as_str() {
        "" => None,
        file => Some(read_authorities(Path::new(file)).context("store.redis.tls_ca")?),
    };
    let client_tls = match (config.tls_cert.as_str(), config.tls_key.as_str()) {
        ("", "") => None,
        (cert, key) => {
            let read = read_identity(Path::new(cert), Path::new(key));
            let (client_cert, client_key) = read.context("store.redis.tls_cert and tls_key")?;
            Some(ClientTlsConfig { client_cert, client_key })
        }
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

/// The error, and where it comes from certificates what to look at.
pub(super) fn explained(error: &RedisError) -> String {
    let text = error.to_string();
    // The library passes on no more than the words of rustls.
    let advice = ADVICE.iter().find(|(sign, _)| text.contains(sign));
    advice.map_or_else(|| text.clone(), |(_, advice)| format!("{text}: {advice}"))
}

const ADVICE: [(&str, &str); 8] = [
    ("UnknownIssuer", THEIRS),
    // An authority of the same name, with another key.
    ("BadSignature", THEIRS),
    ("not valid for name", "the certificate of Redis does not name the host that the URL names"),
    // What Redis says of ours, and what we say of that of Redis.
    ("CertificateExpired", "store.redis.tls_cert has expired"),
    ("certificate expired", "the certificate of Redis has expired"),
    ("CertificateRequired", "Redis asks for a certificate: set store.redis.tls_cert and tls_key"),
    ("UnknownCA", OURS),
    ("DecryptError", OURS),
];

const THEIRS: &str = "the certificate of Redis is signed by no authority in store.redis.tls_ca";
const OURS: &str = "Redis does not know the authority that signed store.redis.tls_cert";
