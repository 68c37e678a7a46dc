//! What a newcomer reads first.

use owo_colors::OwoColorize;

use super::Ready;

/// Says where everything is, and gives lines that work as printed. `program` is how this one was called.
pub(super) fn text(ready: &Ready, uses_redis: bool, program: &str) -> String {
    let Ready { gateway, grpc, ops } = ready;
    let ratelimit = grpc.ratelimit.to_string();
    let title = |text: &'static str| text.bold().to_string();
    format!(
        r#"
{name} {version} is up; Ctrl-C leaves.

  {services}
  gateway     REST {gateway:<22}  metrics http://{ops_gateway}/metrics
  ratelimit   gRPC {ratelimit:<22}  metrics http://{ops_ratelimit}/metrics
  counters    {counters}

  {check}
  curl -s -X POST {gateway}/v1/check -H 'Content-Type: application/json' -d '{{"attributes":{{"organization":"acme"}}}}'

  {limit}
  curl -s -o /dev/null -D - -X POST '{gateway}/v1/check?enforce=true#[1-12]' -H 'Content-Type: application/json' -d '{{"attributes":{{"organization":"globex"}}}}' | grep -iE '^(HTTP|X-RateLimit|Retry-After)'

  {health}
  curl -s {gateway}/health/ready

  {rpc}
  {program} check --addr {ratelimit} --attribute organization=acme
"#,
        name = "Tidegate".bold().cyan(),
        version = env!("CARGO_PKG_VERSION"),
        counters = if uses_redis { "in Redis" } else { "in memory: they are gone when this process is" },
        services = title("What runs where"),
        check = title("Check one organization"),
        limit = title("Check one twelve times, on the plan FREE: ten times 200, then 429"),
        health = title("Ask whether all is well"),
        rpc = title("Check over gRPC"),
        ops_gateway = ops.gateway,
        ops_ratelimit = ops.ratelimit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::ready::{Grpc, Ops};

    #[test]
    fn three_curl_lines_name_the_gateway_where_it_is() {
        let addr = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let ready = Ready {
            gateway: "http://127.0.0.1:4242".to_owned(),
            grpc: Grpc { ratelimit: addr(2) },
            ops: Ops { gateway: addr(3), ratelimit: addr(4) },
        };
        let text = text(&ready, false, "target/release/tidegate");
        let lines: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("curl ")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.contains("http://127.0.0.1:4242/")), "{text}");
        assert!(text.contains("in memory"), "{text}");
    }
}
