//! Credits of a key's lineage.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use serde::Serialize;
use tidegate_proto::keys::v1::{Credits, GetCreditsRequest, GrantCreditsRequest};
use utoipa::ToSchema;

use super::{ORGANIZATION, schema::GrantBody};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    routes::{
        form::Form,
        json,
        keys::ask,
        problems::{CallProblems, TenantProblems},
        times::moment,
    },
    upstream::KeysClient,
};

/// Show the credits of an API key
///
/// They belong to its lineage. What replicas hold and did not spend yet is not among them.
#[utoipa::path(
    get,
    path = "/v1/auth/api-keys/{id}/credits",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "The key"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token")
    ),
    responses(
        (status = 200, description = "The credits", body = CreditsAnswer),
        (status = 409, description = "It has no account of credits",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn show(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let asked = GetCreditsRequest { organization_id: form.parameter(ORGANIZATION), api_key_id };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.get_credits(asked).await };
    json(&CreditsAnswer::new(&ask(&app, &context, asked, send).await?.credits.unwrap_or_default()))
}

/// Give an API key credits
///
/// Or change their refill. With credits a key is denied when they are used up.
#[utoipa::path(
    post,
    path = "/v1/auth/api-keys/{id}/credits",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "The key"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = GrantBody,
    responses(
        (status = 200, description = "The credits as they are now", body = CreditsAnswer),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn grant(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = GrantCreditsRequest {
        organization_id: form.parameter(ORGANIZATION),
        api_key_id,
        amount: form.number("amount").unwrap_or_default(),
        refill_amount: form.number("refill_amount"),
        // More days than fit are for the service to refuse.
        refill_every_days: form
            .number("refill_every_days")
            .map(|days| u32::try_from(days).unwrap_or(u32::MAX)),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.grant_credits(asked).await };
    json(&CreditsAnswer::new(&ask(&app, &context, asked, send).await?.credits.unwrap_or_default()))
}

/// Credits of a lineage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credits)]
struct CreditsAnswer {
    /// What is left.
    balance: u64,
    /// What each refill sets the balance to, at least; 0 for no refill.
    refill_amount: u64,
    /// Days between refills; 0 for no refill.
    refill_every_days: u32,
    /// When the next refill is due: RFC 3339, UTC; null for none.
    next_refill_at: Option<String>,
}

impl CreditsAnswer {
    fn new(of: &Credits) -> Self {
        Self {
            balance: of.balance,
            refill_amount: of.refill_amount,
            refill_every_days: of.refill_every_days,
            next_refill_at: moment(of.next_refill_at_ms),
        }
    }
}
