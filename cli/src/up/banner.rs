//! What a newcomer reads first.

use owo_colors::OwoColorize;

use super::Ready;

/// Prints where everything is, and lines that work as printed.
pub(super) fn print(ready: &Ready) {
    anstream::println!("{}", text(ready));
}

fn text(ready: &Ready) -> String {
    let Ready { gateway, grpc, ops } = ready;
    let ratelimit = grpc.ratelimit;
    let title = |text: &'static str| text.bold().to_string();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"
{name} {version} is up. Counters are kept as [ratelimit.store] says; Ctrl-C leaves.

  {services}
  REST gateway        {gateway}
  RateLimit (gRPC)    {ratelimit}
  metrics, probes     http://{ops_gateway}/metrics  http://{ops_ratelimit}/metrics  (also /live, /ready)

  {check}
  curl -s -X POST {gateway}/v1/check -H 'Content-Type: application/json' -d '{{"attributes":{{"organization":"acme"}}}}'

  {limit}
  for i in $(seq 12); do curl -s -o /dev/null -D - -X POST '{gateway}/v1/check?enforce=true' -H 'Content-Type: application/json' -d '{{"attributes":{{"organization":"globex"}}}}' | grep -iE '^(HTTP|x-ratelimit|ratelimit|retry-after)'; done

  {health}
  curl -s {gateway}/health/ready

  {rpc}
  grpcurl -plaintext -d '{{"attributes":{{"organization":"acme"}}}}' {ratelimit} tidegate.ratelimit.v1.RateLimitService/Check
"#,
        name = "Tidegate".bold().cyan(),
        services = title("Services"),
        check = title("Check one organization"),
        limit = title("Reach the limit of the plan FREE: ten answers 200, then two 429"),
        health = title("Health"),
        rpc = title("The same check over gRPC"),
        ops_gateway = ops.gateway,
        ops_ratelimit = ops.ratelimit,
    )
}
