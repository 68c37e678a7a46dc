//! Envoy asks the rate-limit service by its filter `ext_authz`.

use http::Method;
use tidegate_tests::{
    echo::Echo,
    envoy::Envoy,
    ports,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};

use super::{Protected, identity, identity_of, printed, with};

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_behind_envoy_as_the_documentation_sets_it_up() -> TestResult {
    let _turn = turn::shared().await;
    let (stack, backend) = (Stack::start(&StackSettings::default()).await?, Echo::start().await?);
    let (port, token) = (ports::free()?, stack.backend().await?.token().to_owned());
    let port_of = |address: &str| format!("port_value: {}", address.rsplit(':').next().unwrap_or_default());
    let settings = with(
        &printed("docs/reference/ext-authz.md", "yaml")?,
        &[
            ("port_value: 10000", &format!("port_value: {port}")),
            ("port_value: 8081", &port_of(stack.ratelimit[0].address())),
            ("port_value: 3000", &port_of(backend.address())),
            ("SERVICE_TOKEN", &token),
            // A debug build on a busy machine may take longer.
            ("timeout: 0.25s", "timeout: 5s"),
        ],
    )?;
    let envoy = Envoy::configured(&settings, port).await?;
    let protected = Protected {
        address: envoy.address(),
        call: (Method::GET, "/invoices/7?page=2", ""),
        has_problems: true,
        shows: identity,
    };
    protected.tells_the_story(&stack, identity_of).await?;
    Ok(())
}
