//! Real sockets, and bytes that no client library would send.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::fixture::{self, NOBODY, Upstream, admitted, config_with};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    metrics: Arc<GatewayMetrics>,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

/// One worker, before the rate-limit service at `url`.
async fn start(url: &str, toml: &str) -> Running {
    let mut config = config_with(url, &format!("{toml}\n[anonymous]\nenabled = false"));
    config.server.workers = 1;
    let app = fixture::app(config).await;
    let (config, metrics) = (&app.shared.config, Arc::clone(&app.shared.metrics));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        listener,
        connections: ConnectionSettings::new(&config.server, &config.limits),
        metrics: Arc::clone(&metrics),
    };
    let config = config.clone();
    // Its connections live on the runtime of the worker.
    let make_edge: MakeEdge = Arc::new(move || Box::pin(fixture::edge(config.clone())));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(make_edge, stop.clone()));
    Running { address, metrics, stop, serving }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that comes back until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the other side closes");
    String::from_utf8(answer).unwrap()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&answer).ends_with(end) {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..count]);
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer");
    String::from_utf8(answer).unwrap()
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect()
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test]
async fn a_connection_is_kept_for_further_requests() {
    let running = start(NOBODY, "").await;
    let answers = running.raw(format!("{LIVE}\r\n{LIVE}Connection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(statuses(&answers), ["200", "200"], "{answers}");
    assert!(!answers.to_lowercase().contains("\r\nserver:"), "{answers}");
}

/// A front proxy that reads one of these otherwise must not make us see a second request.
#[tokio::test]
async fn no_request_is_smuggled_behind_an_ambiguous_length() {
    let running = start(NOBODY, "").await;
    let smuggled = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    for head in [
        "Content-Length: 0\r\nContent-Length: 50\r\n",
        "Content-Length: 0, 50\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: -1\r\n",
        "Content-Length : 0\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        " Content-Length: 0\r\n",
    ] {
        let answers = running.raw(format!("{post}{head}\r\n0\r\n\r\n{smuggled}").as_bytes()).await;
        let statuses = statuses(&answers);
        assert!(statuses == ["400"], "{head:?} gave {statuses:?}");
    }
    // Chunked outweighs a length (RFC 9112, 6.3), and the connection closes as it was asked to.
    let both = format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let answers = running.raw(both.as_bytes()).await;
    assert_eq!(statuses(&answers), ["404"], "{answers}");
}

#[tokio::test]
async fn a_head_that_is_far_too_large_is_refused() {
    let running = start(NOBODY, "").await;
    let many = "x: y\r\n".repeat(200);
    assert_eq!(statuses(&running.raw(format!("{LIVE}{many}\r\n").as_bytes()).await), ["431"]);
    let wide = "w".repeat(200_000);
    assert_eq!(statuses(&running.raw(format!("{LIVE}x: {wide}\r\n\r\n").as_bytes()).await), ["431"]);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_by_a_problem() {
    let running = start(NOBODY, "[limits]\nheaders = 100").await;
    let many = "x: y\r\n".repeat(150);
    let wide = format!("x: {}\r\n", "w".repeat(20_000));
    for head in [many, wide] {
        let answer = running.raw(format!("{LIVE}Connection: close\r\n{head}\r\n").as_bytes()).await;
        assert_eq!(statuses(&answer), ["431"]);
        assert!(answer.contains("headers_too_large") && answer.contains("x-request-id"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_closed() {
    let running = start(NOBODY, "").await;
    let head = "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let declared = running.raw(format!("{head}Content-Length: 1048577\r\n\r\n").as_bytes()).await;
    assert_eq!(statuses(&declared), ["413"]);
    assert!(declared.contains("application/problem+json"), "{declared}");

    let chunk = format!("20000\r\n{}\r\n", " ".repeat(0x20000));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(9));
    let mut stream = running.connect().await;
    // It may be refused before all of it is written.
    let _ = stream.write_all(chunked.as_bytes()).await;
    assert_eq!(statuses(&read_until(&mut stream, "}").await), ["413"]);
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_head_is_cut_off() {
    let running = start(NOBODY, "[server]\nheader_read_timeout = \"100ms\"").await;
    for sent in ["", "GET /health", &LIVE[..40]] {
        assert_eq!(running.raw(sent.as_bytes()).await, "", "{sent:?}");
    }
    // Idle after an answer.
    let mut stream = running.connect().await;
    stream.write_all(format!("{LIVE}\r\n").as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), ["200"]);
}

#[tokio::test]
async fn who_sends_half_a_body_is_told_408() {
    let running = start(NOBODY, "[limits]\nbody_timeout = \"100ms\"").await;
    let half = "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 10\r\n\r\n{";
    assert_eq!(statuses(&running.raw(half.as_bytes()).await), ["408"]);
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port() {
    let running = start(NOBODY, "").await;
    let (mut sender, connection) = h2::client::handshake(running.connect().await).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/health/live", running.address);
    let request = http::Request::get(url).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let response = timeout(PATIENCE, response).await.expect("an answer").unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_but_not_under_a_request() {
    let upstream = Upstream::start(|_| {
        std::thread::sleep(Duration::from_millis(500));
        Ok(admitted(7))
    });
    let running = start(&upstream.url(), "[server]\nheader_read_timeout = \"100ms\"").await;
    let (mut sender, connection) = h2::client::handshake(running.connect().await).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v1/check", running.address))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(bytes::Bytes::from_static(b"{}"), true).unwrap();
    let response = timeout(PATIENCE, response).await.expect("an answer").unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    // The client keeps its side open, and answers pings.
    timeout(PATIENCE, connection).await.expect("the other side closes").unwrap().unwrap();
    drop(sender);
}

#[tokio::test]
async fn connections_beyond_the_most_wait_their_turn() {
    let running = start(NOBODY, "[server]\nmax_connections = 1").await;
    let mut first = running.connect().await;
    first.write_all(format!("{LIVE}\r\n").as_bytes()).await.unwrap();
    read_until(&mut first, "}").await;
    let mut second = running.connect().await;
    second.write_all(format!("{LIVE}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(running.metrics.connections.get(), 1);
    drop(first);
    assert_eq!(statuses(&read_to_end(&mut second).await), ["200"]);
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_server_ends() {
    let upstream = Upstream::start(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(admitted(7))
    });
    // Longer than the test waits: nothing here is cut off.
    let running = start(&upstream.url(), "[server]\ndrain_timeout = \"1h\"").await;
    let (mut idle, mut busy) = (running.connect().await, running.connect().await);
    idle.write_all(format!("{LIVE}\r\n").as_bytes()).await.unwrap();
    read_until(&mut idle, "}").await;
    let check = "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 2\r\n\r\n{}";
    busy.write_all(check.as_bytes()).await.unwrap();
    timeout(PATIENCE, async {
        while upstream.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the check is under way");

    running.stop.cancel();
    assert_eq!(read_to_end(&mut idle).await, "", "an idle connection is closed");
    assert_eq!(statuses(&read_to_end(&mut busy).await), ["200"]);
    timeout(PATIENCE, running.serving).await.expect("it ends").unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_cut_off() {
    let running = start(NOBODY, "[server]\ndrain_timeout = \"50ms\"").await;
    let mut slow = running.connect().await;
    let half = "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(half.as_bytes()).await.unwrap();
    read_until(&mut slow, "\r\n\r\n").await;
    running.stop.cancel();
    timeout(PATIENCE, running.serving).await.expect("it ends").unwrap().unwrap();
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn a_worker_that_panics_ends_the_server() {
    let running = start(NOBODY, "").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = fixture::config("").server;
    config.workers = 1;
    let connections = ConnectionSettings { server: config, head_bytes: 0, headers: 0 };
    let server = Server { listener, connections, metrics: running.metrics };
    let make_edge: MakeEdge = Arc::new(|| Box::pin(async { panic!("no edge today") }));
    let ended = timeout(PATIENCE, server.serve(make_edge, CancellationToken::new())).await.expect("it ends");
    assert!(ended.unwrap_err().to_string().contains("panic"));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn who_takes_no_answers_is_cut_off() {
    let running = start(NOBODY, "[server]\nsend_timeout = \"1s\"").await;
    let mut greedy = running.connect().await;
    // The answers are more than the sockets between us can hold.
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    greedy.write_all(asked.as_bytes()).await.unwrap();
    for connections in [1, 0] {
        let reached = async {
            while running.metrics.connections.get() != connections {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("never {connections} connections"));
    }
}
