//! A rate-limit service that fails as it is told to, and what becomes of changes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use http::{Request, Response};
use tidegate_proto::ratelimit::v1::{FenceOrganizationRequest, FenceOrganizationResponse};
use tokio::{net::TcpListener, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, body::Body, server::NamedService};

use crate::{
    domain::OrganizationId,
    idempotency::Keep,
    tests::{Replica, by, postgres, sqlite},
};

/// The one method of the rate-limit service that is called here, on a port of its own.
#[derive(Clone, Default)]
pub(crate) struct RateLimit {
    told: Arc<Mutex<Vec<(String, u64)>>>,
    /// How many calls fail before one is taken.
    failing: Arc<AtomicUsize>,
    /// None is answered before so many have come.
    together: usize,
}

impl NamedService for RateLimit {
    const NAME: &'static str = "tidegate.ratelimit.v1.RateLimitService";
}

impl tonic::server::UnaryService<FenceOrganizationRequest> for RateLimit {
    type Response = FenceOrganizationResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<FenceOrganizationResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<FenceOrganizationRequest>) -> Self::Future {
        if self.failing.load(Ordering::SeqCst) > 0 {
            self.failing.fetch_sub(1, Ordering::SeqCst);
            return ready(Err(Status::unavailable("not now"))).boxed();
        }
        let FenceOrganizationRequest { organization_id, generation } = request.into_inner();
        self.told.lock().expect("no panic").push((organization_id, generation));
        let service = self.clone();
        async move {
            while service.told().len() < service.together {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(tonic::Response::new(FenceOrganizationResponse { shared: true }))
        }
        .boxed()
    }
}

impl tower::Service<Request<Body>> for RateLimit {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        async move {
            let codec = tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).unary(service, request).await)
        }
        .boxed()
    }
}

impl RateLimit {
    pub(crate) async fn start(failing: usize) -> (Self, String) {
        Self { failing: Arc::new(failing.into()), ..Self::default() }.listen().await
    }

    async fn listen(self) -> (Self, String) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tonic::transport::Server::builder().add_service(self.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (self, url)
    }

    pub(crate) fn told(&self) -> Vec<(String, u64)> {
        self.told.lock().expect("no panic").clone()
    }

    async fn told_of(&self, organization: OrganizationId, generation: u64) {
        let wanted = (organization.to_string(), generation);
        let told = async {
            while !self.told().contains(&wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), told).await.expect("it is told");
    }
}

#[tokio::test]
async fn a_revocation_that_was_answered_is_known_to_every_rate_limit_service() {
    let ((first, one), (second, two)) = (RateLimit::start(0).await, RateLimit::start(0).await);
    let replica = Replica::with(sqlite().await, &[one, two], 1).await;
    let organization = replica.organization().await.id;
    let key = replica.key(organization).await.key.id;
    assert_eq!(first.told(), [], "a new key is nobody's memory");
    replica.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    let told = [(organization.to_string(), 1)];
    assert_eq!((first.told().as_slice(), second.told().as_slice()), (&told[..], &told[..]));
    // Whoever asks again wants to be sure.
    replica.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    assert_eq!(first.told(), [told[0].clone(), told[0].clone()]);
}

#[tokio::test]
async fn who_changes_the_same_organization_next_does_not_wait_until_the_change_before_is_told() {
    let (service, url) = RateLimit { together: 2, ..RateLimit::default() }.listen().await;
    let replica = Replica::with(sqlite().await, &[url], 1).await;
    let organization = replica.organization().await.id;
    let keys = [replica.key(organization).await.key.id, replica.key(organization).await.key.id];
    let by = by();
    let revoked = keys.map(|key| replica.keys.revoke(&by, organization, key, Keep::nothing()));
    for revoked in futures_util::future::join_all(revoked).await {
        revoked.expect("revoked");
    }
    let mut told: Vec<_> = service.told().into_iter().map(|(_, generation)| generation).collect();
    told.sort_unstable();
    assert_eq!(told, [1, 2], "no call was given up and made again");
}

#[tokio::test]
async fn what_could_not_be_told_is_told_later_and_the_change_is_made() {
    let (service, url) = RateLimit::start(3).await;
    let replica = Replica::with(sqlite().await, &[url], 1).await;
    let organization = replica.organization().await.id;
    let key = replica.key(organization).await.key.id;
    let revoked = replica.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    assert!(revoked.revoked.is_some());
    service.told_of(organization, 1).await;
}

#[tokio::test]
async fn a_change_is_put_in_force_though_its_caller_is_gone() {
    let (service, url) = RateLimit::start(0).await;
    let replica = Replica::with(postgres(1).await.remove(0), &[url], 1).await;
    let organization = replica.organization().await.id;
    let key = replica.key(organization).await.key.id;
    let by = by();
    let mut revoke = Box::pin(replica.keys.revoke(&by, organization, key, Keep::nothing()));
    // Until it is written; then nobody waits for it any more.
    while replica.keys.get(organization, key).await.expect("there").revoked.is_none() {
        if futures_util::poll!(&mut revoke).is_ready() {
            break;
        }
    }
    drop(revoke);
    service.told_of(organization, 1).await;
}

#[tokio::test]
async fn what_was_changed_before_the_service_was_stopped_is_told_by_the_next_one() {
    let store = sqlite().await;
    let before = Replica::new(Arc::clone(&store)).await;
    let organization = before.organization().await.id;
    let key = before.key(organization).await.key.id;
    before.keys.revoke(&by(), organization, key, Keep::nothing()).await.expect("revoked");
    let (service, url) = RateLimit::start(0).await;
    let after = Replica::with(store, &[url], 1).await;
    after.fences.tell_again(&after.feed);
    service.told_of(organization, 1).await;
}
