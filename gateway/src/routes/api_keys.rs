//! API keys: made, listed, looked at.

pub(super) mod answer;
pub(super) mod change;
pub(super) mod credits;
pub(super) mod import;
mod request;
mod schema;
pub(super) mod usage;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use tidegate_proto::keys::v1::{GetApiKeyRequest, ListApiKeysRequest};

use self::{
    answer::{ApiKeyAnswer, ApiKeysAnswer, CreatedAnswer, STATUSES},
    schema::CreateBody,
};
use super::{
    entries,
    form::Form,
    json,
    keys::ask,
    problems::{CallProblems, TenantProblems},
};
use crate::{app::App, edge::RequestContext, problem::Problem, upstream::KeysClient};

/// The parameter that names an organization, which only callers need whose token is for all of them.
const ORGANIZATION: &str = "organization_id";

/// Make an API key
///
/// Its value, `key_value`, is shown this once.
#[utoipa::path(
    post,
    path = "/v1/auth/api-keys",
    tag = "api-keys",
    params(
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = CreateBody,
    responses(
        (status = 201, description = "The key with its value", body = CreatedAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = request::create(&mut form);
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.create_api_key(asked).await };
    let made = ask(&app, &context, asked, send).await?;
    let key = made.key.unwrap_or_default();
    entries::answer(StatusCode::CREATED, &CreatedAnswer::new(&key, made.key_value), &key.etag)
}

/// List API keys
///
/// The newest first, never their values.
#[utoipa::path(
    get,
    path = "/v1/auth/api-keys",
    tag = "api-keys",
    params(
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("search" = Option<String>, Query, description = "Only those whose name or prefix contains this, without regard to case"),
        ("status" = Option<String>, Query, description = "Only those that are `active`, `disabled`, `expired` or `revoked`"),
        ("lineage_id" = Option<String>, Query, description = "Only those that were rotated from or to each other"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = ApiKeysAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let (page_size, page_token) = form.page();
    let asked = ListApiKeysRequest {
        organization_id: form.parameter(ORGANIZATION),
        page_size,
        page_token,
        search: form.parameter("search"),
        status: form.parameter_of("status", &STATUSES).map_or(0, Into::into),
        lineage_id: form.parameter("lineage_id"),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.list_api_keys(asked).await };
    let page = ask(&app, &context, asked, send).await?;
    let api_keys = page.keys.iter().map(ApiKeyAnswer::new).collect();
    json(&ApiKeysAnswer { api_keys, next_page_token: page.next_page_token })
}

/// Show an API key
///
/// Never its value.
#[utoipa::path(
    get,
    path = "/v1/auth/api-keys/{id}",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token")
    ),
    responses(
        (status = 200, description = "The key", body = ApiKeyAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn get(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let asked = GetApiKeyRequest { organization_id: form.parameter(ORGANIZATION), api_key_id };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.get_api_key(asked).await };
    answer::shown(ask(&app, &context, asked, send).await?.key)
}
