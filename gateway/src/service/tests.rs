use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::fixture::{self, NOBODY};

const PATIENCE: Duration = Duration::from_secs(20);

async fn bound(more: &str) -> anyhow::Result<Service> {
    let toml =
        format!("[server]\nlisten = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\nworkers = 1\n{more}");
    let config = fixture::config_with(NOBODY, &toml);
    Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await
}

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
async fn it_serves_is_unready_but_serving_in_the_lame_duck_pause_and_leaves() {
    let service = bound("lame_duck = \"1s\"").await.unwrap();
    let (address, ops, stop) = (service.addr(), service.ops_addr(), CancellationToken::new());
    let serving = tokio::spawn(service.serve(stop.clone()));
    assert_eq!(get(address, "/health/live").await.unwrap(), "HTTP/1.1 200 OK");
    assert_eq!(get(ops, "/live").await.unwrap(), "HTTP/1.1 200 OK");
    assert_eq!(get(ops, "/metrics").await.unwrap(), "HTTP/1.1 200 OK");

    stop.cancel();
    assert_eq!(get(address, "/health/live").await.unwrap(), "HTTP/1.1 200 OK", "still taken");
    assert_eq!(get(address, "/health/ready").await.unwrap(), "HTTP/1.1 503 Service Unavailable");
    timeout(PATIENCE, serving).await.expect("it leaves").unwrap().unwrap();
    assert!(get(address, "/health/live").await.is_err(), "nothing is taken any more");
}
