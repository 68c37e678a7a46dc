//! How a key was used.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use serde::Serialize;
use tidegate_proto::keys::v1::GetApiKeyUsageRequest;
use utoipa::ToSchema;

use super::ORGANIZATION;
use crate::{
    app::App,
    edge::RequestContext,
    problem::Problem,
    routes::{
        form::Form,
        json,
        keys::ask,
        problems::{CallProblems, TenantProblems},
    },
    upstream::KeysClient,
};

/// Show how an API key was used
///
/// By day (UTC) and outcome, as far as replicas have told: they do so every few seconds.
#[utoipa::path(
    get,
    path = "/v1/auth/api-keys/{id}/usage",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("from" = Option<String>, Query, description = "The first day, as `2026-11-01`; absent means 29 days before the last"),
        ("to" = Option<String>, Query, description = "The last day; absent means today. At most 366 days")
    ),
    responses((status = 200, description = "Its use", body = UsageAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn show(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let asked = GetApiKeyUsageRequest {
        organization_id: form.parameter(ORGANIZATION),
        api_key_id: api_key_id.clone(),
        from_day: form.parameter("from"),
        to_day: form.parameter("to"),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.get_api_key_usage(asked).await };
    let used = ask(&app, &context, asked, send).await?.usage.into_iter();
    let usage = used.map(|of| CountAnswer { day: of.day, outcome: of.outcome, count: of.count }).collect();
    json(&UsageAnswer { id: api_key_id, usage })
}

/// How an API key was used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyUsage)]
struct UsageAnswer {
    /// The key.
    id: String,
    /// By day, then outcome; days without any use are not listed.
    usage: Vec<CountAnswer>,
}

/// Checks of one day with one outcome.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyUsageCount)]
struct CountAnswer {
    /// The day, UTC.
    #[schema(example = "2026-11-29")]
    day: String,
    /// The code that they were answered, as `ok` or `rate_limited`.
    #[schema(example = "ok")]
    outcome: String,
    /// How many.
    count: u64,
}
