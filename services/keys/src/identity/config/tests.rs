use rstest::rstest;

use super::*;
use crate::identity::fixture;

fn issuer(text: &str) -> Result<OidcIssuerConfig, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let config: OidcIssuerConfig = serde_json::from_value(value).map_err(|error| error.to_string())?;
    config.validate().map_err(|report| report.to_string())?;
    Ok(config)
}

fn faults(config: &IdentityConfig, environment: Environment) -> Vec<String> {
    let mut faults = Vec::new();
    config.refuse_unfit(&AuthConfig::default(), environment, &mut faults);
    faults.into_iter().map(|fault| fault.key).collect()
}

#[test]
fn an_issuer_is_read_and_makes_nobody_unless_it_is_told_to() {
    let text =
        r#"{"issuer": "https://a", "audience": "b", "jwks_url": "https://a/jwks", "algorithms": ["EdDSA"]}"#;
    let config = issuer(text).expect("read");
    assert_eq!((config.organization, config.role), (None, Role::User));
    assert_eq!(config.algorithms, [OidcAlgorithm::EdDsa]);
}

#[rstest]
#[case::shared_secret(r#""jwks_url": "https://a", "algorithms": ["HS256"]"#)]
#[case::none(r#""jwks_url": "https://a", "algorithms": ["none"]"#)]
#[case::no_algorithm(r#""jwks_url": "https://a", "algorithms": []"#)]
#[case::no_keys(r#""algorithms": ["RS256"]"#)]
#[case::two_sources(r#""jwks_url": "https://a", "jwks_file": "b", "algorithms": ["RS256"]"#)]
#[case::no_web_address(r#""jwks_url": "file:///etc/keys", "algorithms": ["RS256"]"#)]
#[case::an_admin(r#""jwks_url": "https://a", "algorithms": ["RS256"], "role": "admin""#)]
#[case::no_organization(r#""jwks_url": "https://a", "algorithms": ["RS256"], "organization": "acme""#)]
#[case::unknown(r#""jwks_url": "https://a", "algorithms": ["RS256"], "colour": "red""#)]
fn an_issuer_that_cannot_be_believed_is_refused(#[case] fields: &str) {
    let text = format!(r#"{{"issuer": "https://a", "audience": "b", {fields}}}"#);
    assert!(issuer(&text).is_err(), "{text}");
}

#[test]
fn settings_that_do_not_go_together_are_all_named() {
    let text = r#"{"issuer": "a", "audience": "b", "jwks_url": "http://a", "algorithms": ["RS256"]}"#;
    let twice = vec![issuer(text).expect("read"), issuer(text).expect("read")];
    let config = IdentityConfig {
        secret: Secret::new("too short"),
        hs256_kid: "unknown".to_owned(),
        oidc: twice,
        ..fixture::config()
    };
    let wrong = ["identity.secret", "identity.hs256_kid", "identity.oidc"];
    assert_eq!(faults(&config, Environment::Development), wrong);
    // Keys over http, besides.
    assert_eq!(faults(&config, Environment::Production).len(), 4);
    assert_eq!(faults(&fixture::config(), Environment::Production), [""; 0]);
}

#[test]
fn times_have_bounds() {
    let config = IdentityConfig {
        access_ttl: Duration::from_secs(59).into(),
        refresh_ttl: Duration::from_secs(91 * 86_400).into(),
        ..fixture::config()
    };
    let report = config.validate().expect_err("refused").to_string();
    assert!(report.contains("access_ttl") && report.contains("refresh_ttl"), "{report}");
    fixture::config().validate().expect("good");
}
