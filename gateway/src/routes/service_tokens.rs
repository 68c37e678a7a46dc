//! Tokens by which backends show who they are.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{
    CreateServiceTokenRequest, ListServiceTokensRequest, RevokeServiceTokenRequest, ServiceToken,
};
use utoipa::ToSchema;

use super::{
    accounts::at,
    form::Form,
    json,
    keys::ask,
    problems::{CallProblems, TenantProblems},
    times::moment,
};
use crate::{app::App, edge::RequestContext, problem::Problem, upstream::KeysClient};

/// Make a token for a backend
///
/// It is shown this once. One for all organizations is made by `admin` only.
#[utoipa::path(
    post,
    path = "/v1/auth/service-tokens",
    tag = "service-tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = CreateBody,
    responses((status = 201, description = "The token", body = CreatedAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = CreateServiceTokenRequest {
        name: form.text("name"),
        organization_id: form.text("organization_id"),
        expires_at_ms: form.time("expires_at"),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.create_service_token(asked).await };
    let made = ask(&app, &context, asked, send).await?;
    let service_token = ServiceTokenAnswer::new(&made.service_token.unwrap_or_default());
    let mut response = json(&CreatedAnswer { service_token, token: made.token })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// List tokens of backends
///
/// The newest first, never the tokens themselves.
#[utoipa::path(
    get,
    path = "/v1/auth/service-tokens",
    tag = "service-tokens",
    params(
        ("organization_id" = Option<String>, Query, description = "Only those of this organization; absent means all for \
            `admin`, and the caller's for others"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = ServiceTokensAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let organization_id = form.parameter("organization_id");
    let (page_size, page_token) = form.page();
    let context = form.finish()?;
    let asked = ListServiceTokensRequest { organization_id, page_size, page_token };
    let send = |mut client: KeysClient, asked| async move { client.list_service_tokens(asked).await };
    let page = ask(&app, &context, asked, send).await?;
    let service_tokens = page.service_tokens.iter().map(ServiceTokenAnswer::new).collect();
    json(&ServiceTokensAnswer { service_tokens, next_page_token: page.next_page_token })
}

/// Revoke a token of a backend
#[utoipa::path(
    delete,
    path = "/v1/auth/service-tokens/{id}",
    tag = "service-tokens",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The token as it is now", body = ServiceTokenAnswer),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn revoke(
    State(app): State<App>,
    context: RequestContext,
    Path(service_token_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let asked = RevokeServiceTokenRequest { service_token_id };
    let send = |mut client: KeysClient, asked| async move { client.revoke_service_token(asked).await };
    let revoked = ask(&app, &context, asked, send).await?.service_token;
    json(&ServiceTokenAnswer::new(&revoked.unwrap_or_default()))
}

/// A token of a backend, without the token itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceToken)]
struct ServiceTokenAnswer {
    /// Its id.
    id: String,
    /// Its name.
    #[schema(example = "checkout")]
    name: String,
    /// The organization that it is for; null for all of them.
    organization_id: Option<String>,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it is accepted: RFC 3339, UTC.
    #[schema(format = DateTime)]
    expires_at: String,
    /// When it was revoked: RFC 3339, UTC; null if it was not.
    revoked_at: Option<String>,
}

impl ServiceTokenAnswer {
    fn new(of: &ServiceToken) -> Self {
        Self {
            id: of.id.clone(),
            name: of.name.clone(),
            organization_id: Some(of.organization_id.clone()).filter(|id| !id.is_empty()),
            created_at: at(of.created_at_ms),
            expires_at: at(of.expires_at_ms),
            revoked_at: moment(of.revoked_at_ms),
        }
    }
}

/// A new token of a backend.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceTokenCreated)]
struct CreatedAnswer {
    /// What lists show.
    #[serde(flatten)]
    service_token: ServiceTokenAnswer,
    /// The token, this once: send it as `Authorization: Bearer …`.
    token: String,
}

/// One page of tokens of backends.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceTokens)]
struct ServiceTokensAnswer {
    /// The newest first.
    service_tokens: Vec<ServiceTokenAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// A new token of a backend.
#[derive(ToSchema)]
#[schema(as = CreateServiceToken)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct CreateBody {
    /// 1 to 128 characters.
    #[schema(example = "checkout")]
    name: String,
    /// The organization that it is for; absent means all for `admin`, and the caller's for others.
    #[schema(nullable = false)]
    organization_id: Option<String>,
    /// Until when it is accepted: RFC 3339, at most 1,098 days ahead; absent means in 365 days.
    #[schema(nullable = false, format = DateTime)]
    expires_at: Option<String>,
}
