use std::time::Duration;

use tidegate_proto::ratelimit::v1::rate_limit_service_server::SERVICE_NAME;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::fixture;

const PATIENCE: Duration = Duration::from_secs(20);
const OK: &str = "HTTP/1.1 200 OK";

/// The status line of a `GET`.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_taken_port_is_told_by_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = fixture::config("");
    config.server.listen = address;
    let error = Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("server.listen = {address}"));
    assert!(error.root_cause().is::<std::io::Error>(), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_stops_the_start() {
    let config = "[upstreams.tls]\nca = \"/nowhere/ca.pem\"\n";
    let mut config = fixture::config_with("https://ratelimit:8081", config);
    config.server.listen.set_port(0);
    config.server.ops_listen.set_port(0);
    let error = Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await.unwrap_err();
    assert!(format!("{error:#}").contains("upstreams.tls: /nowhere/ca.pem"), "{error:#}");
}

#[tokio::test]
async fn it_is_unready_but_serving_in_the_lame_duck_pause_and_then_leaves() {
    let (url, reporter, _serving) = fixture::health().await;
    reporter.set_service_status(SERVICE_NAME, tonic_health::ServingStatus::Serving).await;
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\nlame_duck = \"1s\"";
    let config = fixture::config_with(&url, toml);
    let service = Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await.unwrap();
    let (address, ops, stop) = (service.addr(), service.ops_addr(), CancellationToken::new());
    let serving = tokio::spawn(service.serve(stop.clone()));
    let becomes_ready = async {
        while get(address, "/health/ready").await.unwrap() != OK || get(ops, "/ready").await.unwrap() != OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, becomes_ready).await.expect("it becomes ready");
    assert_eq!(get(ops, "/metrics").await.unwrap(), OK);

    stop.cancel();
    let becomes_unready = async {
        while get(address, "/health/ready").await.unwrap() == OK || get(ops, "/ready").await.unwrap() == OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, becomes_unready).await.expect("it becomes unready while it still answers");
    assert_eq!(get(address, "/health/live").await.unwrap(), OK, "still taken");
    timeout(PATIENCE, serving).await.expect("it leaves").unwrap().unwrap();
    assert!(get(address, "/health/live").await.is_err(), "nothing is taken any more");
}
