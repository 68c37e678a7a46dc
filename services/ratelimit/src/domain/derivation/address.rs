//! Who is calling, by network address.

use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::super::matcher::Attributes;

/// Finds the caller of a request that may have come through proxies, and the network that it is counted as.
#[derive(Clone, Debug)]
pub struct ClientAddress {
    /// Attribute with the address that the request came from.
    pub peer: Box<str>,
    /// Attribute with the addresses that proxies wrote down, as `X-Forwarded-For` has them; absent if none is believed.
    pub forwarded_for: Option<Box<str>>,
    /// Proxies that are believed.
    pub trusted: Box<[IpNet]>,
    /// Leading bits of an IPv4 address that tell callers apart, 0 to 32.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that tell callers apart, 0 to 128. A subscriber has a whole /64 to choose from.
    pub ipv6_prefix: u8,
}

impl ClientAddress {
    /// The caller's network, as `192.0.2.1` or `2001:db8:1:2::/64`: the peer, or, as long as it is a trusted proxy, whom
    /// it names, from the nearest hop to the farthest. What lies beyond the first that is not trusted was written by the
    /// caller and proves nothing. Behind a hop that is no address nobody is known, so the proxy before it answers for
    /// the call. A peer that is no address is counted as it is written.
    pub(super) fn of<A: Attributes + ?Sized>(&self, attributes: &A) -> Option<String> {
        let peer = attributes.find(&self.peer)?;
        let Some(mut caller) = parse(peer) else { return Some(peer.to_owned()) };
        let forwarded_for = self.forwarded_for.as_ref().and_then(|name| attributes.find(name));
        for hop in forwarded_for.into_iter().flat_map(|hops| hops.rsplit(',')) {
            if !self.trusted.iter().any(|range| range.contains(&caller)) {
                break;
            }
            let Some(address) = parse(hop.trim()) else { break };
            caller = address;
        }
        Some(self.network(caller))
    }

    fn network(&self, caller: IpAddr) -> String {
        let (prefix, whole) = match caller {
            IpAddr::V4(_) => (self.ipv4_prefix, 32),
            IpAddr::V6(_) => (self.ipv6_prefix, 128),
        };
        if prefix == whole {
            return caller.to_string();
        }
        IpNet::new(caller, prefix).expect("prefixes are checked when policies are read").trunc().to_string()
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; never an IPv4 address mapped
/// into IPv6.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}
