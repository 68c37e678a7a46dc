use std::{net::SocketAddr, thread::JoinHandle};

use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderValue, Response};
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_ratelimit::Service;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn measured(addr: SocketAddr, line: &str) -> Tally {
    let args = BenchArgs::typed(&format!("--addr {addr} {line}"));
    args.validate().unwrap();
    run(&args, &addr.to_string(), &[]).unwrap().tally
}

/// Serves on a thread of its own, until it is dropped.
struct Running {
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
    stop: Option<DropGuard>,
}

impl Running {
    fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(mpsc::Sender<SocketAddr>, CancellationToken) -> F + Send + 'static,
    ) -> Self {
        let stop = CancellationToken::new();
        let (listening, addr) = mpsc::channel();
        let serve_stop = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listening, serve_stop));
        });
        Self { addr: addr.recv().unwrap(), thread: Some(thread), stop: Some(stop.drop_guard()) }
    }

    /// The rate-limit service, with its built-in policies.
    fn ratelimit() -> Self {
        Self::start(|listening, stop| async move {
            let mut config = crate::up::ratelimit_defaults();
            config.server.lame_duck = Duration::ZERO.into();
            let service =
                Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await.unwrap();
            listening.send(service.addr()).unwrap();
            service.serve(stop).await.unwrap();
        })
    }

    /// A server that admits everything at once, but for one time when it does nothing at all.
    fn stalling(after: Duration, stall: Duration) -> Self {
        Self::start(move |listening, stop| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listening.send(listener.local_addr().unwrap()).unwrap();
            let serve = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut connection = server::handshake(stream).await.unwrap();
                let begun = Instant::now();
                let mut stalled = false;
                while let Some(Ok((_, respond))) = connection.accept().await {
                    if !stalled && begun.elapsed() > after {
                        stalled = true;
                        thread::sleep(stall);
                    }
                    admit(respond);
                }
            };
            stop.run_until_cancelled(serve).await;
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn admit(mut respond: SendResponse<Bytes>) {
    let mut body = BytesMut::new();
    wire::frame(&mut body, |message| message.put_slice(&[1 << 3, 1]));
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data(body.freeze(), false).unwrap();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    send.send_trailers(trailers).unwrap();
}

#[test]
fn every_mode_and_loop_has_all_checks_decided() {
    let server = Running::ratelimit();
    for mode in ["unary", "stream --in-flight 2 --window 8", "batch --batch-size 8"] {
        for pace in ["", "--rate 400"] {
            let line =
                format!("--mode {mode} {pace} --warmup 50ms --duration 300ms --connections 2 --threads 2");
            let tally = measured(server.addr, &line);
            assert!(tally.decided.sum() > 0 && !tally.latency.is_empty(), "{line}: {:?}", tally.decided);
            assert_eq!((tally.errors.len(), tally.decided.refused, tally.unanswered), (0, 0, 0), "{line}");
        }
    }
}

#[test]
fn denials_are_counted_as_decided() {
    let server = Running::ratelimit();
    let tally = measured(server.addr, "--keys 1 --warmup 0 --duration 300ms");
    // The plan `free` admits ten a minute.
    assert_eq!(tally.decided.allowed, 10);
    assert!(tally.decided.denied > 0);
}

#[test]
fn checks_that_cannot_be_decided_are_errors_in_every_mode() {
    let server = Running::ratelimit();
    let tally = measured(server.addr, "--namespace nowhere --warmup 0 --duration 200ms");
    assert!(tally.errors.contains_key("NotFound") && tally.decided.sum() == 0, "{:?}", tally.errors);
    for mode in ["stream", "batch"] {
        let tally =
            measured(server.addr, &format!("--mode {mode} --namespace nowhere --warmup 0 --duration 200ms"));
        assert_eq!(tally.decided.reason.as_deref(), Some("NAMESPACE_NOT_FOUND"), "{mode}");
        assert!(tally.decided.refused > 0 && tally.decided.sum() == 0, "{mode}: {:?}", tally.decided);
    }
}

#[test]
fn open_loop_shows_a_stall_to_all_who_came_during_it() {
    const LINE: &str = "--connections 1 --in-flight 1 --warmup 0 --duration 1s";
    let slow = |tally: Tally| tally.latency.len() - tally.latency.count_between(0, 100_000_000);
    let server = Running::stalling(300 * MS, 300 * MS);
    let open = slow(measured(server.addr, &format!("{LINE} --rate 1000")));
    drop(server);
    // Of the 300 that were due during the stall, those of its first 200 ms waited for more than 100 ms.
    assert!(open >= 190, "{open}");

    // A closed loop asks nothing during the stall, so its histogram all but hides it.
    let server = Running::stalling(300 * MS, 300 * MS);
    let closed = slow(measured(server.addr, LINE));
    assert!((1..=10).contains(&closed), "{closed}");
}

#[test]
fn server_that_is_not_there_is_named() {
    let args = BenchArgs::typed("--addr 127.0.0.1:1");
    let error = run(&args, "127.0.0.1:1", &[]).err().map(|error| format!("{error:#}"));
    assert!(error.as_ref().is_some_and(|error| error.contains("127.0.0.1:1")), "{error:?}");
}
