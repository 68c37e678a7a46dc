//! Keys of another system.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_proto::keys::v1::{ImportApiKeysRequest, ImportedKey, imported_key};
use utoipa::ToSchema;

use super::{
    ORGANIZATION,
    answer::{ApiKeyAnswer, ENVIRONMENTS},
    schema::ImportBody,
};
use crate::{
    app::App,
    body::fields::{map, path, sha256, text, texts, word},
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    routes::{
        form::{Form, time_or_never},
        json,
        keys::ask,
        problems::{CallProblems, TenantProblems},
    },
    upstream::KeysClient,
};

/// Take in keys of another system
///
/// By the SHA-256 of their values, which so stay as they are. All are taken in or none.
#[utoipa::path(
    post,
    path = "/v1/auth/api-keys:import",
    tag = "api-keys",
    params(
        ("organization_id" = Option<String>, Query, description = "The organization; absent means that of the token"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = ImportBody,
    responses(
        (status = 201, description = "The keys, in the order of the request", body = ImportedAnswer),
        (status = 409, description = "One of them is known already",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn import(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = ImportApiKeysRequest {
        organization_id: form.parameter(ORGANIZATION),
        keys: form.objects("keys", key).unwrap_or_default(),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.import_api_keys(asked).await };
    let imported = ask(&app, &context, asked, send).await?;
    let api_keys = imported.keys.iter().map(ApiKeyAnswer::new).collect();
    let mut response = json(&ImportedAnswer { api_keys })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn key(at: &str, fields: &mut Map<String, Value>, violations: &mut Violations) -> ImportedKey {
    let expires_at = fields.remove("expires_at");
    let metadata = fields.remove("metadata");
    let metadata = metadata.map(|value| map(value, &path(at, "metadata"), violations)).unwrap_or_default();
    ImportedKey {
        key_sha256: sha256(fields, at, "key_sha256", violations).into(),
        name: text(fields, at, "name", violations),
        key_prefix: text(fields, at, "key_prefix", violations),
        environment: word(fields, at, "environment", &ENVIRONMENTS, violations).map_or(0, Into::into),
        scopes: texts(fields, at, "scopes", violations),
        expires_at_ms: expires_at.and_then(|time| time_or_never(&time, path(at, "expires_at"), violations)),
        metadata: metadata
            .into_iter()
            .map(|(key, value)| imported_key::MetadataEntry { key, value })
            .collect(),
    }
}

/// Keys that were taken in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeysImported)]
struct ImportedAnswer {
    /// In the order of the request.
    api_keys: Vec<ApiKeyAnswer>,
}
