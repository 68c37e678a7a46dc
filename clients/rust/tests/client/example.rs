//! The backend of `examples/protected-backend`, as its own process.

use std::{process::Command, time::Duration};

use http::{Method, StatusCode};
use tidegate_tests::{
    eventually::eventually, http_client, ports, process::Process, test_result::TestResult, tools,
};

use crate::fixture::service;

const VALIDATE: &str = "/v1/validate";
const BODY: &str = r#"{"email":"ada@example.com"}"#;

async fn backend(url: &str) -> anyhow::Result<(Process, String)> {
    let listen = format!("127.0.0.1:{}", ports::free()?);
    let mut command = Command::new(tools::binary("protected-backend")?);
    let process =
        Process::spawn("protected-backend", command.env("LISTEN", &listen).env("TIDEGATE_URL", url))?;
    let serves = async || {
        Ok(http_client::get(&listen, "/health").await.is_ok_and(|answer| answer.status == StatusCode::OK))
    };
    eventually("the backend serves", Duration::from_secs(30), serves).await?;
    Ok((process, listen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_lets_nobody_in_without_a_key() -> TestResult {
    let service = service().await?;
    let (_process, address) = backend(&format!("http://{}", service.address())).await?;
    let headers = [("content-type", "application/json")];
    let answer = http_client::request(&address, Method::POST, VALIDATE, &headers, BODY).await?;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    assert_eq!(answer.json()["error"], "unauthenticated");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_says_so_if_nobody_can_be_asked() -> TestResult {
    let (_process, address) = backend("http://127.0.0.1:1").await?;
    let headers = [("content-type", "application/json"), ("x-api-key", "a-key-of-old")];
    let answer = http_client::request(&address, Method::POST, VALIDATE, &headers, BODY).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "1");
    Ok(())
}
