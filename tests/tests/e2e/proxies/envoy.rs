//! Envoy asks by its filter `ext_authz`: the rate-limit service over gRPC, or the gateway over HTTP.

use http::Method;
use serde_json::json;
use tidegate_tests::{
    echo::Echo,
    envoy::Envoy,
    http_client, ports,
    rest::text,
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

/// Around the filters that the documentation prints, with what it says to be needed there.
const AROUND: &str = r#"
static_resources:
  listeners:
    - name: edge
      address: { socket_address: { address: 127.0.0.1, port_value: EDGE } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: edge
                use_remote_address: true
                normalize_path: true
                merge_slashes: true
                common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }
                route_config:
                  request_headers_to_remove: [x-api-key]
                  virtual_hosts:
                    - name: api
                      domains: ["*"]
                      routes: [{ match: { prefix: / }, route: { cluster: backend } }]
                http_filters:
FILTERS
  clusters:
    - name: tidegate
      type: STATIC
      load_assignment:
        cluster_name: tidegate
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: GATEWAY } } } }] }]
    - name: backend
      type: STATIC
      load_assignment:
        cluster_name: backend
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: BACKEND } } } }] }]
"#;

/// A policy by which each path below one is read once an hour, by what Envoy says of the request.
const CLOSED: &str = r#"
[[policies]]
name = "closed"
namespace = "default"
match = { method = "GET", path = "/closed/*" }
key_by = ["path"]
limits = [{ name = "hour", limit = 1, period = "1h" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_behind_envoy_that_asks_the_gateway_as_the_documentation_sets_it_up() -> TestResult {
    let _turn = turn::shared().await;
    let (stack, backend) = (Stack::start(&StackSettings::default()).await?, Echo::start().await?);
    let envoy = asking_the_gateway(&stack, &backend).await?;
    let protected = Protected {
        address: envoy.address(),
        call: (Method::GET, "/invoices/7?page=2&cost=0&namespace=other", ""),
        has_problems: true,
        shows: identity,
    };
    protected.tells_the_story(&stack, identity_of).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_see_method_and_path_of_what_envoy_asks_the_gateway_about() -> TestResult {
    let _turn = turn::shared().await;
    let settings = StackSettings { policies: CLOSED.to_owned(), ..StackSettings::default() };
    let (stack, backend) = (Stack::start(&settings).await?, Echo::start().await?);
    let envoy = asking_the_gateway(&stack, &backend).await?;
    let (owner, _) = stack.tenant("ada@example.com", "Analytical Engines").await?;
    let key =
        owner.post("/v1/auth/api-keys", &json!({"name": "one", "scopes": ["invoices:read"]}), 201).await?;
    let key = text(&key, "/key_value")?;
    let mut seen = Vec::new();
    for (method, path) in [
        (Method::GET, "/closed/a?b"),
        (Method::GET, "/closed/a?c"),
        (Method::DELETE, "/closed/a"),
        (Method::GET, "/closed/b"),
        (Method::GET, "/"),
    ] {
        let headers = [("x-api-key", &*key)];
        seen.push(http_client::request(envoy.address(), method, path, &headers, "").await?.status.as_u16());
    }
    assert_eq!(seen, [200, 429, 200, 200, 200]);
    stack.assert_no_panic().await?;
    Ok(())
}

async fn asking_the_gateway(stack: &Stack, backend: &Echo) -> anyhow::Result<Envoy> {
    let port = ports::free()?;
    let address = stack.gateway.address();
    let filters = with(
        &printed("docs/reference/forward-auth.md", "yaml")?,
        &[
            ("127.0.0.1:8000", address),
            // A debug build on a busy machine may take longer.
            ("timeout: 1s", "timeout: 5s"),
        ],
    )?;
    let filters: String = filters.lines().map(|line| format!("                  {line}\n")).collect();
    let port_of = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let settings = with(
        AROUND,
        &[
            ("EDGE", &port.to_string()),
            ("FILTERS", &filters),
            ("GATEWAY", &port_of(address)),
            ("BACKEND", &port_of(backend.address())),
        ],
    )?;
    Envoy::configured(&settings, port).await
}
