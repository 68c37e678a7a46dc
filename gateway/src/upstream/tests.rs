use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tidegate_chassis::clock::Random;
use tidegate_proto::ratelimit::v1::{CheckRequest, CheckResponse};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use super::*;
use crate::{
    config::Config,
    fixture::{self, LOCAL, Upstream, admitted, config_with, request},
};

const DEADLINE: Duration = Duration::from_secs(5);

#[expect(clippy::unnecessary_wraps, reason = "the signature of the fixture")]
fn admit(_: &CheckRequest) -> Result<CheckResponse, Status> {
    Ok(admitted(7))
}

/// The service at these URLs, with the metrics of its calls.
async fn service(urls: &[String], more: &str) -> RateLimit {
    let mut config: Config = config_with(fixture::NOBODY, more);
    config.upstreams.ratelimit = urls.iter().map(|url| url.clone().try_into().unwrap()).collect();
    let endpoints = Endpoints::new(&config.upstreams.ratelimit, &config.upstreams).unwrap();
    let pool = Pool::open(endpoints, Random::seeded(1)).await;
    RateLimit::new(super::Upstream::new(pool, DEADLINE, &fixture::shared(config)))
}

fn context() -> RequestContext {
    let shared = fixture::shared(fixture::config(""));
    RequestContext::new(LOCAL.parse().unwrap(), request("GET", "/", "").headers(), &shared)
}

async fn check(service: &RateLimit) -> Result<CheckResponse, Code> {
    let answer = service.check(CheckRequest::default(), &context(), DEADLINE).await;
    answer.map_err(|status| status.code())
}

/// A server of HTTP/2 that refuses every call unprocessed; how often it did.
async fn refusing() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.fetch_add(1, Relaxed);
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
            });
        }
    });
    (url, refused)
}

/// A server that takes a call and then closes the connection; how many it took.
async fn vanishing() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                if let Some(Ok(_)) = connection.accept().await {
                    count.fetch_add(1, Relaxed);
                }
            });
        }
    });
    (url, taken)
}

#[tokio::test]
async fn calls_are_spread_over_all_addresses() {
    let (first, second) = (Upstream::start(admit), Upstream::start(admit));
    let service = service(&[first.url(), second.url()], "").await;
    for _ in 0..64 {
        assert_eq!(check(&service).await, Ok(admitted(7)));
    }
    assert_eq!(first.seen().len() + second.seen().len(), 64);
    assert!(first.seen().len() > 8 && second.seen().len() > 8, "{} to the first", first.seen().len());
}

#[tokio::test]
async fn an_address_that_is_down_costs_a_retry_and_is_then_passed_over() {
    let up = Upstream::start(admit);
    let service = service(&[fixture::NOBODY.to_owned(), up.url()], "").await;
    for _ in 0..32 {
        assert_eq!(check(&service).await, Ok(admitted(7)));
    }
    // One for each second in which it is tried again.
    let retries = service.upstream().metrics.upstream_retries(Behind::RateLimit);
    assert!((1..=8).contains(&retries), "{retries}");
}

#[tokio::test]
async fn a_restart_of_the_service_is_survived() {
    let first = Upstream::start(admit);
    let (address, service) = (first.address, service(&[first.url()], "").await);
    assert_eq!(check(&service).await, Ok(admitted(7)));
    drop(first);
    assert_eq!(check(&service).await, Err(Code::Unavailable));
    let again = Upstream::start_at(address, admit);
    assert_eq!(check(&service).await, Ok(admitted(7)));
    assert_eq!(again.seen().len(), 1);
}

#[tokio::test]
async fn a_call_that_was_refused_unprocessed_is_sent_to_another_address() {
    let up = Upstream::start(admit);
    let (refusing, refused) = refusing().await;
    let service = service(&[refusing, up.url()], "").await;
    for _ in 0..16 {
        assert_eq!(check(&service).await, Ok(admitted(7)));
    }
    assert!(refused.load(Relaxed) > 0, "the other was never asked");
}

#[tokio::test]
async fn a_call_that_may_have_been_executed_is_not_sent_again() {
    let (vanishing, taken) = vanishing().await;
    let service = service(&[vanishing], "").await;
    assert_eq!(check(&service).await, Err(Code::Unavailable));
    assert_eq!(taken.load(Relaxed), 1);
    assert_eq!(service.upstream().metrics.upstream_retries(Behind::RateLimit), 0);
}

#[tokio::test]
async fn an_error_of_the_service_is_passed_on_and_not_repeated() {
    let upstream = Upstream::start(|_| Err(Status::unavailable("the store is gone")));
    let service = service(&[upstream.url()], "").await;
    let status = service.check(CheckRequest::default(), &context(), DEADLINE).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the store is gone"));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn no_call_outlives_its_deadline() {
    // Accepted by the kernel and never served.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = service(&[format!("http://{}", silent.local_addr().unwrap())], "").await;
    let started = Instant::now();
    let answer = service.check(CheckRequest::default(), &context(), Duration::from_millis(100)).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_no_reason_not_to_start() {
    let service = service(&["http://no-such-host.invalid:1".to_owned()], "").await;
    assert_eq!(check(&service).await, Err(Code::Unavailable));
}

/// A certificate authority, and PEM files of what it signs.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer =
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, pem: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    }
}

#[tokio::test]
async fn tls_is_verified_both_ways() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (cert, key) = authority.sign("localhost");
    let tls = tonic::transport::ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(cert, key))
        .client_ca_root(tonic::transport::Certificate::from_pem(authority.issuer.pem()));
    let upstream = Upstream::start_tls(tls, admit);
    let url = format!("https://localhost:{}", upstream.address.port());

    let (cert, key) = authority.sign("gateway");
    let (cert, key) = (authority.file("cert.pem", &cert), authority.file("key.pem", &key));
    let ca = authority.file("ca.pem", &authority.issuer.pem());
    let other_ca = authority.file("other.pem", &stranger.issuer.pem());
    let identity = format!("cert = {cert:?}\nkey = {key:?}");
    for (ca, identity, expected) in [
        (&ca, identity.as_str(), Ok(admitted(7))),
        (&ca, "", Err(Code::Unavailable)),
        (&other_ca, identity.as_str(), Err(Code::Unavailable)),
    ] {
        let more = format!("[upstreams.tls]\nca = {ca:?}\n{identity}");
        let service = service(std::slice::from_ref(&url), &more).await;
        assert_eq!(check(&service).await, expected, "{more}");
    }
}
