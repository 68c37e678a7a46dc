//! From where a request came.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};

/// The caller: Envoy's peer, or, if that is a trusted proxy, the last address of `X-Forwarded-For` that is none. What lies
/// before it was written by the caller. Nobody is known where a trusted proxy names nobody.
pub(super) fn address(peer: &str, forwarded_for: &str, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    let peer = node(peer)?;
    if !is_trusted(peer) {
        return Some(peer);
    }
    let mut farthest = None;
    for hop in forwarded_for.rsplit(',') {
        let ip = node(hop)?;
        if !is_trusted(ip) {
            return Some(ip);
        }
        farthest = Some(ip);
    }
    farthest
}

/// What limits count by: the IPv4 address, or the /64 of an IPv6 address, which is one subscriber's.
pub(super) fn subject(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Net::new(ip, 64).expect("64 is a prefix length of IPv6").trunc().to_string(),
    }
}

/// An address, with a port or without.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nobody_is_trusted("203.0.113.7", "198.51.100.1", "", Some("203.0.113.7"))]
    #[case::a_stranger_says_nothing("203.0.113.7", "198.51.100.1", "10.0.0.0/8", Some("203.0.113.7"))]
    #[case::a_proxy("10.0.0.1", "198.51.100.1", "10.0.0.0/8", Some("198.51.100.1"))]
    #[case::what_the_caller_wrote(
        "10.0.0.1",
        "192.0.2.9, 198.51.100.1,10.0.0.2",
        "10.0.0.0/8",
        Some("198.51.100.1")
    )]
    #[case::with_a_port("10.0.0.1", "[2001:db8::1]:443", "10.0.0.0/8", Some("2001:db8::1"))]
    #[case::mapped("::ffff:10.0.0.1", "::ffff:192.0.2.9", "10.0.0.0/8", Some("192.0.2.9"))]
    #[case::within("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.0/8", Some("10.0.0.2"))]
    #[case::hidden("10.0.0.1", "198.51.100.1, unknown", "10.0.0.0/8", None)]
    #[case::unnamed("10.0.0.1", "", "10.0.0.0/8", None)]
    #[case::no_peer("", "198.51.100.1", "10.0.0.0/8", None)]
    fn caller_is_the_last_who_is_not_trusted(
        #[case] peer: &str,
        #[case] forwarded_for: &str,
        #[case] trusted: &str,
        #[case] expected: Option<&str>,
    ) {
        let trusted: Vec<_> = trusted.parse().into_iter().collect();
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(address(peer, forwarded_for, &trusted), expected);
    }

    #[test]
    fn subscriber_of_ipv6_has_a_whole_network() {
        assert_eq!(subject("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(subject("192.0.2.9".parse().unwrap()), "192.0.2.9");
    }
}
