//! Services, as the server calls them.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::Service;

use crate::auth::Origin;

/// A service that is told where its calls come from. Generated services find it among the extensions of their requests, by
/// [`caller`](crate::auth::caller) and [`peer`](crate::auth::peer).
pub trait Served: Clone + Send + 'static {
    /// The answer to come.
    type Future: Future<Output = Result<Response<Body>, Infallible>> + Unpin + Send + 'static;

    /// Answers a call that `origin` may make.
    fn serve(&mut self, request: Request<Incoming>, origin: &Origin) -> Self::Future;
}

impl<S> Served for S
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Unpin + Send + 'static,
{
    type Future = S::Future;

    fn serve(&mut self, mut request: Request<Incoming>, origin: &Origin) -> Self::Future {
        request.extensions_mut().insert(origin.clone());
        self.call(request)
    }
}
