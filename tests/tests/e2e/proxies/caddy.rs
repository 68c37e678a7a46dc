//! Caddy asks the gateway by `forward_auth`.

use anyhow::Context;
use http::Method;
use tidegate_tests::{
    caddy::Caddy,
    echo::Echo,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};

use super::{Protected, identity, identity_of, printed, with};

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_behind_caddy_as_the_documentation_sets_it_up() -> TestResult {
    let _turn = turn::shared().await;
    let (stack, backend) = (Stack::start(&StackSettings::default()).await?, Echo::start().await?);
    let page = with(
        &printed("docs/reference/forward-auth.md", "caddyfile")?,
        &[("127.0.0.1:8000", stack.gateway.address()), ("127.0.0.1:3000", backend.address())],
    )?;
    // A name would have it fetch a certificate.
    let site = page.strip_prefix("api.example.com {").and_then(|site| site.strip_suffix('}'));
    let caddy = Caddy::start(site.context("the block of one site")?).await?;
    let protected = Protected {
        address: caddy.address(),
        call: (Method::GET, "/invoices/7?page=2", ""),
        has_problems: true,
        shows: identity,
    };
    protected.tells_the_story(&stack, identity_of).await?;
    Ok(())
}
