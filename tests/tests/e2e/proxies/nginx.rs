//! nginx asks the gateway by `auth_request`.

use http::Method;
use tidegate_tests::{
    echo::Echo,
    nginx::Nginx,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};

use super::{Protected, identity, identity_of, printed, with};

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_behind_nginx_as_the_documentation_sets_it_up() -> TestResult {
    let _turn = turn::shared().await;
    let (stack, backend) = (Stack::start(&StackSettings::default()).await?, Echo::start().await?);
    let settings = with(
        &printed("docs/reference/forward-auth.md", "nginx")?,
        &[("127.0.0.1:8000", stack.gateway.address()), ("127.0.0.1:3000", backend.address())],
    )?;
    let nginx = Nginx::start(&settings).await?;
    let protected = Protected {
        address: nginx.address(),
        call: (Method::GET, "/invoices/7?page=2", ""),
        // It answers by pages of its own.
        has_problems: false,
        shows: identity,
    };
    protected.tells_the_story(&stack, identity_of).await?;
    Ok(())
}
