//! What Envoy asks, as a check by an API key.

use ipnet::IpNet;
use tidegate_chassis::error::Violations;
use tidegate_proto::{
    envoy::{
        config::core::v3::address::Address,
        service::auth::v3::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest, Peer},
        },
    },
    view::CheckView,
};
use tonic::Status;

use super::{super::parse, client};
use crate::grpc::error::invalid;

const AUTHORIZATION: &str = "authorization";
const X_API_KEY: &str = "x-api-key";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// What settings of attributes begin with.
const ATTRIBUTE: &str = "attribute.";

/// A request that Envoy holds back, and what the settings of its route (`context_extensions`) say of it.
#[derive(Debug, Default)]
pub(super) struct Question<'r> {
    /// Without the query.
    pub(super) path: &'r str,
    method: &'r str,
    host: String,
    /// The key, and the header that it is in.
    api_key: Option<(&'r str, &'static str)>,
    client_ip: String,
    /// The attribute `ip`.
    ip: String,
    settings: Settings<'r>,
}

#[derive(Debug, Default)]
struct Settings<'r> {
    namespace: &'r str,
    required_scopes: &'r str,
    cost: Option<u64>,
    remove_key: bool,
    trusted_proxies: Vec<IpNet>,
    attributes: Vec<(&'r str, &'r str)>,
}

impl<'r> Question<'r> {
    /// Reads a request. Nothing that a caller of Envoy chooses makes it invalid.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT, which names everything that is wrong with the settings.
    pub(super) fn read(request: &'r CheckRequest) -> Result<Self, Status> {
        let mut violations = Violations::default();
        let Some(context) = &request.attributes else {
            violations.add("attributes", "must be set");
            return Err(invalid(violations));
        };
        let settings = Settings::read(context, &mut violations);
        let Some(http) = context.request.as_ref().and_then(|request| request.http.as_ref()) else {
            violations.add("attributes.request.http", "must be set: only requests of HTTP are decided");
            return Err(invalid(violations));
        };
        let peer = address_of(context.source.as_ref());
        let forwarded_for = header(http, X_FORWARDED_FOR).unwrap_or_default();
        let client = client::address(peer, forwarded_for, &settings.trusted_proxies);
        let question = Self {
            path: &http.path[..http.path.find(['?', '#']).unwrap_or(http.path.len())],
            method: &http.method,
            host: http.host.to_ascii_lowercase(),
            api_key: api_key(http),
            client_ip: client.map(|ip| ip.to_string()).unwrap_or_default(),
            ip: client.map(client::subject).unwrap_or_default(),
            settings,
        };
        let mut own = Violations::default();
        parse::check_fields(&question.view(), &mut own);
        violations.add_all("attributes.context_extensions", own);
        if violations.is_empty() { Ok(question) } else { Err(invalid(violations)) }
    }

    /// The check to decide; its key is empty if there is none. Attributes of the settings take the place of what is known by
    /// the same name.
    pub(super) fn view(&self) -> CheckView<'_> {
        let Settings { namespace, required_scopes, cost, attributes: set, .. } = &self.settings;
        let known = [("method", self.method), ("host", &self.host), ("path", self.path), ("ip", &self.ip)];
        let known = known
            .into_iter()
            .filter(|(name, value)| !value.is_empty() && !set.iter().any(|(other, _)| other == name));
        CheckView {
            namespace,
            attributes: known.chain(set.iter().copied()).collect(),
            cost: *cost,
            api_key: self.api_key.map(|(key, _)| key).unwrap_or_default(),
            client_ip: &self.client_ip,
            required_scopes,
            ..CheckView::default()
        }
    }

    /// The header of the key, if the backend is not to see it.
    pub(super) fn key_to_remove(&self) -> Option<&'static str> {
        self.api_key.filter(|_| self.settings.remove_key).map(|(_, header)| header)
    }
}

impl<'r> Settings<'r> {
    /// One that is not known is refused: who misspells `required_scopes` must not let everybody in.
    fn read(context: &'r AttributeContext, violations: &mut Violations) -> Self {
        let mut settings = Self::default();
        for entry in &context.context_extensions {
            let (name, value) = (&*entry.key, &*entry.value);
            let mut wrong =
                |words: String| violations.add(format!("attributes.context_extensions.{name}"), words);
            match name {
                "namespace" => settings.namespace = value,
                "required_scopes" => settings.required_scopes = value,
                "cost" => match value.parse() {
                    Ok(cost) => settings.cost = Some(cost),
                    Err(_) => wrong("must be a number of tokens".to_owned()),
                },
                "remove_key" => match value.parse() {
                    Ok(remove_key) => settings.remove_key = remove_key,
                    Err(_) => wrong("must be true or false".to_owned()),
                },
                "trusted_proxies" => match value.split(',').map(|cidr| cidr.trim().parse()).collect() {
                    Ok(networks) => settings.trusted_proxies = networks,
                    Err(_) => wrong("must be networks with commas between, as 10.0.0.0/8".to_owned()),
                },
                _ => match name.strip_prefix(ATTRIBUTE) {
                    Some(attribute) => settings.attributes.push((attribute, value)),
                    None => wrong("is no setting of Tidegate".to_owned()),
                },
            }
        }
        settings
    }
}

/// A backend may use `Authorization` for its own purposes, so `X-API-Key` goes first.
fn api_key(http: &HttpRequest) -> Option<(&str, &'static str)> {
    let (key, name) = match header(http, X_API_KEY) {
        Some(key) => (key, X_API_KEY),
        None => {
            let (scheme, key) = header(http, AUTHORIZATION)?.split_once(' ')?;
            (scheme.eq_ignore_ascii_case("bearer").then_some(key)?, AUTHORIZATION)
        }
    };
    Some((key.trim(), name)).filter(|(key, _)| !key.is_empty())
}

fn header<'r>(http: &'r HttpRequest, name: &str) -> Option<&'r str> {
    http.headers.iter().find(|header| header.key == name).map(|header| &*header.value)
}

fn address_of(peer: Option<&Peer>) -> &str {
    match peer.and_then(|peer| peer.address.as_ref()?.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => &socket.address,
        None => "",
    }
}
