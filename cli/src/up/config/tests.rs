use std::time::Duration;

use super::*;

fn load(env: &[(&str, &str)]) -> Result<UpConfig, ConfigError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    UpConfig::load(None, env)
}

fn port(addr: SocketAddr) -> u16 {
    assert!(addr.ip().is_loopback(), "{addr}");
    addr.port()
}

#[test]
fn defaults_are_the_ports_of_the_services_on_loopback() {
    let config = load(&[]).unwrap();
    let ratelimit = config.ratelimit.server;
    let keys = config.keys.server;
    let gateway = config.gateway.server;
    assert_eq!((port(ratelimit.listen), port(ratelimit.ops_listen)), (8081, 9081));
    assert_eq!((port(keys.listen), port(keys.ops_listen)), (8082, 9082));
    assert_eq!((port(gateway.listen), port(gateway.ops_listen)), (8000, 9080));
}

#[test]
fn each_service_is_set_by_its_own_variables() {
    let config = load(&[
        ("TIDEGATE_RATELIMIT_LISTEN", "127.0.0.1:1"),
        ("TIDEGATE_GATEWAY_LISTEN", "127.0.0.1:2"),
        ("TIDEGATE_RATELIMIT__SERVER__OPS_LISTEN", "127.0.0.1:3"),
        ("TIDEGATE_GATEWAY__SERVER__OPS_LISTEN", "127.0.0.1:4"),
        ("REDIS_URL", "redis://127.0.0.1:6379"),
        ("LOG_LEVEL", "warn"),
    ])
    .unwrap();
    let (ratelimit, gateway) = (&config.ratelimit, &config.gateway);
    assert_eq!((port(ratelimit.server.listen), port(ratelimit.server.ops_listen)), (1, 3));
    assert_eq!((port(gateway.server.listen), port(gateway.server.ops_listen)), (2, 4));
    assert!(ratelimit.uses_redis());
    assert_eq!(
        (ratelimit.telemetry.log_level.as_str(), gateway.telemetry.log_level.as_str()),
        ("warn", "warn")
    );
}

#[test]
fn addresses_of_services_that_are_not_here_yet_are_passed_over() {
    assert!(
        load(&[("TIDEGATE_HEALTH_LISTEN", "127.0.0.1:1"), ("TIDEGATE_AUDIT_LISTEN", "127.0.0.1:2")]).is_ok()
    );
}

#[test]
fn every_wrong_setting_is_named_with_its_table() {
    let error = load(&[
        ("TIDEGATE_GATEWAY__SERVER__WORKERS", "many"),
        ("TIDEGATE_RATELIMIT__STORE__BACKEND", "paper"),
        ("TIDEGATE_SERVER__LISTEN", "127.0.0.1:1"),
    ]);
    let error = error.unwrap_err().to_string();
    for key in ["gateway.server.workers", "ratelimit.store.backend", "server.listen: unknown key"] {
        assert!(error.contains(key), "{key} is not named in {error}");
    }
}

#[test]
fn every_taken_port_is_named_with_its_setting() {
    let mut config = load(&[]).unwrap();
    config.take_free_ports().unwrap();
    assert!(config.refuse_taken_ports().is_ok());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    config.ratelimit.server.listen = taken;
    config.gateway.server.ops_listen = taken;
    let error = config.refuse_taken_ports().unwrap_err().to_string();
    for named in [
        "ratelimit.server.listen",
        "gateway.server.ops_listen",
        "TIDEGATE_GATEWAY__SERVER__OPS_LISTEN",
        "--ephemeral",
    ] {
        assert!(error.contains(named), "{named} is not named in {error}");
    }
    assert!(!error.contains("gateway.server.listen"), "{error}");

    // One address for two settings: the second of them is at fault.
    drop(holder);
    let error = config.refuse_taken_ports().unwrap_err().to_string();
    assert!(
        !error.contains("ratelimit.server.listen") && error.contains("gateway.server.ops_listen"),
        "{error}"
    );
}

#[test]
fn service_behind_the_gateway_leaves_after_it() {
    let mut config = load(&[
        ("TIDEGATE_GATEWAY__SERVER__LAME_DUCK", "3s"),
        ("TIDEGATE_GATEWAY__UPSTREAMS__DEADLINE", "1s"),
        ("TIDEGATE_RATELIMIT__SERVER__LAME_DUCK", "2s"),
    ])
    .unwrap();
    config.outlast_the_gateway();
    assert_eq!(config.ratelimit.server.lame_duck.get(), Duration::from_secs(4));
    config.ratelimit.server.lame_duck = Duration::from_secs(9).into();
    config.outlast_the_gateway();
    assert_eq!(config.ratelimit.server.lame_duck.get(), Duration::from_secs(9));
}

#[test]
fn services_of_this_process_call_each_other() {
    let mut config = load(&[
        ("TIDEGATE_GATEWAY__UPSTREAMS__RATELIMIT", "http://elsewhere:1"),
        ("TIDEGATE_RATELIMIT_LISTEN", "0.0.0.0:8081"),
    ])
    .unwrap();
    config.introduce().unwrap();
    let urls = |upstreams: Vec<tidegate_gateway::UpstreamUrl>| -> Vec<String> {
        upstreams.into_iter().map(String::from).collect()
    };
    let upstreams = config.gateway.upstreams;
    assert_eq!(urls(upstreams.ratelimit), ["http://127.0.0.1:8081/"]);
    assert_eq!(urls(upstreams.keys), ["http://127.0.0.1:8082/"]);
    assert_eq!(config.keys.ratelimit.urls, ["http://127.0.0.1:8081"]);
    assert_eq!(config.ratelimit.keys.url, "http://127.0.0.1:8082");
}

#[test]
fn secrets_that_are_configured_stay() {
    let configured = "c".repeat(64);
    let mut config = load(&[("TIDEGATE_KEYS__IDENTITY__SECRET", &configured)]).unwrap();
    let secrets = Secrets::new().unwrap();
    config.take_secrets(&secrets);
    assert_eq!(config.keys.identity.secret.expose(), configured);
    assert_eq!(config.keys.secrets.peppers["1"].expose(), secrets.pepper);
    assert_eq!(config.gateway.auth.internal_secret, config.ratelimit.auth.internal_secret);
    assert!(config.has_own_operator());
}

#[test]
fn what_is_set_over_the_api_is_kept_in_a_file_in_memory_or_where_it_was_said() {
    let url = |env: &[(&str, &str)], folder: Option<&str>| {
        let mut config = load(env).unwrap();
        config.keep_in(folder.map(Path::new));
        config.ratelimit.database.url.expose().to_owned()
    };
    assert_eq!(url(&[], Some("a b/100%?")), "sqlite://a b/100%25%3F/tidegate.db");
    assert_eq!(url(&[], None), "sqlite::memory:");
    let set = [("DATABASE_URL", "postgres://db/x")];
    assert_eq!(url(&set, Some("x")), "postgres://db/x");
    assert_eq!(url(&set, None), "postgres://db/x");
}
