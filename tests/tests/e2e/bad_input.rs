//! Malformed calls: each is refused with a clear error that names the fields, nothing panics, and no
//! counter has changed afterwards.

mod grpc;
mod rest;
mod wire;

use std::collections::BTreeMap;

use tidegate_tests::{
    rpc,
    services::{RateLimitSettings, Service},
};

/// The organization that every malformed call names where it can.
const VICTIM: &str = "victim";

async fn ratelimit() -> anyhow::Result<Service> {
    let service = Service::ratelimit(&RateLimitSettings::default()).await?;
    let mut client = rpc::client(service.address())?;
    for _ in 0..3 {
        client.check(rpc::organization(VICTIM)).await?;
    }
    Ok(service)
}

async fn used(service: &Service) -> anyhow::Result<BTreeMap<String, u64>> {
    Ok(rpc::used(&mut rpc::client(service.address())?, &rpc::organization(VICTIM)).await?)
}

/// Nothing was charged, and nothing panicked.
async fn unharmed(service: &Service) -> anyhow::Result<()> {
    let used = used(service).await?;
    assert_eq!(used.len(), 3, "{used:?}");
    assert!(used.values().all(|used| *used == 3), "a refused call was charged: {used:?}");
    service.assert_no_panic().await
}
