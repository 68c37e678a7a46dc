//! Certificates of both sides.

use tidegate_client::{Client, Error};
use tidegate_tests::{
    certificates::Authority,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
};

use crate::fixture::{AMPLE, check, port};

#[tokio::test]
async fn a_client_gets_in_with_a_certificate_of_the_right_authority_only() -> TestResult {
    let (ours, foreign) = (Authority::new()?, Authority::new()?);
    let toml = ours.server_settings(&ours.sign("server")?);
    let service = Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await?;
    let url = format!("https://localhost:{}", port(&service));
    let client = async |trusted: &Authority, shown: &Authority| {
        let identity = shown.sign("client")?;
        let builder = Client::builder(&url).deadline(AMPLE).tls_ca(trusted.pem());
        anyhow::Ok(builder.tls_identity(identity.certificate, identity.key).build().await?)
    };
    assert!(client(&ours, &ours).await?.peek(check("", "acme")).await?.allowed);
    for (trusted, shown) in [(&foreign, &ours), (&ours, &foreign)] {
        let error = client(trusted, shown).await?.peek(check("", "acme")).await.expect_err("not let in");
        assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    }
    Ok(())
}
