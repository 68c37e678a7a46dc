//! The public keys by which anybody can verify tokens.

use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use tidegate_proto::keys::v1::{ListSigningKeysRequest, RotateSigningKeyRequest, SigningKey};
use utoipa::ToSchema;

use crate::{
    app::App,
    edge::RequestContext,
    problem::Problem,
    routes::{
        form::Form,
        json,
        keys::ask,
        problems::{CallProblems, Forbidden},
    },
    upstream::AuthClient,
};

/// The keys that sign tokens
///
/// A JSON Web Key Set (RFC 7517) of the public halves. Empty if tokens are signed with a shared secret.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "auth",
    security(()),
    responses((status = 200, description = "The newest first; it signs", body = KeySetAnswer), CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let send = |mut client: AuthClient, asked| async move { client.list_signing_keys(asked).await };
    let listed = ask(&app, &context, ListSigningKeysRequest {}, send).await?;
    json(&KeySetAnswer { keys: listed.keys.iter().map(KeyAnswer::new).collect() })
}

/// Sign by a new key from now on
///
/// Tokens that the one before has signed stay good until they expire.
#[utoipa::path(
    post,
    path = "/v1/auth/signing-keys:rotate",
    tag = "auth",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses((status = 200, description = "The new key", body = KeyAnswer), Forbidden, CallProblems)
)]
pub(crate) async fn rotate(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let send = |mut client: AuthClient, asked| async move { client.rotate_signing_key(asked).await };
    let rotated = ask(&app, &context, RotateSigningKeyRequest {}, send).await?;
    json(&KeyAnswer::new(&rotated.key.unwrap_or_default()))
}

/// Public keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JsonWebKeySet)]
struct KeySetAnswer {
    /// Those that tokens refer to.
    keys: Vec<KeyAnswer>,
}

/// A public key of Ed25519 (RFC 8037).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JsonWebKey)]
struct KeyAnswer {
    /// `OKP`
    kty: &'static str,
    /// `Ed25519`
    crv: &'static str,
    /// `EdDSA`
    alg: String,
    /// `sig`
    #[serde(rename = "use")]
    purpose: &'static str,
    /// As in the head of tokens that it signed.
    kid: String,
    /// The key, in base64url without padding.
    x: String,
}

impl KeyAnswer {
    fn new(key: &SigningKey) -> Self {
        Self {
            kty: "OKP",
            crv: "Ed25519",
            alg: key.algorithm.clone(),
            purpose: "sig",
            kid: key.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(&key.public_key),
        }
    }
}
