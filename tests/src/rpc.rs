//! A gRPC client of the rate-limit service, and what its errors say.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use tidegate_proto::ratelimit::v1::{
    CheckRequest, GetUsageRequest, LimitUsage, PeekRequest, check_request, get_usage_request, peek_request,
    rate_limit_service_client::RateLimitServiceClient,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

/// Name of the rate-limit service, as reflection and health know it.
pub const RATELIMIT: &str = "tidegate.ratelimit.v1.RateLimitService";

/// Name of the keys service, as reflection and health know it.
pub const KEYS: &str = "tidegate.keys.v1.KeysService";

/// The generated client over one channel.
pub type Client = RateLimitServiceClient<Channel>;

/// A client that connects with its first call and again after every loss.
///
/// # Errors
///
/// `address` is not `HOST:PORT`.
pub fn client(address: &str) -> anyhow::Result<Client> {
    Ok(RateLimitServiceClient::new(channel(address)?))
}

/// A channel that connects with its first call.
///
/// # Errors
///
/// `address` is not `HOST:PORT`.
pub fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    // A service that hangs fails the test instead of hanging it.
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(30)).connect_lazy())
}

/// A check in `namespace` by attributes, of cost 1.
#[must_use]
pub fn check(namespace: &str, attributes: &[(&str, &str)]) -> CheckRequest {
    let attributes = attributes
        .iter()
        .map(|(key, value)| check_request::AttributesEntry { key: (*key).into(), value: (*value).into() })
        .collect();
    CheckRequest { namespace: namespace.into(), attributes, ..CheckRequest::default() }
}

/// A check of the built-in policy of organizations.
#[must_use]
pub fn organization(name: &str) -> CheckRequest {
    check("", &[("organization", name)])
}

/// The same question for Peek.
#[must_use]
pub fn peek(check: &CheckRequest) -> PeekRequest {
    let entry = |e: &check_request::AttributesEntry| peek_request::AttributesEntry {
        key: e.key.clone(),
        value: e.value.clone(),
    };
    PeekRequest {
        namespace: check.namespace.clone(),
        attributes: check.attributes.iter().map(entry).collect(),
        cost: check.cost,
    }
}

/// Every limit that applies to the check's attributes, with its use.
///
/// # Errors
///
/// The status of the call.
pub async fn usage(client: &mut Client, check: &CheckRequest) -> Result<Vec<LimitUsage>, Status> {
    let entry = |e: &check_request::AttributesEntry| get_usage_request::AttributesEntry {
        key: e.key.clone(),
        value: e.value.clone(),
    };
    let request = GetUsageRequest {
        namespace: check.namespace.clone(),
        attributes: check.attributes.iter().map(entry).collect(),
        ..GetUsageRequest::default()
    };
    Ok(client.get_usage(request).await?.into_inner().limits)
}

/// Tokens in use by name of the limit.
///
/// # Errors
///
/// The status of the call.
pub async fn used(client: &mut Client, check: &CheckRequest) -> Result<BTreeMap<String, u64>, Status> {
    Ok(usage(client, check).await?.into_iter().map(|limit| (limit.name, limit.used)).collect())
}

/// What `grpc.health.v1` says of `service` (empty: the whole server) at `address`.
///
/// # Errors
///
/// No connection, or a service it does not know.
pub async fn health(address: &str, service: &str) -> anyhow::Result<ServingStatus> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect_timeout(Duration::from_secs(1)).connect().await?;
    let mut request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    request.set_timeout(Duration::from_secs(2));
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
}

/// The machine-readable part of an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The gRPC code.
    pub code: Code,
    /// `google.rpc.ErrorInfo.reason`; empty if there is none.
    pub reason: String,
    /// `google.rpc.ErrorInfo.domain`; empty if there is none.
    pub domain: String,
    /// Fields of `google.rpc.BadRequest`, in order.
    pub fields: Vec<String>,
    /// `google.rpc.RetryInfo.retry_delay`.
    pub retry_after: Option<Duration>,
}

/// Takes a status apart.
///
/// # Errors
///
/// Details that cannot be decoded.
pub fn explain(status: &Status) -> anyhow::Result<Explained> {
    let details = status.check_error_details().context("the details of the status do not decode")?;
    let info = details.error_info();
    Ok(Explained {
        code: status.code(),
        reason: info.map(|i| i.reason.clone()).unwrap_or_default(),
        domain: info.map(|i| i.domain.clone()).unwrap_or_default(),
        fields: details
            .bad_request()
            .map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect())
            .unwrap_or_default(),
        retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
    })
}
