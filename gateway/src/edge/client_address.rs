//! Who is calling: the peer of the connection, or, if that is a trusted proxy, whom it names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::Ipv6Net;

use crate::config::{ForwardingHeader, ProxiesConfig};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// A request with one of these came through a proxy.
const MARKS_OF_PROXIES: [HeaderName; 4] = [header::FORWARDED, X_FORWARDED_FOR, X_REAL_IP, header::VIA];

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// The caller; never an IPv4-mapped IPv6 address.
    pub ip: IpAddr,
    /// Whether the caller, and whoever passed the request on, are on this machine, so that nobody
    /// outside is speaking. In doubt they are not.
    pub is_local: bool,
    /// Whether a trusted proxy says that the caller used TLS.
    pub is_https: bool,
}

impl ClientAddress {
    /// Judges by the connection's `peer` and, only if it is a trusted proxy, by `headers`.
    #[must_use]
    pub(crate) fn of(peer: SocketAddr, headers: &HeaderMap, proxies: &ProxiesConfig) -> Self {
        let peer = peer.ip().to_canonical();
        if !is_trusted(peer, proxies) {
            // What an unlisted peer writes gives it nothing, but may show that it speaks for another.
            let is_local =
                peer.is_loopback() && !MARKS_OF_PROXIES.iter().any(|name| headers.contains_key(name));
            return Self { ip: peer, is_local, is_https: false };
        }
        let hops = hops(headers, proxies.header);
        let walked = walk(peer, &hops, proxies);
        let is_https = match proxies.header {
            ForwardingHeader::XForwardedFor => last_proto(headers),
            ForwardingHeader::Forwarded => hops.last().is_some_and(|hop| hop.is_https),
        };
        Self { ip: walked.ip, is_local: walked.is_local, is_https }
    }

    /// Whom a trusted proxy at `peer` names, if it names somebody.
    #[must_use]
    pub(crate) fn named(peer: IpAddr, headers: &HeaderMap, proxies: &ProxiesConfig) -> Option<Self> {
        let names = hops(headers, proxies.header).last().is_some_and(|hop| hop.ip.is_some());
        (is_trusted(peer, proxies) && names).then(|| Self::of(SocketAddr::new(peer, 0), headers, proxies))
    }

    /// What limits count by: the IPv4 address, or the /64 of an IPv6 address, since one subscriber
    /// has a whole /64 to choose from.
    #[must_use]
    pub(crate) fn key(&self) -> String {
        match self.ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => subscriber(ip).to_string(),
        }
    }
}

fn subscriber(ip: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::new(ip, 64).expect("64 is a prefix length of IPv6").trunc()
}

/// One hop that a proxy wrote down; no address if it hid it or wrote nonsense.
#[derive(Clone, Copy)]
struct Hop {
    ip: Option<IpAddr>,
    is_https: bool,
}

fn hops(headers: &HeaderMap, header: ForwardingHeader) -> Vec<Hop> {
    match header {
        ForwardingHeader::XForwardedFor => x_forwarded_for(headers),
        ForwardingHeader::Forwarded => forwarded(headers),
    }
}

struct Walked {
    ip: IpAddr,
    is_local: bool,
}

/// From the nearest hop to the farthest; the first address that is no trusted proxy is the caller.
/// What lies beyond it was written by the caller and proves nothing. Behind a hop without an
/// address nobody is known, so the proxy before it answers for the call.
///
/// Loopback means this machine only to a process on it: from a proxy elsewhere it is that proxy's own
/// machine. So the caller is local if every address on the way is loopback. A proxy that names nobody
/// may be speaking for anybody.
fn walk(peer: IpAddr, hops: &[Hop], proxies: &ProxiesConfig) -> Walked {
    let mut walked = Walked { ip: peer, is_local: peer.is_loopback() && !hops.is_empty() };
    for hop in hops.iter().rev() {
        let Some(ip) = hop.ip else { return Walked { is_local: false, ..walked } };
        walked = Walked { ip, is_local: walked.is_local && ip.is_loopback() };
        if !is_trusted(ip, proxies) {
            break;
        }
    }
    walked
}

fn is_trusted(ip: IpAddr, proxies: &ProxiesConfig) -> bool {
    proxies.trusted.iter().any(|range| range.contains(ip))
}

fn x_forwarded_for(headers: &HeaderMap) -> Vec<Hop> {
    let lines = headers.get_all(X_FORWARDED_FOR);
    let entries = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    entries
        .map(|entry| {
            let ip = std::str::from_utf8(entry).ok().and_then(|entry| parse_node(entry.trim()));
            Hop { ip, is_https: false }
        })
        .collect()
}

fn last_proto(headers: &HeaderMap) -> bool {
    let last = headers.get_all(X_FORWARDED_PROTO).iter().next_back();
    let Some(Ok(line)) = last.map(|value| value.to_str()) else { return false };
    line.rsplit(',').next().is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
}

/// The elements of `Forwarded` (RFC 7239). A comma inside quotes does not separate; so a caller who
/// leaves a quote open could swallow what the proxy appends, and such a line names nobody.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        match line.to_str() {
            Ok(line) if line.matches('"').count().is_multiple_of(2) => {
                hops.extend(split_unquoted(line, ',').map(parse_element));
            }
            _ => hops.push(Hop { ip: None, is_https: false }),
        }
    }
    hops
}

fn parse_element(element: &str) -> Hop {
    let mut hop = Hop { ip: None, is_https: false };
    for pair in split_unquoted(element, ';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.ip = parse_node(value),
            "proto" => hop.is_https = value.eq_ignore_ascii_case("https"),
            _ => {}
        }
    }
    hop
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        !quoted && character == separator
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn proxies(header: ForwardingHeader) -> ProxiesConfig {
        let trusted = ["10.0.0.0/8", "127.0.0.0/8", "2001:db8:ffff::/48"];
        let trusted = trusted.map(|range| range.to_owned().try_into().expect("a range"));
        ProxiesConfig { trusted: trusted.to_vec(), header }
    }

    fn address(peer: &str, name: &'static str, value: &'static str) -> ClientAddress {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_static(value));
        let header = match name {
            "forwarded" => ForwardingHeader::Forwarded,
            _ => ForwardingHeader::XForwardedFor,
        };
        ClientAddress::of(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &proxies(header))
    }

    #[rstest]
    #[case::untrusted_peer_names_nobody("192.0.2.9", "198.51.100.1", "192.0.2.9")]
    #[case::trusted_peer_names_the_caller("10.0.0.1", "198.51.100.1", "198.51.100.1")]
    #[case::what_the_caller_wrote_is_passed_over(
        "10.0.0.1",
        "1.1.1.1, 198.51.100.1, 10.0.0.2",
        "198.51.100.1"
    )]
    #[case::only_proxies("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3")]
    #[case::nonsense_stops_the_walk("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2")]
    #[case::ports("10.0.0.1", "198.51.100.1:4711", "198.51.100.1")]
    #[case::ipv6_is_a_subscriber("10.0.0.1", "[2001:db8:1:2:3:4:5:6]:99", "2001:db8:1:2::/64")]
    #[case::mapped_caller("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7")]
    #[case::mapped_peer("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1")]
    #[case::trusted_ipv6("2001:db8:ffff::1", "198.51.100.1", "198.51.100.1")]
    fn walks_right_to_left(#[case] peer: &str, #[case] header: &'static str, #[case] key: &str) {
        assert_eq!(address(peer, "x-forwarded-for", header).key(), key);
    }

    #[rstest]
    #[case::caller("10.0.0.1", "198.51.100.1", Some("198.51.100.1"))]
    #[case::caller_on_its_own_machine("10.0.0.1", "10.0.0.1", Some("10.0.0.1"))]
    #[case::hidden("10.0.0.1", "unknown", None)]
    #[case::untrusted("192.0.2.1", "198.51.100.1", None)]
    fn a_proxy_names_somebody_or_nobody(
        #[case] peer: &str,
        #[case] header: &'static str,
        #[case] named: Option<&str>,
    ) {
        let mut headers = HeaderMap::new();
        let proxies = proxies(ForwardingHeader::XForwardedFor);
        let name = |headers: &HeaderMap| ClientAddress::named(peer.parse().unwrap(), headers, &proxies);
        assert_eq!(name(&headers), None, "without the header");
        headers.insert("x-forwarded-for", http::HeaderValue::from_static(header));
        assert_eq!(name(&headers).map(|of| of.key()).as_deref(), named);
    }

    #[rstest]
    #[case("for=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1", true)]
    #[case("for=1.1.1.1, for=\"[2001:db8::1]:80\";proto=http", "2001:db8::/64", false)]
    #[case("For=\"198.51.100.1:80\"", "198.51.100.1", false)]
    #[case("for=_hidden", "10.0.0.1", false)]
    #[case("for=198.51.100.1, host=\"a,b\"", "10.0.0.1", false)]
    #[case::quote_left_open_by_the_caller("for=6.6.6.6;x=\", for=198.51.100.1", "10.0.0.1", false)]
    #[case::quote_left_open_before_quotes("for=6.6.6.6;x=\", for=\"[2001:db8::1]\"", "10.0.0.1", false)]
    #[case::escaped_quote_of_the_caller("for=6.6.6.6;x=\"\\\", for=198.51.100.1", "198.51.100.1", false)]
    fn reads_forwarded(#[case] header: &'static str, #[case] key: &str, #[case] is_https: bool) {
        let address = address("10.0.0.1", "forwarded", header);
        assert_eq!((address.key().as_str(), address.is_https), (key, is_https));
    }

    #[rstest]
    #[case::local_proxy_for_a_local_caller("127.0.0.1", "x-forwarded-for", "127.0.0.1", true)]
    #[case::local_proxies_for_a_local_caller("127.0.0.1", "x-forwarded-for", "127.0.0.3, 127.0.0.2", true)]
    #[case::what_an_outsider_wrote("127.0.0.1", "x-forwarded-for", "127.0.0.1, 198.51.100.1", false)]
    #[case::local_proxy_for_an_outsider("127.0.0.1", "x-forwarded-for", "198.51.100.1", false)]
    #[case::local_proxy_for_somebody_hidden("127.0.0.1", "x-forwarded-for", "unknown", false)]
    #[case::hidden_behind_local_proxies("127.0.0.1", "x-forwarded-for", "unknown, 127.0.0.2", false)]
    #[case::loopback_of_a_far_proxy("127.0.0.1", "x-forwarded-for", "127.0.0.1, 10.0.0.5", false)]
    #[case::the_same_in_forwarded("127.0.0.1", "forwarded", "for=127.0.0.1, for=10.0.0.5", false)]
    #[case::far_proxy_that_claims_loopback("10.0.0.1", "x-forwarded-for", "127.0.0.1", false)]
    #[case::outsider_that_claims_loopback("192.0.2.1", "x-forwarded-for", "127.0.0.1", false)]
    #[case::local_proxy_that_names_nobody("127.0.0.1", "x-other", "", false)]
    #[case::local_proxy_that_writes_another_header("127.0.0.1", "via", "1.1 proxy", false)]
    fn behind_proxies_the_caller_is_local_only_if_every_hop_is(
        #[case] peer: &str,
        #[case] name: &'static str,
        #[case] value: &'static str,
        #[case] is_local: bool,
    ) {
        assert_eq!(address(peer, name, value).is_local, is_local);
    }

    #[rstest]
    #[case::loopback("127.0.0.1", "x-other", true)]
    #[case::ipv6_loopback("::1", "x-other", true)]
    #[case::mapped_loopback("::ffff:127.0.0.1", "x-other", true)]
    #[case::elsewhere("192.0.2.1", "x-other", false)]
    #[case::x_forwarded_for("127.0.0.1", "x-forwarded-for", false)]
    #[case::forwarded("::1", "forwarded", false)]
    #[case::x_real_ip("127.0.0.1", "x-real-ip", false)]
    #[case::via("::ffff:127.0.0.1", "via", false)]
    fn without_proxies_the_peer_is_local_unless_it_speaks_for_another(
        #[case] peer: &str,
        #[case] name: &'static str,
        #[case] is_local: bool,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_static("127.0.0.1"));
        let nobody = ProxiesConfig { trusted: Vec::new(), header: ForwardingHeader::XForwardedFor };
        let address = ClientAddress::of(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &nobody);
        assert_eq!(address.is_local, is_local);
    }

    #[test]
    fn https_is_believed_only_from_a_proxy() {
        assert!(address("10.0.0.1", "x-forwarded-proto", "http, https").is_https);
        assert!(!address("192.0.2.1", "x-forwarded-proto", "https").is_https);
    }
}
