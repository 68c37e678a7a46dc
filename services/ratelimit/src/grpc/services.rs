//! The services of one port, by the paths of their methods.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{Request, Response};
use tidegate_chassis::direct::Replayed;
use tidegate_proto::{
    envoy::service::{
        auth::v3::authorization_server as of_ext_authz, ratelimit::v3::rate_limit_service_server as of_envoy,
    },
    ratelimit::v1::rate_limit_service_server as own,
};
use tonic::{body::Body, codegen::BoxFuture};
use tower::Service;

use super::{AuthorizationApi, EnvoyApi, RateLimitApi};

/// Names of the services.
pub(crate) const NAMES: &[&str] = &[own::SERVICE_NAME, of_envoy::SERVICE_NAME, of_ext_authz::SERVICE_NAME];

/// Calls the service that a path names; one that none has is answered by ours, UNIMPLEMENTED.
#[derive(Clone)]
pub(crate) struct Services {
    own: own::RateLimitServiceServer<RateLimitApi>,
    envoy: of_envoy::RateLimitServiceServer<EnvoyApi>,
    ext_authz: of_ext_authz::AuthorizationServer<AuthorizationApi>,
}

impl Services {
    /// The services of `api`, which refuse longer messages.
    pub(crate) fn new(api: RateLimitApi, max_message_bytes: usize) -> Self {
        let envoy = of_envoy::RateLimitServiceServer::new(EnvoyApi(api.clone()));
        let ext_authz = of_ext_authz::AuthorizationServer::new(AuthorizationApi(api.clone()));
        Self {
            own: own::RateLimitServiceServer::new(api).max_decoding_message_size(max_message_bytes),
            envoy: envoy.max_decoding_message_size(max_message_bytes),
            ext_authz: ext_authz.max_decoding_message_size(max_message_bytes),
        }
    }
}

impl Service<Request<Replayed>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Replayed>) -> Self::Future {
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        if path.starts_with(of_envoy::SERVICE_NAME) {
            self.envoy.call(request)
        } else if path.starts_with(of_ext_authz::SERVICE_NAME) {
            self.ext_authz.call(request)
        } else {
            self.own.call(request)
        }
    }
}
