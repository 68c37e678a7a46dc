use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use super::fixture::{CHECK, HEALTH, Running, answer, check, eventually, framed, start, within};

/// A drain timeout that no test could pass.
const LONG: Duration = Duration::from_secs(600);
const NOT_SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 2];

async fn ready(server: &Running) -> String {
    let mut stream = TcpStream::connect(server.ops_address).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: tidegate\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn it_says_not_serving_first_still_accepts_then_closes_the_port() {
    let mut server = start(|config| config.lame_duck = Duration::from_secs(2).into()).await;
    assert_eq!(ready(&server).await, "HTTP/1.1 200 OK");
    server.stop.cancel();
    let client = server.client().await;
    eventually("it says so", async || client.call(HEALTH, &[], &[]).await.messages == NOT_SERVING).await;
    assert_eq!(ready(&server).await, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(server.client().await.check("").await.status.code(), Code::Ok, "a new connection is served");
    assert_eq!(client.check("").await.status.code(), Code::Ok);

    within(client.closed).await.unwrap();
    server.left().await;
    TcpStream::connect(server.address).await.expect_err("the port is closed");
}

#[tokio::test]
async fn call_in_flight_is_answered_before_it_leaves() {
    let mut server = start(|config| config.drain_timeout = LONG.into()).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("wait")), true).unwrap();
    assert_eq!(client.check("").await.status.code(), Code::Ok);
    server.stop.cancel();
    eventually("the client is told to go", async || client.is_told_to_go().await).await;
    server.gate.notify.notify_one();
    assert_eq!(answer(response).await.status.code(), Code::Ok);
    server.left().await;
}

#[tokio::test]
async fn call_that_does_not_end_is_dropped_after_the_drain_timeout() {
    let mut server = start(|config| config.drain_timeout = Duration::from_millis(200).into()).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("hang")), true).unwrap();
    assert_eq!(client.check("").await.status.code(), Code::Ok);
    let stopped = Instant::now();
    server.stop.cancel();
    server.left().await;
    assert!(stopped.elapsed() >= Duration::from_millis(200), "it had its time");
    assert!(within(response).await.is_err(), "cut, not answered");
}

#[tokio::test]
async fn handler_that_blocks_its_thread_does_not_hold_the_process() {
    let mut server = start(|config| config.drain_timeout = Duration::from_millis(100).into()).await;
    let client = server.client().await;
    let (_response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("block")), true).unwrap();
    let gate = server.gate.clone();
    eventually("the thread is blocked", async || gate.is_blocking()).await;
    server.stop.cancel();
    server.left().await;
}

#[tokio::test]
async fn connection_that_never_spoke_does_not_hold_the_leave() {
    let mut server = start(|config| {
        config.drain_timeout = LONG.into();
        config.request_timeout = LONG.into();
    })
    .await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HTTP").await.unwrap();
    eventually("both are taken in", async || {
        server.metric("tidegate_server_accepted_connections_total") == 3
    })
    .await;
    server.stop.cancel();
    server.left().await;
    assert_eq!(server.metric("tidegate_server_handshake_failures_total"), 0, "it is we who left");
}
