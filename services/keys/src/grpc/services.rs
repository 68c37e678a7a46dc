//! The services of one port, by the paths of their methods.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tidegate_proto::keys::v1::{auth_service_server as of_auth, keys_service_server as of_keys};
use tonic::{body::Body, codegen::BoxFuture};
use tower::Service;

use super::{AuthApi, KeysApi};

/// Names of the services.
pub(crate) const NAMES: &[&str] = &[of_keys::SERVICE_NAME, of_auth::SERVICE_NAME];

/// Calls the service that a path names; one that none has is answered by that of keys, UNIMPLEMENTED.
#[derive(Clone)]
pub(crate) struct Services {
    keys: of_keys::KeysServiceServer<KeysApi>,
    auth: of_auth::AuthServiceServer<AuthApi>,
}

impl Services {
    /// The services, which refuse longer messages.
    pub(crate) fn new(keys: KeysApi, auth: AuthApi, max_message_bytes: usize) -> Self {
        Self {
            keys: of_keys::KeysServiceServer::new(keys).max_decoding_message_size(max_message_bytes),
            auth: of_auth::AuthServiceServer::new(auth).max_decoding_message_size(max_message_bytes),
        }
    }
}

impl Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        if path.starts_with(of_auth::SERVICE_NAME) {
            self.auth.call(request)
        } else {
            self.keys.call(request)
        }
    }
}
