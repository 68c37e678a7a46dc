//! From where a request came: metadata that the gateway sends along.

use std::net::IpAddr;

use ipnet::IpNet;
use tidegate_chassis::auth::{self, How, TokenUse};
use tonic::{Request, metadata::MetadataMap};

use crate::origin::RequestOrigin;

/// More of a user agent is not kept.
const MAX_USER_AGENT_BYTES: usize = 512;
/// A request id that is longer is none.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Peers that are believed when they say from where a request came, besides services: gateways and proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Believes these.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// From where a request came: as a service or a trusted peer says, or else from the peer itself.
    #[must_use]
    pub fn origin<T>(&self, request: &Request<T>) -> RequestOrigin {
        let told = RequestOrigin::read(request.metadata());
        let Some(peer) = auth::peer(request).map(|peer| peer.to_canonical()) else { return told };
        let is_trusted = is_internal(request) || self.0.iter().any(|network| network.contains(&peer));
        let ip_address = told.ip_address.filter(|_| is_trusted).or_else(|| Some(peer.to_string()));
        RequestOrigin { ip_address, ..told }
    }
}

/// Whether a service calls: a gateway on another host is no peer of a network that is trusted.
fn is_internal<T>(request: &Request<T>) -> bool {
    let how = auth::caller(request).map(|caller| &caller.how);
    matches!(how, Ok(How::Token { token_use: TokenUse::Internal, .. }))
}

impl RequestOrigin {
    /// Reads `x-client-ip`, `user-agent` and `x-request-id`; what is not well formed is left out.
    #[must_use]
    pub fn read(metadata: &MetadataMap) -> Self {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_id = |id: &&str| (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(is_id_byte);
        let address = text("x-client-ip").and_then(|address| address.trim().parse::<IpAddr>().ok());
        Self {
            ip_address: address.map(|address| address.to_canonical().to_string()),
            // What `to_str` gives is ASCII, so that every byte is the end of a character.
            user_agent: text("user-agent")
                .map(|agent| agent[..agent.len().min(MAX_USER_AGENT_BYTES)].to_owned()),
            request_id: text("x-request-id").filter(is_id).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> RequestOrigin {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.insert(*name, value.parse().expect("a value"));
        }
        RequestOrigin::read(&metadata)
    }

    #[test]
    fn what_the_gateway_says_is_read() {
        let origin =
            read(&[("x-client-ip", "::ffff:203.0.113.7"), ("user-agent", "curl/8"), ("x-request-id", "r-1")]);
        let wanted = ["203.0.113.7", "curl/8", "r-1"].map(|text| Some(text.to_owned()));
        assert_eq!([origin.ip_address, origin.user_agent, origin.request_id], wanted);
    }

    #[test]
    fn only_a_trusted_peer_says_from_where_a_request_came() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network")]);
        let origin = |peer: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("x-client-ip", "203.0.113.7".parse().expect("a value"));
            let peer = peer.parse().expect("an address");
            request.extensions_mut().insert(auth::Origin { caller: None, peer });
            proxies.origin(&request).ip_address.expect("an address")
        };
        assert_eq!(origin("10.1.2.3"), "203.0.113.7");
        assert_eq!(origin("::ffff:10.1.2.3"), "203.0.113.7");
        assert_eq!(origin("192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_service_is_believed_wherever_it_is_and_no_other_token_is() {
        let origin = |token_use| {
            let mut request = Request::new(());
            request.metadata_mut().insert("x-client-ip", "203.0.113.7".parse().expect("a value"));
            let caller = auth::Caller {
                role: auth::Role::Service,
                subject: "tidegate-gateway".to_owned(),
                organization: None,
                email: None,
                how: How::Token { id: String::new(), token_use, expires_at_s: 0 },
            };
            let peer = "192.0.2.1".parse().expect("an address");
            request.extensions_mut().insert(auth::Origin { caller: Some(caller.into()), peer });
            TrustedProxies::default().origin(&request).ip_address.expect("an address")
        };
        assert_eq!(origin(TokenUse::Internal), "203.0.113.7");
        assert_eq!(origin(TokenUse::Service), "192.0.2.1");
    }

    #[test]
    fn what_is_not_well_formed_is_left_out_or_cut() {
        let long = "x".repeat(600);
        let origin = read(&[("x-client-ip", "localhost"), ("user-agent", &long), ("x-request-id", "a b")]);
        assert_eq!((origin.ip_address, origin.request_id), (None, None));
        assert_eq!(origin.user_agent.expect("cut").len(), 512);
        assert_eq!(read(&[]), RequestOrigin::default());
    }
}
