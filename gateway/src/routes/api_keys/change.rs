//! API keys: changed, rotated, revoked.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use tidegate_proto::keys::v1::{RevokeApiKeyRequest, RotateApiKeyRequest};

use super::{
    ORGANIZATION,
    answer::{ApiKeyAnswer, RotatedAnswer, shown},
    request,
    schema::{RotateBody, UpdateBody},
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    routes::{
        form::Form,
        json,
        keys::ask,
        problems::{CallProblems, TenantProblems},
    },
    upstream::KeysClient,
};

/// Change an API key
///
/// What is absent stays. What narrows the key is in force for the next check.
#[utoipa::path(
    patch,
    path = "/v1/auth/api-keys/{id}",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have")
    ),
    request_body = UpdateBody,
    responses(
        (status = 200, description = "The key as it is now", body = ApiKeyAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 409, description = "It is revoked",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn update(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = request::update(api_key_id, &mut form);
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.update_api_key(asked).await };
    shown(ask(&app, &context, asked, send).await?.key)
}

/// Rotate an API key
///
/// A key of the same lineage takes its place: limits, credits and use go on. The old key is denied from its next use on, or after a
/// grace period.
#[utoipa::path(
    post,
    path = "/v1/auth/api-keys/{id}/rotate",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body(content = Option<RotateBody>, description = "May be left out"),
    responses(
        (status = 200, description = "Both keys, the new one with its value", body = RotatedAnswer),
        (status = 409, description = "It is revoked",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn rotate(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read_if_any(&app, context, request).await?;
    let asked = RotateApiKeyRequest {
        organization_id: form.parameter(ORGANIZATION),
        api_key_id,
        grace_period_s: form.number("grace_period_seconds").unwrap_or_default(),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.rotate_api_key(asked).await };
    json(&RotatedAnswer::new(ask(&app, &context, asked, send).await?))
}

/// Revoke an API key
///
/// It is denied from its next use on. One that is revoked already stays as it is.
#[utoipa::path(
    post,
    path = "/v1/auth/api-keys/{id}/revoke",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKeyAnswer),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn revoke(
    State(app): State<App>,
    context: RequestContext,
    Path(api_key_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read_if_any(&app, context, request).await?;
    let asked = RevokeApiKeyRequest { organization_id: form.parameter(ORGANIZATION), api_key_id };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.revoke_api_key(asked).await };
    shown(ask(&app, &context, asked, send).await?.key)
}

/// Revoke an API key, in other words
///
/// As `POST /v1/auth/api-keys/{id}/revoke`: a key that was there once stays in lists.
#[utoipa::path(
    delete,
    path = "/v1/auth/api-keys/{id}",
    tag = "api-keys",
    params(
        ("id" = String, Path, description = "Its id"),
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token")
    ),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKeyAnswer),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn delete(
    app: State<App>,
    context: RequestContext,
    id: Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    revoke(app, context, id, request).await
}
