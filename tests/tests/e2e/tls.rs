//! TLS and mutual TLS between processes, and certificates renewed under way.

use std::time::Duration;

use serde_json::json;
use tidegate_proto::ratelimit::v1::rate_limit_service_client::RateLimitServiceClient;
use tidegate_tests::{
    certificates::{Authority, Identity},
    eventually::eventually,
    http_client,
    redis_server::{RedisServer, RedisTls},
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

async fn mutual(authority: &Authority, server: &Identity) -> anyhow::Result<Service> {
    let toml = authority.server_settings(server);
    Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await
}

async fn connect(service: &Service, trust: &str, identity: Option<&Identity>) -> anyhow::Result<Channel> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trust)).domain_name("localhost");
    if let Some(identity) = identity {
        tls = tls.identity(tonic::transport::Identity::from_pem(&identity.certificate, &identity.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", service.address()))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).tls_config(tls)?.connect().await?)
}

/// A refused client may learn of it only with its first call (TLS 1.3).
async fn check(service: &Service, trust: &str, identity: Option<&Identity>) -> anyhow::Result<bool> {
    let channel = connect(service, trust, identity).await?;
    let mut client = RateLimitServiceClient::new(channel);
    Ok(client.check(rpc::organization("tls")).await?.into_inner().allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_of_the_right_authority_get_in() -> TestResult {
    let _turn = turn::shared().await;
    let (ours, foreign) = (Authority::new()?, Authority::new()?);
    let service = mutual(&ours, &ours.sign("server")?).await?;
    assert!(check(&service, ours.pem(), Some(&ours.sign("client")?)).await?);
    assert!(check(&service, ours.pem(), None).await.is_err(), "no certificate");
    assert!(
        check(&service, ours.pem(), Some(&foreign.sign("client")?)).await.is_err(),
        "a foreign certificate"
    );
    let plain = rpc::client(service.address())?.check(rpc::organization("tls")).await;
    assert!(plain.is_err(), "plain text on a TLS port");
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_speaks_mutual_tls_to_the_service() -> TestResult {
    let _turn = turn::shared().await;
    let authority = Authority::new()?;
    let service = mutual(&authority, &authority.sign("server")?).await?;
    let client = authority.sign("gateway")?;
    let port = service.address().rsplit(':').next().unwrap_or_default();
    let toml = format!(
        "[upstreams]\nratelimit = [\"https://localhost:{port}\"]\n\
         [upstreams.tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        authority.file(),
        client.certificate_file,
        client.key_file
    );
    let gateway = Service::gateway(&[], &toml).await?;
    let body = json!({"attributes": {"organization": "acme"}});
    let answer = http_client::post(gateway.address(), "/v1/check", &body).await?;
    assert_eq!(answer.status, http::StatusCode::OK, "{}", answer.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_counts_in_redis_over_mutual_tls() -> TestResult {
    let _turn = turn::shared().await;
    let authority = Authority::new()?;
    let redis =
        RedisServer::over(Some(&RedisTls::new(&authority, &authority.sign("redis")?, true)), []).await?;
    let client = authority.sign("ratelimit")?;
    let toml = format!(
        "[store.redis]\nconnect_timeout = \"10s\"\ntls_ca = {:?}\ntls_cert = {:?}\ntls_key = {:?}\n",
        authority.file(),
        client.certificate_file,
        client.key_file
    );
    let redis_url = Some(redis.tls_url());
    let service =
        Service::ratelimit(&RateLimitSettings { redis_url, toml, ..RateLimitSettings::default() }).await?;
    let mut client = rpc::client(service.address())?;
    eventually("Redis decides", Duration::from_secs(20), async || {
        Ok(!client.check(rpc::organization("tls")).await?.into_inner().degraded)
    })
    .await?;
    let counted: Vec<String> = redis.command(&["KEYS", "tg2:*3:tls*"]).await?;
    assert!(!counted.is_empty(), "nothing was counted");
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_without_restart_and_open_connections_stay() -> TestResult {
    let _turn = turn::shared().await;
    let (old, new) = (Authority::new()?, Authority::new()?);
    let server = old.sign("server")?;
    // Clients are signed by the old authority throughout; the server moves to another one.
    let client = old.sign("client")?;
    let service = mutual(&old, &server).await?;
    let mut open = RateLimitServiceClient::new(connect(&service, old.pem(), Some(&client)).await?);
    open.check(rpc::organization("open")).await?;

    let renewed = new.sign("server")?;
    std::fs::write(&server.key_file, &renewed.key)?;
    std::fs::write(&server.certificate_file, &renewed.certificate)?;
    let renewed = async || Ok(check(&service, new.pem(), Some(&client)).await.is_ok());
    eventually("the renewed certificate is served", Duration::from_secs(20), renewed).await?;
    assert!(open.check(rpc::organization("open")).await?.into_inner().allowed);
    assert!(check(&service, old.pem(), Some(&client)).await.is_err(), "the old certificate is still served");
    Ok(())
}
