use garde::Validate;
use rstest::rstest;
use serde::{Deserialize, Serialize};

use super::super::{Anonymous, AuthConfig, Authenticator, CertificateIdentity, How, Role};
use crate::{
    clock::Clock,
    config::{self, ConfigError, Environment, Secret, Source},
    metrics::Metrics,
};

#[derive(Deserialize, Serialize, Validate)]
struct Settings {
    #[garde(dive)]
    auth: AuthConfig,
}

fn load(env: &[(&str, &str)]) -> Result<AuthConfig, ConfigError> {
    let defaults: toml::Table = include_str!("../../../config.default.toml").parse().unwrap();
    let defaults = toml::Table::from_iter([("auth".to_owned(), defaults["auth"].clone())]).to_string();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    config::load(&Source { defaults: &defaults, env, ..Source::default() })
        .map(|settings: Settings| settings.auth)
}

#[test]
fn documented_defaults_are_the_defaults() {
    assert_eq!(load(&[]).unwrap(), AuthConfig::default());
}

#[test]
fn everything_can_be_set_by_the_environment() {
    let auth = load(&[
        ("TIDEGATE_AUTH__ANONYMOUS", "network"),
        ("TIDEGATE_AUTH__HS256_SECRETS__MAIN", "one"),
        ("TIDEGATE_AUTH__KEYS_URL", "https://keys:8082"),
        ("TIDEGATE_AUTH__CERTIFICATES", r#"[{name = "spiffe://here/a.b", role = "service"}]"#),
    ])
    .unwrap();
    assert_eq!((auth.anonymous, auth.keys_url.as_str()), (Anonymous::Network, "https://keys:8082"));
    assert_eq!(auth.hs256_secrets["main"].expose(), "one");
    let identity =
        CertificateIdentity { name: "spiffe://here/a.b".to_owned(), role: Role::Service, organization: None };
    assert_eq!(auth.certificates, [identity]);
}

#[test]
fn every_fault_is_named_and_no_secret_is() {
    let refused = load(&[
        ("TIDEGATE_AUTH__KEYS_URL", "keys:8082"),
        ("TIDEGATE_AUTH__KEYS_TLS__CERT", "cert.pem"),
        ("TIDEGATE_AUTH__ISSUER", ""),
        ("TIDEGATE_AUTH__AUDIENCE", ""),
        ("TIDEGATE_AUTH__HS256_SECRETS__INTERNAL", "hush-1"),
        ("TIDEGATE_AUTH__HS256_SECRETS__A$B", "hush-2"),
        ("TIDEGATE_AUTH__HS256_SECRETS__EMPTY", ""),
        (
            "TIDEGATE_AUTH__CERTIFICATES",
            r#"[{name = "", role = "tenant_admin"},
                {name = "b", role = "admin", organization = "00000000-0000-0000-0000-000000000007"}]"#,
        ),
    ]);
    let error = refused.expect_err("refused").to_string();
    for named in [
        "auth.keys_url",
        "auth.keys_tls.cert",
        "auth.issuer",
        "auth.audience",
        "\"internal\"",
        "\"a$b\"",
        "empty must not be empty",
        "auth.certificates[0].name",
        "auth.certificates[0].role",
        "auth.certificates[1].role",
    ] {
        assert!(error.contains(named), "{named}: {error}");
    }
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let secret = Secret::new("hush");
    let auth = AuthConfig {
        internal_secret: secret.clone(),
        hs256_secrets: [("main".to_owned(), secret)].into(),
        ..AuthConfig::default()
    };
    let shown = config::print_redacted(&Settings { auth: auth.clone() });
    assert!(shown.contains("main = \"<redacted>\""), "{shown}");
    assert!(!shown.contains("hush") && !format!("{auth:?}").contains("hush"), "{shown}");
}

#[test]
fn production_refuses_what_is_for_trying_out() {
    let weak = ["short", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababababababababab"];
    let strong = "1b0f6d21a3c94e5788f0d2c4b6a99e13";
    for weak in weak {
        let auth = AuthConfig {
            anonymous: Anonymous::Loopback,
            internal_secret: Secret::new(weak),
            hs256_secrets: [("good", strong), ("poor", weak)]
                .map(|(k, s)| (k.to_owned(), Secret::new(s)))
                .into(),
            ..AuthConfig::default()
        };
        let mut faults = Vec::new();
        auth.refuse_unfit(Environment::Production, &mut faults);
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["auth.anonymous", "auth.internal_secret", "auth.hs256_secrets.poor"]);
        faults.clear();
        auth.refuse_unfit(Environment::Development, &mut faults);
        assert!(faults.is_empty());
    }
    let mut faults = Vec::new();
    AuthConfig::default().refuse_unfit(Environment::Production, &mut faults);
    assert!(faults.is_empty(), "no secret is not a weak one");
}

#[rstest]
#[case("http://keys:8082", false, true)]
#[case("http://10.0.0.7:8082", false, true)]
#[case("http://keys:8082", true, false)]
#[case("https://keys:8082", false, false)]
#[case("http://localhost:8082", false, false)]
#[case("http://127.0.0.1:8082", false, false)]
#[case("http://[::1]:8082", false, false)]
#[case("", false, false)]
fn production_fetches_signing_keys_in_clear_only_if_that_is_said(
    #[case] url: &str,
    #[case] keys_in_clear: bool,
    #[case] is_refused: bool,
) {
    let auth = AuthConfig { keys_url: url.to_owned(), keys_in_clear, ..AuthConfig::default() };
    let mut faults = Vec::new();
    auth.refuse_unfit(Environment::Development, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    auth.refuse_unfit(Environment::Production, &mut faults);
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, if is_refused { vec!["auth.keys_url"] } else { vec![] });
}

#[rstest]
#[case(Anonymous::Nobody, "127.0.0.1", None)]
#[case(Anonymous::Loopback, "127.0.0.1", Some(Role::Admin))]
#[case(Anonymous::Loopback, "127.9.9.9", Some(Role::Admin))]
#[case(Anonymous::Loopback, "::1", Some(Role::Admin))]
#[case(Anonymous::Loopback, "::ffff:127.0.0.1", Some(Role::Admin))]
#[case(Anonymous::Loopback, "10.0.0.1", None)]
#[case(Anonymous::Loopback, "::ffff:10.0.0.1", None)]
#[case(Anonymous::Network, "10.0.0.1", Some(Role::Service))]
#[case(Anonymous::Network, "127.0.0.1", Some(Role::Service))]
fn callers_without_credentials_are_believed_by_where_they_are(
    #[case] anonymous: Anonymous,
    #[case] peer: &str,
    #[case] role: Option<Role>,
) {
    let config = AuthConfig { anonymous, ..AuthConfig::default() };
    let auth = Authenticator::new(&config, None, Clock::system(), &Metrics::new()).unwrap();
    let caller = auth.of_connection(peer.parse().unwrap(), &[]);
    assert_eq!(caller.as_ref().map(|caller| caller.role), role);
    assert!(caller.is_none_or(|caller| caller.how == How::Anonymous));
}

#[test]
fn certificate_is_the_first_caller_that_has_one_of_its_names() {
    let identity = |name: &str, role| CertificateIdentity { name: name.to_owned(), role, organization: None };
    let config = AuthConfig {
        certificates: vec![identity("a", Role::Service), identity("b", Role::Admin)],
        ..AuthConfig::default()
    };
    let auth = Authenticator::new(&config, None, Clock::system(), &Metrics::new()).unwrap();
    let of = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        auth.of_connection("10.0.0.1".parse().unwrap(), &names).map(|caller| (caller.role, caller.subject))
    };
    assert_eq!(of(&["b", "a"]), Some((Role::Service, "a".to_owned())));
    assert_eq!(of(&["b"]), Some((Role::Admin, "b".to_owned())));
    assert_eq!(of(&["c"]), None);
}
