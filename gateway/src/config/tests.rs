use rstest::rstest;
use tidegate_chassis::config::{self, Source};

use super::*;

fn load(env: &[(&str, &str)]) -> Result<Config, String> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Source { defaults: CONFIG_DEFAULTS, env, aliases: ENV_ALIASES, ..Source::default() };
    config::load(&source).map_err(|error| error.to_string())
}

/// Dotted keys of every value.
fn keys(table: &toml::Table, at: &str, found: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{at}{name}");
        match value {
            toml::Value::Table(inner) => keys(inner, &format!("{key}."), found),
            _ => found.push(key),
        }
    }
}

#[test]
fn every_key_of_the_manual_is_explained() {
    let mut explained = false;
    for line in CONFIG_DEFAULTS.lines() {
        match line {
            "" => explained = false,
            line if line.starts_with('#') => explained = true,
            // A key right below another shares its explanation; a section begins anew.
            line if line.starts_with('[') => explained = false,
            line => assert!(explained, "nothing explains {line:?}"),
        }
    }
}

#[test]
fn the_manual_names_every_setting_and_no_other() {
    let optional = [
        ("TIDEGATE_UPSTREAMS__TLS__CA", "ca.pem"),
        ("TIDEGATE_UPSTREAMS__TLS__CERT", "cert.pem"),
        ("TIDEGATE_UPSTREAMS__TLS__KEY", "key.pem"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
    ];
    let config = load(&optional).unwrap();
    let (mut accepted, mut named) = (Vec::new(), Vec::new());
    keys(&toml::Table::try_from(&config).unwrap(), "", &mut accepted);
    keys(&CONFIG_DEFAULTS.parse().unwrap(), "", &mut named);
    accepted.sort();
    named.sort();
    assert_eq!(accepted, named);
}

#[test]
fn what_is_printed_is_accepted_again() {
    let printed = config::print_redacted(&load(&[]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, &printed).unwrap();
    let source = Source { defaults: CONFIG_DEFAULTS, file: Some(&path), ..Source::default() };
    let again: Config = config::load(&source).unwrap();
    assert_eq!(config::print_redacted(&again), printed);
}

#[rstest]
#[case::no_patience("SERVER__HEADER_READ_TIMEOUT", "0", "server.header_read_timeout")]
#[case::hasty_ping("SERVER__KEEPALIVE_INTERVAL", "10ms", "server.keepalive_interval")]
#[case::hasty_cut("SERVER__SEND_TIMEOUT", "1ms", "server.send_timeout")]
#[case::no_connections("SERVER__MAX_CONNECTIONS", "0", "server.max_connections")]
#[case::no_body("LIMITS__BODY_BYTES", "1", "limits.body_bytes")]
#[case::more_headers_than_parsed("LIMITS__HEADERS", "101", "limits.headers")]
#[case::no_service("UPSTREAMS__RATELIMIT", "[]", "upstreams.ratelimit")]
#[case::other_scheme("UPSTREAMS__RATELIMIT", "ftp://a:1", "upstreams.ratelimit")]
#[case::no_scheme("UPSTREAMS__RATELIMIT", "127.0.0.1:8081", "upstreams.ratelimit")]
#[case::password("UPSTREAMS__RATELIMIT", "http://user:secret@a:1", "upstreams.ratelimit")]
#[case::path("UPSTREAMS__RATELIMIT", "http://a:1/path", "upstreams.ratelimit")]
#[case::no_keys_scheme("UPSTREAMS__KEYS", "127.0.0.1:8082", "upstreams.keys")]
#[case::no_keys_deadline("UPSTREAMS__KEYS_DEADLINE", "0", "upstreams.keys_deadline")]
#[case::no_issuer("AUTH__ISSUER", "", "auth.issuer")]
#[case::no_proxy("FORWARD_AUTH__TRUSTED", "nginx", "forward_auth.trusted")]
#[case::no_deadline("UPSTREAMS__DEADLINE", "0", "upstreams.deadline")]
#[case::half_an_identity("UPSTREAMS__TLS__CERT", "cert.pem", "upstreams.tls")]
#[case::busy_probe("HEALTH__INTERVAL", "0", "health.interval")]
#[case::no_range("PROXIES__TRUSTED", "10.0.0.0/33", "proxies.trusted")]
#[case::more_than_ipv4("PROXIES__TRUSTED", "::ffff:10.0.0.0/8", "proxies.trusted")]
#[case::other_header("PROXIES__HEADER", "x-real-ip", "proxies.header")]
#[case::any_origin("CORS__ORIGINS", "*", "cors.origins")]
#[case::origin_with_slash("CORS__ORIGINS", "https://a.example/", "cors.origins")]
#[case::origin_in_capitals("CORS__ORIGINS", "https://A.example", "cors.origins")]
#[case::origin_with_its_usual_port("CORS__ORIGINS", "https://a.example:443", "cors.origins")]
#[case::origin_with_port_80("CORS__ORIGINS", "http://a.example:80", "cors.origins")]
fn a_bad_value_is_refused_by_its_key(#[case] variable: &str, #[case] value: &str, #[case] key: &str) {
    let error = load(&[(&format!("TIDEGATE_{variable}"), value)]).unwrap_err();
    assert!(error.contains(key), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn all_bad_values_are_named_at_once() {
    let error = load(&[("TIDEGATE_LIMITS__HEADERS", "many"), ("TIDEGATE_CORS__ORIGINS", "*")]).unwrap_err();
    assert!(error.contains("limits.headers") && error.contains("cors.origins"), "{error}");
}

#[rstest]
#[case("http://ratelimit:8081", "ratelimit", 8081, false)]
#[case("http://ratelimit", "ratelimit", 80, false)]
#[case("https://ratelimit.example/", "ratelimit.example", 443, true)]
#[case("http://[2001:db8::1]:8081", "2001:db8::1", 8081, false)]
fn a_url_has_host_port_and_scheme(
    #[case] url: &str,
    #[case] host: &str,
    #[case] port: u16,
    #[case] is_tls: bool,
) {
    let url = UpstreamUrl::try_from(url.to_owned()).unwrap();
    assert_eq!((url.host(), url.port(), url.is_tls()), (host, port, is_tls));
}

#[test]
fn an_origin_may_have_an_unusual_port() {
    assert!(load(&[("TIDEGATE_CORS__ORIGINS", "https://a.example:8443,http://a.example:443")]).is_ok());
}

#[rstest]
#[case("10.0.0.0/8", "10.255.0.1", true)]
#[case("10.0.0.0/8", "11.0.0.1", false)]
#[case("192.0.2.1", "192.0.2.1", true)]
#[case("192.0.2.1", "192.0.2.2", false)]
#[case("2001:db8::/32", "2001:db8::1", true)]
#[case("::/0", "10.0.0.1", false)]
#[case::mapped("::ffff:127.0.0.1", "127.0.0.1", true)]
#[case::mapped_range("::ffff:10.0.0.0/104", "10.255.0.1", true)]
#[case::beyond_the_mapped_range("::ffff:10.0.0.0/104", "11.0.0.1", false)]
fn a_range_holds_its_addresses(#[case] range: &str, #[case] ip: &str, #[case] expected: bool) {
    let range = Cidr::try_from(range.to_owned()).unwrap();
    assert_eq!(range.contains(ip.parse().unwrap()), expected);
}
