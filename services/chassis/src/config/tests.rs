use std::{io::Write, time::Duration};

use rstest::rstest;

use super::*;

const DEFAULTS: &str = r#"
environment = "development"

[server]
workers = 0
listen = "127.0.0.1:8081"
enabled = true
origins = []
ratio = 0.5

[store]
url = ""
token = ""
deadline = "10ms"

[routes]
"#;

#[derive(Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[garde(skip)]
    environment: Environment,
    #[garde(dive)]
    server: Server,
    #[garde(skip)]
    store: Store,
    #[garde(skip)]
    routes: std::collections::BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
struct Server {
    #[garde(range(max = 64))]
    workers: u32,
    #[garde(skip)]
    listen: std::net::SocketAddr,
    #[garde(skip)]
    enabled: bool,
    #[garde(length(max = 2))]
    origins: Vec<String>,
    #[garde(skip)]
    ratio: f64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Store {
    #[serde(deserialize_with = "not_empty")]
    url: Option<String>,
    token: Secret,
    deadline: HumanDuration,
}

fn source<'a>(env: &[(&str, &str)]) -> Source<'a> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Source {
        defaults: DEFAULTS,
        env,
        aliases: &[("LISTEN", "server.listen"), ("TIDEGATE_RATELIMIT_LISTEN", "server.listen")],
        ignored: &["TIDEGATE_GATEWAY_LISTEN"],
        ..Source::default()
    }
}

fn load_with(file: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut on_disk = tempfile::NamedTempFile::new().expect("temp file");
    on_disk.write_all(file.as_bytes()).expect("write");
    load(&Source { file: Some(on_disk.path()), ..source(env) })
}

fn faults(result: Result<Settings, ConfigError>) -> Vec<Fault> {
    match result {
        Err(ConfigError::Refused(faults)) => faults,
        other => panic!("expected faults, got {other:?}"),
    }
}

#[test]
fn environment_wins_over_file_and_file_over_defaults() {
    let file = "[server]\nworkers = 2\nratio = 0.25\n[routes]\n\"GET /a\" = 5\n";
    let settings =
        load_with(file, &[("TIDEGATE_SERVER__WORKERS", "3"), ("TIDEGATE_ROUTES__B", "6")]).expect("valid");
    assert_eq!((settings.server.workers, settings.server.ratio), (3, 0.25));
    assert_eq!(settings.store.deadline.get(), Duration::from_millis(10));
    assert_eq!(
        settings.routes.into_iter().collect::<Vec<_>>(),
        [("GET /a".to_owned(), 5), ("b".to_owned(), 6)]
    );
    assert_eq!(settings.store.url, None);
}

#[test]
fn every_fault_is_listed_with_its_key_and_origin() {
    let file = "colour = 1\n[server]\nworkers = \"many\"\nlisen = \"x\"\n[store]\ndeadline = \"soon\"\n";
    let env = [
        ("TIDEGATE_SERVER__ENABLED", "maybe"),
        ("TIDEGATE_SERVER__LISTEN", "nowhere"),
        ("TIDEGATE_NOPE__X", "1"),
        ("TIDEGATE_SERVER", "1"),
    ];
    let faults = faults(load_with(file, &env));
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "colour",
            "nope.x",
            "server",
            "server.enabled",
            "server.lisen",
            "server.listen",
            "server.workers",
            "store.deadline"
        ]
    );
    for fault in &faults {
        let origin = fault.origin.as_deref().expect("origin");
        let from_env = fault.key != "colour"
            && !["server.lisen", "server.workers", "store.deadline"].contains(&fault.key.as_str());
        assert_eq!(origin.contains("environment variable TIDEGATE_"), from_env, "{fault}");
    }
    let text = ConfigError::Refused(faults).to_string();
    assert!(text.contains("store.deadline: \"soon\" is not a duration"), "{text}");
}

#[test]
fn rules_name_the_key_and_the_origin_too() {
    let faults =
        faults(load_with("", &[("TIDEGATE_SERVER__WORKERS", "65"), ("TIDEGATE_SERVER__ORIGINS", "a,b,c")]));
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(
        shown
            .iter()
            .any(|fault| fault.starts_with("server.workers: ") && fault.contains("TIDEGATE_SERVER__WORKERS"))
    );
}

#[test]
fn alias_sets_its_key_and_the_full_name_wins_over_it() {
    let by_alias = load::<Settings>(&source(&[("TIDEGATE_RATELIMIT_LISTEN", "127.0.0.1:1")])).expect("valid");
    assert_eq!(by_alias.server.listen.port(), 1);
    let both = [("LISTEN", "127.0.0.1:1"), ("TIDEGATE_SERVER__LISTEN", "127.0.0.1:2")];
    assert_eq!(load::<Settings>(&source(&both)).expect("valid").server.listen.port(), 2);
}

#[test]
fn names_of_other_binaries_are_passed_over() {
    let env = [("TIDEGATE_GATEWAY_LISTEN", "x"), ("TIDEGATE_CONFIG", "x"), ("PATH", "/bin")];
    load::<Settings>(&source(&env)).expect("valid");
    assert_eq!(faults(load(&source(&[("TIDEGATE_KEYS_LISTEN", "x")])))[0].key, "keys_listen");
}

#[test]
fn service_links_of_kubernetes_are_passed_over() {
    let links = [
        "TIDEGATE_RATELIMIT_SERVICE_HOST",
        "TIDEGATE_RATELIMIT_SERVICE_PORT",
        "TIDEGATE_RATELIMIT_SERVICE_PORT_GRPC",
        "TIDEGATE_RATELIMIT_PORT",
        "TIDEGATE_RATELIMIT_PORT_8081_TCP",
        "TIDEGATE_RATELIMIT_PORT_8081_TCP_ADDR",
    ];
    load::<Settings>(&source(&links.map(|name| (name, "10.0.0.1")))).expect("valid");
    for name in ["TIDEGATE_SERVER__PORT", "TIDEGATE_PORTS", "TIDEGATE_SERVICE_HOSTS"] {
        assert_eq!(faults(load(&source(&[(name, "1")]))).len(), 1, "{name} is a mistake");
    }
}

#[rstest]
#[case("on", true)]
#[case("No", false)]
#[case("1", true)]
fn booleans_of_the_environment_are_read_as_people_write_them(#[case] text: &str, #[case] expected: bool) {
    let settings: Settings = load(&source(&[("TIDEGATE_SERVER__ENABLED", text)])).expect("valid");
    assert_eq!(settings.server.enabled, expected);
}

#[rstest]
#[case("a, b")]
#[case("[\"a\", \"b\"]")]
fn lists_of_the_environment_are_toml_or_comma_separated(#[case] text: &str) {
    let settings: Settings = load(&source(&[("TIDEGATE_SERVER__ORIGINS", text)])).expect("valid");
    assert_eq!(settings.server.origins, ["a", "b"]);
}

#[test]
fn nothing_secret_is_printed() {
    let env =
        [("TIDEGATE_STORE__URL", "redis://me:hunter2@host:6379/0"), ("TIDEGATE_STORE__TOKEN", "hunter3")];
    let settings: Settings = load(&source(&env)).expect("valid");
    let shown = format!("{}{:?}", print_redacted(&settings), settings.store.token);
    assert!(shown.contains("redis://me:***@host:6379/0") && shown.contains("<redacted>"), "{shown}");
    assert!(!shown.contains("hunter3"), "{shown}");
    assert_eq!(settings.store.token.expose(), "hunter3");
    assert!(!print_redacted(&settings).contains("hunter2"));
}

#[rstest]
#[case("redis://:secret@h", "redis://:***@h")]
#[case("redis://user@h/0", "redis://user@h/0")]
#[case("postgres://u:p@ss/w?rd@h/db", "postgres://u:***@h/db")]
#[case("http://h:80/a@b", "http://h:***@b")]
#[case("no url: a@b", "no url: a@b")]
fn passwords_leave_urls(#[case] url: &str, #[case] expected: &str) {
    let mut value = toml::Value::from(url);
    redact(&mut value);
    assert_eq!(value.as_str(), Some(expected));
}

#[test]
fn file_that_is_missing_or_not_toml_is_named() {
    let missing = load::<Settings>(&Source { file: Some(Path::new("/nonexistent.toml")), ..source(&[]) });
    assert!(missing.expect_err("refused").to_string().contains("/nonexistent.toml"));
    assert!(matches!(load_with("[server", &[]), Err(ConfigError::Syntax { .. })));
}

#[rstest]
#[case::quote_missing("[store]\nurl = \"redis://u:hunter2@h", "line 2, column")]
#[case::no_quotes("[store]\nurl = hunter2", "line 2, column 7")]
#[case::unknown_escape("[store]\n\nurl = \"\\hunter2\"", "line 3, column")]
#[case::text_after_the_value("[store]\nurl = \"\" hunter2", "line 2, column")]
#[case::key_without_value("hunter2", "line 1, column")]
#[case::set_twice("[store]\nurl = \"hunter2\"\nurl = \"hunter2\"", "line 3, column 1")]
fn syntax_error_tells_the_place_and_not_what_stands_there(#[case] text: &str, #[case] place: &str) {
    let error = load_with(text, &[]).expect_err("refused").to_string();
    assert!(error.contains(place), "{error}");
    assert!(!error.contains("hunter"), "{error}");
}

#[test]
fn secret_of_another_type_is_refused_without_showing_it() {
    let error = load_with("[store]\ntoken = 4711", &[]).expect_err("refused").to_string();
    assert!(error.contains("store.token: must be a string"), "{error}");
    assert!(!error.contains("4711"), "{error}");
}

#[test]
fn defaults_of_several_services_nest() {
    let nested = nested_defaults(&[("a", "x = 1\n[t]\ny = \"z\""), ("b", "x = 2")]).expect("TOML");
    let table: toml::Table = nested.parse().expect("TOML");
    assert_eq!(table["a"]["t"]["y"].as_str(), Some("z"));
    assert_eq!(table["b"]["x"].as_integer(), Some(2));
}

#[rstest]
#[case("10ms", Duration::from_millis(10))]
#[case("24h", Duration::from_secs(86_400))]
#[case("1d", Duration::from_secs(86_400))]
#[case("0", Duration::ZERO)]
#[case("7us", Duration::from_micros(7))]
fn durations_read_as_people_write_them(#[case] text: &str, #[case] expected: Duration) {
    let duration: HumanDuration = text.parse().expect("duration");
    assert_eq!(duration.get(), expected);
    assert_eq!(duration.to_string().parse(), Ok(duration));
}

#[rstest]
fn other_durations_are_refused(
    #[values("", "5", "s", "-1s", "1.5s", "1 s", "99999999999999999999d", "1w")] text: &str,
) {
    assert!(text.parse::<HumanDuration>().is_err());
}

#[test]
fn production_refuses_only_in_production() {
    let mut faults = Vec::new();
    Environment::Development.refuse_in_production("store.backend", true, "counters in memory", &mut faults);
    Environment::Production.refuse_in_production("store.backend", false, "counters in memory", &mut faults);
    assert!(faults.is_empty());
    Environment::Production.refuse_in_production("store.backend", true, "counters in memory", &mut faults);
    assert_eq!(faults[0].to_string(), "store.backend: ENVIRONMENT=production refuses counters in memory");
}
