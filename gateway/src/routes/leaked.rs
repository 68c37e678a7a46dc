//! Keys that were found where they should not be.

use axum::{
    extract::{Request, State},
    response::Response,
};
use tidegate_proto::keys::v1::ReportLeakedKeyRequest;
use utoipa::ToSchema;

use super::{
    entries::gone,
    form::Form,
    keys::ask,
    problems::{AttemptProblems, CallProblems},
};
use crate::{app::App, edge::RequestContext, problem::Problem, upstream::KeysClient};

/// Revoke a key that leaked
///
/// For whoever found it, and for scanners: to know its value, or the SHA-256 of it, is the right to do so. The answer does not tell
/// whether there was such a key.
#[utoipa::path(
    post,
    path = "/v1/keys:leaked",
    tag = "api-keys",
    security(()),
    request_body = LeakedBody,
    responses(
        (status = 204, description = "If there was such a key, it is denied from its next use on"),
        AttemptProblems,
        CallProblems
    )
)]
pub(crate) async fn report(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = ReportLeakedKeyRequest {
        api_key: form.text("api_key"),
        key_sha256: form.sha256("key_sha256").into(),
        source: form.text("source"),
        url: form.text("url"),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.report_leaked_key(asked).await };
    ask(&app, &context, asked, send).await?;
    Ok(gone())
}

/// What was found, and where. One of `api_key` and `key_sha256` is needed.
#[derive(ToSchema)]
#[schema(as = LeakedKey)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct LeakedBody {
    /// The value of the key.
    #[schema(nullable = false)]
    api_key: Option<String>,
    /// SHA-256 of the value: 64 hexadecimal digits.
    #[schema(nullable = false)]
    key_sha256: Option<String>,
    /// Who found it: at most 128 characters.
    #[schema(nullable = false, example = "code-scanner")]
    source: Option<String>,
    /// Where: at most 1,024 characters.
    #[schema(nullable = false, example = "https://example.com/leak")]
    url: Option<String>,
}
