//! `tidegate.ratelimit.v1` on the wire: the only place that knows both proto and domain.

mod access;
mod direct;
mod envoy;
mod error;
mod ext_authz;
pub(crate) mod fields;
mod keyed;
mod named;
mod overrides;
mod pages;
mod parse;
mod plans;
mod policies;
mod render;
mod scope;
mod services;
mod shared;
mod stream;
mod upgrade_hook;
mod usage;

use std::sync::Arc;

use tidegate_chassis::{auth::caller, clock::Random};
use tidegate_proto::{
    Encoded, Writer,
    ratelimit::v1::{self as pb, rate_limit_service_server::RateLimitService},
};
use tonic::{Request, Response, Status, Streaming};

pub use self::access::ACCESS;
use self::{
    envoy::EnvoyApi,
    error::to_status,
    ext_authz::AuthorizationApi,
    named::{Named, clears_quota},
    policies::Entries,
    render::Renderer,
    scope::Scope,
    shared::{Shared, refused},
};
pub(crate) use self::{
    services::{NAMES, Services},
    upgrade_hook::{HookAddress, UpgradeHook},
};
use crate::{
    catalog::Catalog,
    keys::Keys,
    limiter::{CheckError, Limiter, Question, Verdict},
    metrics::CheckStats,
    usage::WorkerUsage,
};

/// Room for an answer with the limits of a plan; others take more.
const ANSWER_BYTES: usize = 256;

/// Numbers of the fields of `CheckBatchResponse` and `CheckBatchResult`.
const RESULTS: u8 = 1;
const RESULT: u8 = 1;

type Decided<'p> = Result<Verdict<'p>, CheckError>;

/// The service of one worker.
#[derive(Clone)]
pub(crate) struct RateLimitApi {
    shared: Arc<Shared>,
}

impl RateLimitApi {
    /// Serves `limiter`, whose policies are those of `catalog`; API keys are those that `keys` knows.
    pub(crate) fn new(
        limiter: Limiter,
        catalog: Catalog,
        random: Random,
        stats: Arc<CheckStats>,
        usage: WorkerUsage,
        keys: Option<Keys>,
    ) -> Self {
        let renderer = Renderer::new(random);
        Self { shared: Arc::new(Shared { limiter, catalog, renderer, stats, usage, keys }) }
    }

    fn entries(&self) -> Entries<'_> {
        Entries(&self.shared.catalog)
    }
}

#[tonic::async_trait]
impl RateLimitService for RateLimitApi {
    type CheckStreamStream = stream::Answers;

    async fn check(
        &self,
        request: Request<Encoded<pb::CheckRequest>>,
    ) -> Result<Response<Encoded<pb::CheckResponse>>, Status> {
        let view = request.get_ref().view()?;
        let asked = parse::check(&view)?;
        let scope = Scope::of(&request)?;
        scope.check(&view)?;
        let limiter = &self.shared.limiter;
        let policies = limiter.policies();
        if !view.api_key.is_empty() {
            let answer = self.shared.check_by_key(&policies, &view, scope).await?;
            return Ok(Response::new(Encoded::from_bytes(answer)));
        }
        let asked = scope.bind(asked);
        let decided = limiter.check(&policies, asked).await;
        self.shared.count(&decided, &policies, &asked);
        let verdict = decided.map_err(|error| to_status(&error))?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        self.shared.renderer.check(&verdict, &mut Writer::new(&mut answer));
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn check_batch(
        &self,
        request: Request<Encoded<pb::CheckBatchRequest>>,
    ) -> Result<Response<Encoded<pb::CheckBatchResponse>>, Status> {
        let checks = parse::batch(request.get_ref())?;
        let scope = Scope::of(&request)?;
        checks.iter().try_for_each(|view| scope.check(view))?;
        Ok(Response::new(Encoded::from_bytes(self.shared.batch(&checks, scope).await)))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<Encoded<pb::CheckStreamRequest>>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        let scope = Scope::of(&request)?;
        Ok(Response::new(stream::answers(Arc::clone(&self.shared), scope, request.into_inner())))
    }

    async fn peek(
        &self,
        request: Request<pb::PeekRequest>,
    ) -> Result<Response<Encoded<pb::PeekResponse>>, Status> {
        let view = parse::peek(request.get_ref());
        let asked = parse::check(&view)?;
        Scope::of(&request)?.check(&view)?;
        let policies = self.shared.limiter.policies();
        let verdict = self.shared.limiter.peek(&policies, asked, &[]).await;
        let verdict = verdict.map_err(|error| to_status(&error))?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        Writer::new(&mut answer).long_message(1, |out| self.shared.renderer.check(&verdict, out));
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn reset(&self, request: Request<pb::ResetRequest>) -> Result<Response<pb::ResetResponse>, Status> {
        let view = parse::reset(request.get_ref());
        parse::check(&view)?;
        let scope = Scope::of(&request)?;
        scope.check(&view)?;
        let limit = Some(request.get_ref().limit.as_str()).filter(|name| !name.is_empty());
        let with_quota = clears_quota(caller(&request)?, limit)?;
        let named = Named::of(&self.shared, &view, scope, with_quota).await?;
        let attributes = named.attributes(&view);
        let policies = self.shared.limiter.policies();
        let question = named.question(&view, &attributes, scope);
        let cleared = self.shared.limiter.reset(&policies, question, limit, named.limits()).await;
        let cleared = cleared.map_err(|error| to_status(&error))?;
        let limits = cleared.iter().map(|limit| limit.full_name.as_ref().to_owned()).collect();
        Ok(Response::new(pb::ResetResponse { limits }))
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        let view = parse::usage(request.get_ref());
        parse::check(&view)?;
        let scope = Scope::of(&request)?;
        scope.check(&view)?;
        let named = Named::of(&self.shared, &view, scope, true).await?;
        let attributes = named.attributes(&view);
        let policies = self.shared.limiter.policies();
        let question = Question { attributes: &attributes[..], ..parse::asked(&view) };
        let verdict = self.shared.limiter.peek(&policies, question, named.limits()).await;
        Ok(Response::new(self.shared.renderer.usage(&verdict.map_err(|error| to_status(&error))?)))
    }

    async fn list_top_keys(
        &self,
        request: Request<pb::ListTopKeysRequest>,
    ) -> Result<Response<pb::ListTopKeysResponse>, Status> {
        Scope::of(&request)?.everything()?;
        usage::top_keys(self.shared.usage.usage(), request.get_ref()).map(Response::new)
    }

    async fn list_policy_stats(
        &self,
        request: Request<pb::ListPolicyStatsRequest>,
    ) -> Result<Response<pb::ListPolicyStatsResponse>, Status> {
        Scope::of(&request)?.everything()?;
        usage::policy_stats(self.shared.usage.usage(), request.get_ref()).map(Response::new)
    }

    async fn acquire_lease(
        &self,
        request: Request<pb::AcquireLeaseRequest>,
    ) -> Result<Response<Encoded<pb::AcquireLeaseResponse>>, Status> {
        let (view, ttl_us) = parse::acquire(request.get_ref())?;
        let scope = Scope::of(&request)?;
        scope.check(&view)?;
        let limiter = &self.shared.limiter;
        let (policies, asked) = (limiter.policies(), scope.bind(parse::asked(&view)));
        let decided = limiter.acquire(&policies, asked, ttl_us).await;
        self.shared.count(&decided, &policies, &asked);
        let verdict = decided.map_err(|error| to_status(&error))?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        Writer::new(&mut answer).long_message(1, |out| self.shared.renderer.check(&verdict, out));
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn renew_lease(
        &self,
        request: Request<pb::RenewLeaseRequest>,
    ) -> Result<Response<pb::RenewLeaseResponse>, Status> {
        let pb::RenewLeaseRequest { lease_id, ttl_ms } = request.get_ref();
        let (token, ttl_us) = parse::lease(lease_id, *ttl_ms)?;
        let renewed = self.shared.limiter.renew(&token, ttl_us).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::RenewLeaseResponse { lease: Some(render::lease(&renewed)) }))
    }

    async fn release_lease(
        &self,
        request: Request<pb::ReleaseLeaseRequest>,
    ) -> Result<Response<pb::ReleaseLeaseResponse>, Status> {
        let (token, _) = parse::lease(&request.get_ref().lease_id, None)?;
        let released = self.shared.limiter.release(&token).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::ReleaseLeaseResponse { released }))
    }

    async fn create_policy(
        &self,
        request: Request<pb::CreatePolicyRequest>,
    ) -> Result<Response<pb::CreatePolicyResponse>, Status> {
        self.entries().create_policy(request.into_inner()).await.map(Response::new)
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        self.entries().get_policy(request.into_inner()).await.map(Response::new)
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        self.entries().list_policies(request.into_inner()).await.map(Response::new)
    }

    async fn update_policy(
        &self,
        request: Request<pb::UpdatePolicyRequest>,
    ) -> Result<Response<pb::UpdatePolicyResponse>, Status> {
        self.entries().update_policy(request.into_inner()).await.map(Response::new)
    }

    async fn delete_policy(
        &self,
        request: Request<pb::DeletePolicyRequest>,
    ) -> Result<Response<pb::DeletePolicyResponse>, Status> {
        self.entries().delete_policy(request.into_inner()).await.map(Response::new)
    }

    async fn list_policy_versions(
        &self,
        request: Request<pb::ListPolicyVersionsRequest>,
    ) -> Result<Response<pb::ListPolicyVersionsResponse>, Status> {
        self.entries().list_policy_versions(request.into_inner()).await.map(Response::new)
    }

    async fn rollback_policy(
        &self,
        request: Request<pb::RollbackPolicyRequest>,
    ) -> Result<Response<pb::RollbackPolicyResponse>, Status> {
        self.entries().rollback_policy(request.into_inner()).await.map(Response::new)
    }

    async fn create_plan(
        &self,
        request: Request<pb::CreatePlanRequest>,
    ) -> Result<Response<pb::CreatePlanResponse>, Status> {
        self.entries().create_plan(request.into_inner()).await.map(Response::new)
    }

    async fn get_plan(
        &self,
        request: Request<pb::GetPlanRequest>,
    ) -> Result<Response<pb::GetPlanResponse>, Status> {
        self.entries().get_plan(request.into_inner()).await.map(Response::new)
    }

    async fn list_plans(
        &self,
        request: Request<pb::ListPlansRequest>,
    ) -> Result<Response<pb::ListPlansResponse>, Status> {
        self.entries().list_plans(request.into_inner()).await.map(Response::new)
    }

    async fn update_plan(
        &self,
        request: Request<pb::UpdatePlanRequest>,
    ) -> Result<Response<pb::UpdatePlanResponse>, Status> {
        self.entries().update_plan(request.into_inner()).await.map(Response::new)
    }

    async fn delete_plan(
        &self,
        request: Request<pb::DeletePlanRequest>,
    ) -> Result<Response<pb::DeletePlanResponse>, Status> {
        self.entries().delete_plan(request.into_inner()).await.map(Response::new)
    }

    async fn set_assignment(
        &self,
        request: Request<pb::SetAssignmentRequest>,
    ) -> Result<Response<pb::SetAssignmentResponse>, Status> {
        self.entries().set_assignment(request.into_inner()).await.map(Response::new)
    }

    async fn delete_assignment(
        &self,
        request: Request<pb::DeleteAssignmentRequest>,
    ) -> Result<Response<pb::DeleteAssignmentResponse>, Status> {
        self.entries().delete_assignment(request.into_inner()).await.map(Response::new)
    }

    async fn list_assignments(
        &self,
        request: Request<pb::ListAssignmentsRequest>,
    ) -> Result<Response<pb::ListAssignmentsResponse>, Status> {
        let scope = Scope::of(&request)?;
        let mut page = self.entries().list_assignments(request.into_inner()).await?;
        page.assignments.retain(|assignment| scope.sees_assignment(assignment));
        Ok(Response::new(page))
    }

    async fn set_override(
        &self,
        request: Request<pb::SetOverrideRequest>,
    ) -> Result<Response<pb::SetOverrideResponse>, Status> {
        self.entries().set_override(request.into_inner()).await.map(Response::new)
    }

    async fn set_overrides(
        &self,
        request: Request<pb::SetOverridesRequest>,
    ) -> Result<Response<pb::SetOverridesResponse>, Status> {
        self.entries().set_overrides(request.into_inner()).await.map(Response::new)
    }

    async fn get_override(
        &self,
        request: Request<pb::GetOverrideRequest>,
    ) -> Result<Response<pb::GetOverrideResponse>, Status> {
        Scope::of(&request)?.key(request.get_ref())?;
        self.entries().get_override(request.into_inner()).await.map(Response::new)
    }

    async fn delete_override(
        &self,
        request: Request<pb::DeleteOverrideRequest>,
    ) -> Result<Response<pb::DeleteOverrideResponse>, Status> {
        self.entries().delete_override(request.into_inner()).await.map(Response::new)
    }

    async fn fence_organization(
        &self,
        request: Request<pb::FenceOrganizationRequest>,
    ) -> Result<Response<pb::FenceOrganizationResponse>, Status> {
        let fence = parse::fence(request.get_ref())?;
        Scope::of(&request)?.internal()?;
        // First here, where nobody need ask the store to notice.
        if let Some(keys) = &self.shared.keys {
            keys.fence(fence);
        }
        let shared = self.shared.limiter.fence(fence).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::FenceOrganizationResponse { shared }))
    }

    async fn list_overrides(
        &self,
        request: Request<pb::ListOverridesRequest>,
    ) -> Result<Response<pb::ListOverridesResponse>, Status> {
        let scope = Scope::of(&request)?;
        let mut page = self.entries().list_overrides(request.into_inner()).await?;
        page.overrides.retain(|of| scope.sees_override(of));
        Ok(Response::new(page))
    }
}

#[cfg(test)]
mod tests;
