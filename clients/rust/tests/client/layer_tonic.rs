//! The layer before a tonic backend.

use std::time::Duration;

use tidegate_client::{Client, layer::ProtectLayer};
use tidegate_tests::test_result::TestResult;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status,
    transport::{Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::fixture::{AMPLE, patient, service};

/// A backend, which is a health service, behind the layer; where it is.
async fn backend(layer: ProtectLayer) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok(url)
}

async fn call(url: &str, key: Option<&'static str>) -> Result<tonic::metadata::MetadataMap, Status> {
    let channel = Endpoint::from_shared(url.to_owned()).expect("a URL").connect_lazy();
    let mut client = HealthClient::new(channel);
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(AMPLE);
    if let Some(key) = key {
        request.metadata_mut().insert("x-api-key", key.parse().expect("ASCII"));
    }
    client.check(request).await.map(|response| response.metadata().clone())
}

#[tokio::test]
async fn limits_and_denials_are_metadata_and_statuses() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let layer = ProtectLayer::new(client)
        .anonymous()
        .check(|request, check| check.namespace("few").attribute("organization", request.uri.path()));
    let url = backend(layer).await?;
    for remaining in ["2", "1", "0"] {
        let metadata = call(&url, None).await?;
        assert_eq!(metadata.get("x-ratelimit-remaining").expect("a limit applies"), remaining);
    }
    let status = call(&url, None).await.expect_err("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("RATE_LIMITED"));
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| delay > Duration::from_secs(60)), "{delay:?}");
    Ok(())
}

#[tokio::test]
async fn who_shows_no_key_is_unauthenticated_and_who_cannot_be_checked_is_told_to_wait() -> TestResult {
    let client = Client::builder("http://127.0.0.1:1").deadline(AMPLE).build().await?;
    let url = backend(ProtectLayer::new(client)).await?;
    assert_eq!(call(&url, None).await.expect_err("no key").code(), Code::Unauthenticated);
    let status = call(&url, Some("a-key-of-old")).await.expect_err("nobody can tell");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_error_details().retry_info().is_some());
    Ok(())
}
