use std::time::Duration;

use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use super::fixture::{CHECK, Client, check, eventually, framed, start, within};

const FAILURES: &str = "tidegate_server_handshake_failures_total";

/// Reads until the server has closed the connection, politely or not.
async fn closed(stream: &mut TcpStream) {
    let mut read = Vec::new();
    let _ = within(stream.read_to_end(&mut read)).await;
}

#[tokio::test]
async fn peer_that_says_nothing_is_closed_and_counted() {
    let server = start(|config| config.request_timeout = Duration::from_millis(100).into()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    closed(&mut silent).await;
    eventually("it is counted", async || server.metric(FAILURES) == 1).await;
    assert_eq!(server.client().await.check("").await.status.code(), Code::Ok);
}

#[rstest]
#[case::http_1("GET / HTTP/1.1\r\nhost: tidegate\r\naccept: */*\r\n\r\n")]
#[case::short("GET /\r\n")]
#[case::wrong_at_the_end("PRI * HTTP/2.0\r\n\r\nSM\r\n\r.")]
#[tokio::test]
async fn peer_that_speaks_something_else_is_closed_at_once_and_counted(#[case] words: &str) {
    // Only what it says can end it in time.
    let server = start(|config| config.request_timeout = Duration::from_secs(600).into()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    closed(&mut stream).await;
    eventually("it is counted", async || server.metric(FAILURES) == 1).await;
}

#[tokio::test]
async fn preface_may_come_in_pieces_of_a_byte() {
    // However slow the machine.
    let server = start(|config| config.request_timeout = Duration::from_secs(600).into()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut header = [0; 9];
    within(stream.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[3], 4, "SETTINGS");
    drop(stream);
    eventually("it has gone", async || server.metric("tidegate_server_connections") == 0).await;
    assert_eq!(server.metric(FAILURES), 0);
}

#[tokio::test]
async fn connection_beyond_the_most_is_refused_until_one_has_gone() {
    let server = start(|config| config.max_connections = 1).await;
    eventually("that of the start has gone", async || server.metric("tidegate_server_connections") == 0)
        .await;
    let client = server.client().await;
    assert_eq!(client.check("").await.status.code(), Code::Ok);
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    closed(&mut refused).await;
    assert_eq!(server.metric("tidegate_server_refused_connections_total"), 1);
    assert_eq!(client.check("").await.status.code(), Code::Ok, "the one that is served stays");

    client.closed.abort();
    eventually("another may come", async || match Client::connect(server.address).await {
        Ok(client) => tokio::time::timeout(Duration::from_millis(200), client.begin(CHECK, &[]))
            .await
            .is_ok_and(|(response, _)| {
                drop(response);
                !client.closed.is_finished()
            }),
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn old_connection_is_told_to_go_and_lets_its_calls_end() {
    let server = start(|config| config.max_connection_age = Duration::from_millis(100).into()).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("wait")), true).unwrap();
    // The server says GOAWAY; then the client opens no more streams.
    eventually("the client is told", async || client.is_told_to_go().await).await;
    assert!(!client.closed.is_finished(), "its call is still served");
    server.gate.notify.notify_one();
    assert_eq!(super::fixture::answer(response).await.status.code(), Code::Ok);
    within(client.closed).await.unwrap();
}

#[tokio::test]
async fn old_connection_is_dropped_when_its_calls_do_not_end() {
    let server = start(|config| {
        config.max_connection_age = Duration::from_millis(50).into();
        config.max_connection_age_grace = Duration::from_millis(50).into();
    })
    .await;
    let client = server.client().await;
    let (response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("hang")), true).unwrap();
    assert!(within(response).await.is_err(), "cut, not answered");
    within(client.closed).await.unwrap();
    eventually("its call is cancelled", async || server.ended("Check", "CANCELLED") == 1).await;
}
