//! What this client shows with its calls, as a server sees it that refuses them all.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tidegate_client::{Check, Client, Reason};
use tidegate_proto::ERROR_DOMAIN;
use tidegate_tests::{eventually::eventually, test_result::TestResult};
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fixture::{AMPLE, check};

type Seen = Arc<Mutex<Vec<HeaderMap>>>;

/// Where it is, and the headers of the calls that came.
async fn refusing() -> anyhow::Result<(String, Seen)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (url, seen) = (format!("http://{}", listener.local_addr()?), Seen::default());
    let noted = Arc::clone(&seen);
    let answer = move |request: Request<axum::body::Body>| async move {
        noted.lock().expect("nobody panics").push(request.headers().clone());
        let details = ErrorDetails::with_error_info("CREDENTIALS_INVALID", ERROR_DOMAIN, []);
        Status::with_error_details(Code::Unauthenticated, "no", details).into_http::<axum::body::Body>()
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok((url, seen))
}

fn last(seen: &Seen, name: &str) -> Vec<String> {
    let seen = seen.lock().expect("nobody panics");
    let values = seen.last().into_iter().flat_map(|headers| headers.get_all(name));
    values.map(|value| value.to_str().expect("ASCII").to_owned()).collect()
}

#[tokio::test]
async fn a_token_that_is_refused_is_an_error_and_read_again_from_its_file() -> TestResult {
    let (url, seen) = refusing().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n")?;
    let client = Client::builder(url).deadline(AMPLE).service_token_file(&file).build().await?;
    let refused = async || {
        let error = client.check(check("many", "acme")).await.expect_err("all are refused");
        assert_eq!(error.reason(), Some(&Reason::CredentialsInvalid), "no failure mode speaks: {error}");
        assert!(!error.is_outage());
    };
    refused().await;
    assert_eq!(last(&seen, "authorization"), ["Bearer first"]);
    std::fs::write(&file, "second\n")?;
    let is_second = async || {
        refused().await;
        Ok(last(&seen, "authorization") == ["Bearer second"])
    };
    eventually("the file is read again", Duration::from_secs(5), is_second).await?;
    Ok(())
}

#[tokio::test]
async fn headers_of_the_client_and_of_the_check_go_with_it() -> TestResult {
    let (url, seen) = refusing().await?;
    let (tenant, id) = (HeaderName::from_static("x-tenant"), HeaderName::from_static("x-request-id"));
    let client = Client::builder(url)
        .deadline(AMPLE)
        .service_token("a.b.c")
        .metadata(tenant, HeaderValue::from_static("t"))
        .build()
        .await?;
    let check = Check::new().metadata(id, HeaderValue::from_static("r-1"));
    assert!(client.check(check).await.is_err());
    assert_eq!(last(&seen, "authorization"), ["Bearer a.b.c"]);
    assert_eq!(last(&seen, "x-tenant"), ["t"]);
    assert_eq!(last(&seen, "x-request-id"), ["r-1"]);
    assert_eq!(last(&seen, "grpc-timeout").len(), 1);
    Ok(())
}
