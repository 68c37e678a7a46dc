//! What is asked.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_credentials::{KeyShape, key_shape};
use tidegate_proto::ratelimit::v1::{
    AcquireLeaseRequest, CheckRequest, PeekRequest, acquire_lease_request, check_request, peek_request,
};

/// One request of the caller's own, to be decided. [`Check::new`] asks nothing but to charge 1.
///
/// What is wrong with a field is for the service to say: [`Reason::InvalidRequest`](crate::Reason::InvalidRequest) lists
/// all of them.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Check {
    namespace: String,
    attributes: Vec<(String, String)>,
    cost: Option<u64>,
    dry_run: bool,
    idempotency_key: String,
    api_key: String,
    client_ip: Option<IpAddr>,
    required_scopes: String,
    deadline: Option<Duration>,
    metadata: HeaderMap,
}

impl Check {
    /// A check in the default namespace, without attributes, of cost 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the policies of a namespace; "default" without.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Tells something of the request: `organization`, `ip`, `path`, … The last of a name counts.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Tells several things of the request.
    pub fn attributes<N: Into<String>, V: Into<String>>(
        mut self,
        attributes: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.attributes.extend(attributes.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Tokens to charge, at least 1.
    pub fn cost(mut self, cost: u64) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Decides, but charges nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Makes a repetition of this check by the caller safe: with the same key it is not charged again. At most 128 printable
    /// ASCII bytes. With [`Retries::Idempotent`](crate::Retries::Idempotent) every check without one is given one.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = key.into();
        self
    }

    /// The API key that the request came with: accepted or denied in the same decision as the limits.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = key.into();
        self
    }

    /// From where the request came, for API keys that may be used from some networks only.
    pub fn client_ip(mut self, address: IpAddr) -> Self {
        self.client_ip = Some(address);
        self
    }

    /// Scopes that the API key must have, as "invoices:read and (invoices:write or admin)".
    pub fn required_scopes(mut self, scopes: impl Into<String>) -> Self {
        self.required_scopes = scopes.into();
        self
    }

    /// Another deadline than the client's for this check alone.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sends a header with the call, as `x-request-id` or `traceparent`.
    pub fn metadata(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.metadata.append(name, value);
        self
    }

    pub(crate) fn names_key(&self) -> bool {
        !self.api_key.is_empty()
    }

    pub(crate) fn key(&self) -> Option<&str> {
        Some(self.api_key.as_str()).filter(|key| !key.is_empty())
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.client_ip
    }

    pub(crate) fn scopes(&self) -> &str {
        &self.required_scopes
    }

    /// Whether it names an API key that is nobody's, as its checksum or length tells.
    pub(crate) fn is_keys_shape_wrong(&self) -> bool {
        self.names_key()
            && match key_shape(&self.api_key) {
                KeyShape::BadChecksum | KeyShape::Impossible => true,
                KeyShape::Ours | KeyShape::Foreign => false,
            }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.cost.unwrap_or(1)
    }

    pub(crate) fn own_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.metadata
    }

    /// The value of an attribute, the last of its name.
    pub(crate) fn value_of(&self, name: &str) -> Option<&str> {
        let named = self.attributes.iter().rev().find(|(own, _)| own == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Gives it an idempotency key, unless it has one or charges nothing.
    pub(crate) fn or_idempotency_key(&mut self, make: impl FnOnce() -> String) {
        if self.idempotency_key.is_empty() && !self.dry_run {
            self.idempotency_key = make();
        }
    }

    /// Whether it may be sent again although it may have been executed.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.dry_run || !self.idempotency_key.is_empty()
    }

    pub(crate) fn to_request(&self) -> CheckRequest {
        CheckRequest {
            namespace: self.namespace.clone(),
            attributes: self.entries(|key, value| check_request::AttributesEntry { key, value }),
            cost: self.cost,
            dry_run: self.dry_run,
            idempotency_key: self.idempotency_key.clone(),
            api_key: self.api_key.clone(),
            client_ip: self.client_ip.map(|address| address.to_string()).unwrap_or_default(),
            required_scopes: self.required_scopes.clone(),
        }
    }

    pub(crate) fn to_peek(&self) -> PeekRequest {
        PeekRequest {
            namespace: self.namespace.clone(),
            attributes: self.entries(|key, value| peek_request::AttributesEntry { key, value }),
            cost: self.cost,
        }
    }

    pub(crate) fn to_lease(&self, ttl_ms: Option<u64>) -> AcquireLeaseRequest {
        AcquireLeaseRequest {
            namespace: self.namespace.clone(),
            attributes: self.entries(|key, value| acquire_lease_request::AttributesEntry { key, value }),
            cost: self.cost,
            ttl_ms,
            idempotency_key: self.idempotency_key.clone(),
        }
    }

    /// What Peek and AcquireLease have no field for, in words; to leave it out silently would admit what the caller wanted denied.
    pub(crate) fn fields_of_check_alone(&self) -> Vec<&'static str> {
        let fields = [
            ("api_key", self.names_key()),
            ("client_ip", self.client_ip.is_some()),
            ("required_scopes", !self.required_scopes.is_empty()),
        ];
        fields.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect()
    }

    fn entries<E>(&self, entry: impl Fn(String, String) -> E) -> Vec<E> {
        self.attributes.iter().map(|(name, value)| entry(name.clone(), value.clone())).collect()
    }
}
