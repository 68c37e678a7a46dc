//! `examples/protected-backend` asks by the layer of the Rust client.

use std::{process::Command, time::Duration};

use anyhow::{Context, bail};
use http::Method;
use serde_json::json;
use tidegate_tests::{
    eventually::eventually,
    http_client, ports,
    process::Process,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    tools, turn,
};

use super::Protected;

const UP_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_by_the_example_of_a_protected_backend() -> TestResult {
    // It waits a quarter of a second for a decision.
    let _turn = turn::alone().await;
    let stack = Stack::start(&StackSettings::default()).await?;
    let address = format!("127.0.0.1:{}", ports::free()?);
    let mut command = Command::new(tools::binary("protected-backend")?);
    command.env("LISTEN", &address);
    command.env("TIDEGATE_URL", format!("http://{}", stack.ratelimit[0].address()));
    command.env("TIDEGATE_SERVICE_TOKEN", stack.backend().await?.token());
    let mut process = Process::spawn("protected-backend", &mut command)?;
    let up = eventually("the example", UP_WITHIN, async || {
        if let Some(status) = process.ended()? {
            bail!("ended with {status} before it served");
        }
        Ok(http_client::get(&address, "/health").await.is_ok())
    });
    up.await.with_context(|| process.tail())?;
    let protected = Protected {
        address: &address,
        call: (Method::POST, "/v1/validate", r#"{"email":"ada@example.com"}"#),
        has_problems: true,
        shows: |answer| json!([answer["valid"], answer["asked_by"], answer["plan"]]),
    };
    protected.tells_the_story(&stack, |_, _, plan| json!([true, "Analytical Engines", plan])).await?;
    Ok(())
}
