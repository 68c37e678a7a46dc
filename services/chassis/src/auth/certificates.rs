//! The names in a client's certificate.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The URIs and DNS names among the subject alternative names, as they stand there.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    // What rustls has verified is well formed.
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_uri_names().chain(certificate.valid_dns_names()).map(str::to_owned).collect()
}
