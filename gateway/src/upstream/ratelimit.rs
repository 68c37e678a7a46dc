//! The calls of the rate-limit service that several routes make, or that ask every replica.

use std::{future::Future, time::Duration};

use tidegate_proto::ratelimit::v1::{
    CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, GetUsageRequest, GetUsageResponse,
    ListPolicyStatsRequest, ListPolicyStatsResponse, ListTopKeysRequest, ListTopKeysResponse, ResetRequest,
    ResetResponse,
};
use tonic::{Request, Status};

use super::{Answer, RateLimitClient, Upstream};
use crate::edge::RequestContext;

/// The rate-limit service.
#[derive(Debug)]
pub(crate) struct RateLimit(Upstream);

impl RateLimit {
    /// By the calls of `upstream`.
    #[must_use]
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self(upstream)
    }

    /// For any call.
    #[must_use]
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0
    }

    /// One check, within `deadline`.
    ///
    /// # Errors
    /// What the service answered, `UNAVAILABLE` if no address could be reached, or
    /// `DEADLINE_EXCEEDED`.
    pub(crate) async fn check(
        &self,
        check: CheckRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Result<CheckResponse, Status> {
        let send = |mut client: RateLimitClient, request| async move { client.check(request).await };
        self.0.ask_within(check, context, deadline, send).await
    }

    /// One batch.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn check_batch(
        &self,
        batch: CheckBatchRequest,
        context: &RequestContext,
    ) -> Result<CheckBatchResponse, Status> {
        let send = |mut client: RateLimitClient, request| async move { client.check_batch(request).await };
        self.ask(batch, context, send).await
    }

    /// The use of every limit that applies.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn get_usage(
        &self,
        request: GetUsageRequest,
        context: &RequestContext,
    ) -> Result<GetUsageResponse, Status> {
        let send = |mut client: RateLimitClient, request| async move { client.get_usage(request).await };
        self.ask(request, context, send).await
    }

    /// Clears limits.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn reset(
        &self,
        request: ResetRequest,
        context: &RequestContext,
    ) -> Result<ResetResponse, Status> {
        let send = |mut client: RateLimitClient, request| async move { client.reset(request).await };
        self.ask(request, context, send).await
    }

    /// The heaviest keys that each address saw.
    ///
    /// # Errors
    /// Of each address, as [`check`](Self::check).
    pub(crate) async fn list_top_keys(
        &self,
        request: ListTopKeysRequest,
        context: &RequestContext,
    ) -> Vec<Result<ListTopKeysResponse, Status>> {
        let send = |mut client: RateLimitClient, request| async move { client.list_top_keys(request).await };
        self.0.ask_all(request, context, send).await
    }

    /// What policies said at each address.
    ///
    /// # Errors
    /// Of each address, as [`check`](Self::check).
    pub(crate) async fn list_policy_stats(
        &self,
        request: ListPolicyStatsRequest,
        context: &RequestContext,
    ) -> Vec<Result<ListPolicyStatsResponse, Status>> {
        let send =
            |mut client: RateLimitClient, request| async move { client.list_policy_stats(request).await };
        self.0.ask_all(request, context, send).await
    }

    async fn ask<T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        request: T,
        context: &RequestContext,
        send: impl Fn(RateLimitClient, Request<T>) -> F,
    ) -> Result<R, Status> {
        self.0.ask(request, context, send).await
    }
}
