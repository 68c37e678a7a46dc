//! Envoy's protocol for external authorization, `envoy.service.auth.v3`: may this request go on, by its API key?

mod answer;
mod client;
mod headers;
mod question;

use tidegate_credentials::Standing;
use tidegate_proto::{
    Encoded,
    envoy::service::auth::v3::{CheckRequest, CheckResponse, authorization_server::Authorization},
    ratelimit::v1 as pb,
};
use tonic::{Request, Response, Status};

use self::{answer::Answer, question::Question};
use super::{RateLimitApi, parse, scope::Scope};
use crate::limiter::Verdict;

/// The service of one worker, for Envoy's filter `ext_authz`.
#[derive(Clone)]
pub(crate) struct AuthorizationApi(pub(crate) RateLimitApi);

#[tonic::async_trait]
impl Authorization for AuthorizationApi {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let scope = Scope::of(&request)?;
        let question = Question::read(request.get_ref())?;
        let (view, shared) = (question.view(), &self.0.shared);
        let policies = shared.limiter.policies();
        let answer = || Answer { path: question.path, now_us: shared.limiter.now_us() };
        if view.api_key.is_empty() {
            let verdict = Verdict::refused_by_key(Standing::KeyNotFound, shared.limiter.now_us());
            shared.count(&Ok(verdict), &policies, &parse::asked(&view));
            return Ok(Response::new(answer().no_key()));
        }
        scope.check(&view)?;
        let decided = shared.check_by_key(&policies, &view, scope).await?;
        let decided = Encoded::<pb::CheckResponse>::from_bytes(decided).decode()?;
        Ok(Response::new(answer().to(&decided, question.key_to_remove())))
    }
}

#[cfg(test)]
mod tests;
