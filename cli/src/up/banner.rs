//! What a newcomer reads first.

use owo_colors::OwoColorize;

use super::{Demo, Ready};

/// Says where everything is, and gives lines that work as printed. `program` is how this one was called.
pub(super) fn text(ready: &Ready, uses_redis: bool, program: &str) -> String {
    let Ready { gateway, grpc, ops, demo } = ready;
    let (ratelimit, keys) = (grpc.ratelimit.to_string(), grpc.keys.to_string());
    let title = |text: &'static str| text.bold().to_string();
    let lines = match demo {
        Some(demo) => first(demo, gateway, program, &ratelimit, &keys),
        None => later(gateway, program, &keys),
    };
    format!(
        r#"
{name} {version} is up; Ctrl-C leaves.

  {services}
  gateway     REST {gateway:<22}  metrics http://{ops_gateway}/metrics
  ratelimit   gRPC {ratelimit:<22}  metrics http://{ops_ratelimit}/metrics
  keys        gRPC {keys:<22}  metrics http://{ops_keys}/metrics
  counters    {counters}
{lines}"#,
        name = "Tidegate".bold().cyan(),
        version = env!("CARGO_PKG_VERSION"),
        counters = if uses_redis { "in Redis" } else { "in memory: they are gone when this process is" },
        services = title("What runs where"),
        ops_gateway = ops.gateway,
        ops_ratelimit = ops.ratelimit,
        ops_keys = ops.keys,
    )
}

/// Of the first start: everything there is to try things out with, shown once.
fn first(demo: &Demo, gateway: &str, program: &str, ratelimit: &str, keys: &str) -> String {
    let title = |text: &'static str| text.bold().to_string();
    let Demo { operator_email, operator_password, organization_id, api_key, service_token } = demo;
    format!(
        r#"
  {once}
  operator      {operator_email} with the password {operator_password}
  organization  Demo ({organization_id}), on the plan FREE

  export API_KEY={api_key}
  export SERVICE_TOKEN={service_token}

  {check}
  curl -s -X POST {gateway}/v1/check -H "Authorization: Bearer $SERVICE_TOKEN" -H 'Content-Type: application/json' -d '{{"api_key":"'$API_KEY'"}}'

  {limit}
  curl -s -o /dev/null -D - -X POST '{gateway}/v1/check?enforce=true#[1-12]' -H "Authorization: Bearer $SERVICE_TOKEN" -H 'Content-Type: application/json' -d '{{"attributes":{{"organization":"globex"}}}}' | grep -iE '^(HTTP|X-RateLimit|Retry-After)'

  {health}
  curl -s {gateway}/health/ready

  {rpc}
  echo $API_KEY | {program} check --addr {ratelimit} --api-key-stdin

  {operate}
  echo {operator_password} | {program} login --addr {keys} --email {operator_email}
"#,
        once = title("To try things out, shown this once"),
        check = title("Check a caller by its API key, as a backend does"),
        limit = title("Check one organization twelve times, on the plan FREE: ten times 200, then 429"),
        health = title("Ask whether all is well"),
        rpc = title("Check over gRPC"),
        operate = title("Log in as the operator; then `tidegate orgs list`, `tidegate keys --help`"),
    )
}

/// Of every other start: what was shown once is not known any more.
fn later(gateway: &str, program: &str, keys: &str) -> String {
    let title = |text: &'static str| text.bold().to_string();
    format!(
        r"
  {health}
  curl -s {gateway}/health/ready

  {operate}
  {program} login --addr {keys} --email EMAIL
",
        health = title("Ask whether all is well"),
        operate = title("Log in"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::ready::{Grpc, Ops};

    fn ready(demo: Option<Demo>) -> Ready {
        let addr = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        Ready {
            gateway: "http://127.0.0.1:4242".to_owned(),
            grpc: Grpc { ratelimit: addr(2), keys: addr(5) },
            ops: Ops { gateway: addr(3), ratelimit: addr(4), keys: addr(6) },
            demo,
        }
    }

    fn demo() -> Demo {
        Demo {
            operator_email: "operator@localhost".to_owned(),
            operator_password: "secret-word".to_owned(),
            organization_id: "0192".to_owned(),
            api_key: "tk_live_x".to_owned(),
            service_token: "eyJ".to_owned(),
        }
    }

    #[test]
    fn three_curl_lines_name_the_gateway_where_it_is() {
        let text = text(&ready(Some(demo())), false, "target/release/tidegate");
        let lines: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("curl ")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.contains("http://127.0.0.1:4242/")), "{text}");
        assert!(text.contains("in memory") && text.contains("secret-word"), "{text}");
    }

    #[test]
    fn a_later_start_has_no_secrets_to_show() {
        let text = text(&ready(None), true, "tidegate");
        assert!(text.contains("in Redis") && text.contains("tidegate login"), "{text}");
        assert!(!text.contains("export "), "{text}");
    }
}
