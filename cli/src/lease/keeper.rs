//! Holds a lease: renews it in time, and says when it is lost.

use std::time::Duration;

use tidegate_proto::ratelimit::v1::{
    Lease, RenewLeaseRequest, rate_limit_service_client::RateLimitServiceClient,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;

use super::has_ended;
use crate::client::{self, Connection};

/// A pause between two tries to renew a lease is this part of its length, but not longer than [`LONGEST_PAUSE`].
const TRIES: u32 = 30;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const NO_ANSWER: &str = "no answer in time";

/// What a command is given to end whose lease has ended before its time: the place may be another's already.
const TO_END: Duration = Duration::from_secs(5);

/// A lease that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: String,
    /// How long it lasts.
    ttl: Duration,
    /// Before it was asked for: until `ttl` after that, the place is certainly nobody else's.
    asked: Instant,
}

/// Why a lease is lost, and how long its holder may take to end.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) why: String,
    pub(super) kill_at: Instant,
}

/// Why a lease was not renewed.
enum Failure {
    /// Its place is anybody's.
    Ended(String),
    /// The place is certainly nobody else's until it expires.
    NotRenewed(String),
}

impl Held {
    /// What was answered to a request that was sent at `asked` or later.
    pub(super) fn new(lease: Lease, asked: Instant) -> Self {
        Self { id: lease.id, ttl: Duration::from_millis(lease.expires_after_ms), asked }
    }

    /// When it has expired.
    pub(super) fn expires(&self) -> Instant {
        self.asked + self.ttl
    }

    /// When a third of the time has passed: two more are left to try again, and then to stop.
    fn renew_at(&self) -> Instant {
        self.asked + self.ttl / 3
    }

    /// When so little is left that its holder should stop, to be done when it expires.
    fn give_up_at(&self) -> Instant {
        self.asked + self.ttl * 2 / 3
    }

    /// When a try that began at `asked` is given up, so that one which is stuck leaves time for others.
    fn try_until(&self, asked: Instant) -> Instant {
        self.give_up_at().min(asked + self.ttl / 10)
    }

    fn pause(&self) -> Duration {
        (self.ttl / TRIES).min(LONGEST_PAUSE)
    }
}

/// Renews a lease until it is lost.
pub(super) async fn keep(channel: Connection, mut held: Held) -> Lost {
    loop {
        sleep_until(held.renew_at()).await;
        match renew(&channel, &held).await {
            Ok(renewed) => held = renewed,
            Err(Failure::Ended(why)) => {
                return Lost { why, kill_at: held.expires().min(Instant::now() + TO_END) };
            }
            Err(Failure::NotRenewed(why)) => return Lost { why, kill_at: held.expires() },
        }
    }
}

/// Tries until it is renewed, is known to have ended, or there is no time left.
async fn renew(channel: &Connection, held: &Held) -> Result<Held, Failure> {
    let mut last = NO_ANSWER.to_owned();
    loop {
        let asked = Instant::now();
        match timeout_at(held.try_until(asked), call(channel, &held.id)).await {
            Ok(Ok(Some(lease))) => return Ok(Held::new(lease, asked)),
            Ok(Ok(None)) => return Err(Failure::NotRenewed("an answer without a lease".to_owned())),
            Ok(Err(status)) if has_ended(&status) => {
                return Err(Failure::Ended("it was cleared or has expired".to_owned()));
            }
            Ok(Err(status)) => last = client::explain(&status).to_string(),
            Err(_elapsed) if Instant::now() >= held.give_up_at() => {
                return Err(Failure::NotRenewed(format!("it could not be renewed: {last}")));
            }
            Err(_elapsed) => last = NO_ANSWER.to_owned(),
        }
        sleep_until(Instant::now() + held.pause()).await;
    }
}

async fn call(channel: &Connection, id: &str) -> Result<Option<Lease>, Status> {
    let request = RenewLeaseRequest { lease_id: id.to_owned(), ttl_ms: None };
    let answer = RateLimitServiceClient::new(channel.clone()).renew_lease(request).await?;
    Ok(answer.into_inner().lease)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use http::{HeaderMap, HeaderValue, Response};
    use prost::Message;
    use tidegate_proto::ratelimit::v1::RenewLeaseResponse;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every call but the first with a lease.
    async fn serve(listener: TcpListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut stuck = None;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if stuck.is_none() {
                stuck = Some((request, respond));
                continue;
            }
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            stream.send_data(lease(), false).unwrap();
            let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            stream.send_trailers(ok).unwrap();
        }
    }

    /// As a message of gRPC: no compression, length, content.
    fn lease() -> Bytes {
        let lease = Some(Lease { id: "renewed".to_owned(), expires_after_ms: 6_000 });
        let content = RenewLeaseResponse { lease }.encode_to_vec();
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(u32::try_from(content.len()).unwrap());
        message.put_slice(&content);
        message.freeze()
    }

    #[tokio::test]
    async fn a_call_that_is_stuck_leaves_time_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(serve(listener));
        let channel = client::connect(&address).await.unwrap();
        let lease = Lease { id: "held".to_owned(), expires_after_ms: 6_000 };
        let Ok(renewed) = renew(&channel, &Held::new(lease, Instant::now())).await else {
            panic!("it is not renewed");
        };
        assert_eq!(renewed.id, "renewed");
    }
}
