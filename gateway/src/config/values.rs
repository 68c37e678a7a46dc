//! Types of settings: parsed once, valid ever after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderValue, Uri};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// `http://host:port` or `https://host:port`; a name stands for all of its addresses.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamUrl(Uri);

impl UpstreamUrl {
    /// The URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Name or address, without the brackets of IPv6.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; 443 or 80 if the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl TryFrom<String> for UpstreamUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Not quoted: what does not belong into it may be a password.
        let wrong = "a URL must be of the form http://host:port or https://host:port";
        bare_url(&text).map(Self).ok_or_else(|| wrong.to_owned())
    }
}

impl From<UpstreamUrl> for String {
    fn from(url: UpstreamUrl) -> Self {
        url.0.to_string()
    }
}

/// A range of addresses, `10.0.0.0/8`; a single address is a range of one. A range of IPv4-mapped
/// addresses is the range of IPv4 that it stands for, since that is how peers are known.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// This machine.
    pub const LOOPBACK: [Self; 2] = [
        Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))),
        Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128))),
    ];

    /// Whether `ip` lies in it. An IPv4-mapped IPv6 address lies in no range of IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let range = text.parse().ok().or_else(single).and_then(without_mapping);
        range.map(Self).ok_or_else(|| format!("{text:?} is not a range of addresses, as 10.0.0.0/8"))
    }
}

/// `None` for a mapped address in a range so wide that it stands for more than IPv4.
fn without_mapping(range: IpNet) -> Option<IpNet> {
    match range.addr().to_canonical() {
        IpAddr::V4(ip) if range.addr().is_ipv6() => {
            let length = range.prefix_len().checked_sub(96)?;
            Ipv4Net::new(ip, length).ok().map(IpNet::V4)
        }
        _ => Some(range),
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.0.to_string()
    }
}

/// `https://console.example.com`: scheme and host, a port if it is not the usual one, exactly as
/// browsers write it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

impl Origin {
    /// As it stands in a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::try_from(&self.0).expect("an origin is a URL, so it is ASCII")
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Browsers send lower case, no slash and no usual port; anything else would never match.
        let is_as_sent =
            !text.ends_with('/') && !text.contains(|character: char| character.is_ascii_uppercase());
        let names_usual_port = |url: &Uri| {
            matches!(
                (url.scheme_str(), url.port_u16()),
                (Some("https"), Some(443)) | (Some("http"), Some(80))
            )
        };
        match bare_url(&text) {
            Some(url) if is_as_sent && !names_usual_port(&url) => Ok(Self(text)),
            _ => {
                Err(format!("{text:?} is not an origin as browsers send it, as https://console.example.com"))
            }
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

/// An HTTP URL of scheme, host and port, and nothing else.
fn bare_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let has_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.authority().is_some_and(|authority| {
        !authority.host().is_empty()
            && !authority.as_str().contains('@')
            && !authority.as_str().ends_with(':')
    });
    let has_path = uri.path_and_query().is_some_and(|path| path != "/");
    (has_scheme && has_host && !has_path).then_some(uri)
}
