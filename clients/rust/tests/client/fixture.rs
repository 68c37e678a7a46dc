//! Services under test and what is asked of them.

use std::{collections::BTreeMap, time::Duration};

use tidegate_client::{Builder, Check, Client};
use tidegate_tests::{
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
};

/// More than a debug build on a busy machine needs.
pub(crate) const AMPLE: Duration = Duration::from_secs(10);

const POLICIES: &str = r#"
[[policies]]
name = "few"
namespace = "few"
key_by = ["organization"]
limits = [{ name = "hour", limit = 3, period = "1h" }]

[[policies]]
name = "many"
namespace = "many"
key_by = ["organization"]
limits = [{ name = "hour", limit = 1000000, period = "1h" }]

[[policies]]
name = "jobs"
namespace = "jobs"
key_by = ["organization"]
limits = [{ name = "running", algorithm = "concurrency", limit = 1, lease = "1m" }]
"#;

/// A service with three policies, of the namespaces "few" (3 an hour), "many" and "jobs" (one at a time).
pub(crate) async fn service() -> anyhow::Result<Service> {
    let settings = RateLimitSettings { policies: Some(POLICIES.to_owned()), ..RateLimitSettings::default() };
    Service::ratelimit(&settings).await
}

/// The same, counting in a Redis that replicas share.
pub(crate) async fn service_on(redis: &RedisServer) -> anyhow::Result<Service> {
    let settings = RateLimitSettings {
        redis_url: Some(redis.url()),
        policies: Some(POLICIES.to_owned()),
        toml: "[store.redis]\ndeadline = \"5s\"".to_owned(),
    };
    Service::ratelimit(&settings).await
}

/// A client of a service at `HOST:PORT` that can wait.
pub(crate) fn patient(address: &str) -> Builder {
    Client::builder(format!("http://{address}")).deadline(AMPLE)
}

pub(crate) fn check(namespace: &str, organization: &str) -> Check {
    Check::new().namespace(namespace).attribute("organization", organization)
}

/// Tokens that the service itself says are in use of the only limit of a namespace.
pub(crate) async fn used(service: &Service, namespace: &str, organization: &str) -> anyhow::Result<u64> {
    let check = rpc::check(namespace, &[("organization", organization)]);
    let used: BTreeMap<_, _> = rpc::used(&mut rpc::client(service.address())?, &check).await?;
    Ok(used.into_values().sum())
}

pub(crate) fn port(service: &Service) -> u16 {
    service.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("HOST:PORT")
}
