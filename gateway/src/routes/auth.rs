//! How credentials are had: sign up, log in, stay, leave.

pub(super) mod account;
mod schema;
pub(super) mod signing_keys;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{
    ExchangeIdTokenRequest, LogInRequest, LogOutRequest, Organization, RefreshRequest, SignUpRequest, Tokens,
    User,
};
use utoipa::ToSchema;

use self::schema::{IdTokenBody, LogInBody, RefreshBody, SignUpBody};
use super::{
    accounts::{OrganizationAnswer, TokensAnswer, UserAnswer},
    entries::gone,
    form::Form,
    json,
    keys::ask,
    problems::{AttemptProblems, CallProblems},
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    upstream::AuthClient,
};

/// Sign up
///
/// Makes an account and an organization on the plan `free`, of which it is the `tenant_admin`.
#[utoipa::path(
    post,
    path = "/v1/auth/signup",
    tag = "auth",
    security(()),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = SignUpBody,
    responses(
        (status = 201, description = "The account, its organization, and tokens for it", body = SignedUpAnswer),
        (status = 409, description = "There is an account with this address",
            body = ProblemDocument, content_type = "application/problem+json"),
        AttemptProblems,
        CallProblems
    )
)]
pub(crate) async fn sign_up(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = SignUpRequest {
        email: form.text("email"),
        password: form.text("password"),
        organization_name: form.text("organization_name"),
    };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.sign_up(asked).await };
    let made = ask(&app, &context, asked, send).await?;
    let mut response = json(&SignedUpAnswer::new(made.user, made.organization, made.tokens))?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Log in
///
/// An unknown address and a wrong password are told by the same 401 after the same time.
#[utoipa::path(
    post,
    path = "/v1/auth/login",
    tag = "auth",
    security(()),
    request_body = LogInBody,
    responses((status = 200, description = "Tokens", body = TokensAnswer), AttemptProblems, CallProblems)
)]
pub(crate) async fn log_in(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = LogInRequest {
        email: form.text("email"),
        password: form.text("password"),
        organization_id: form.text("organization_id"),
    };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.log_in(asked).await };
    json(&TokensAnswer::new(ask(&app, &context, asked, send).await?.tokens))
}

/// Log in by an external issuer
///
/// By an ID token of an OpenID Connect issuer that the settings of the keys service name.
#[utoipa::path(
    post,
    path = "/v1/auth/id-token",
    tag = "auth",
    security(()),
    request_body = IdTokenBody,
    responses((status = 200, description = "Tokens", body = TokensAnswer), AttemptProblems, CallProblems)
)]
pub(crate) async fn exchange(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = ExchangeIdTokenRequest {
        id_token: form.text("id_token"),
        organization_id: form.text("organization_id"),
    };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.exchange_id_token(asked).await };
    json(&TokensAnswer::new(ask(&app, &context, asked, send).await?.tokens))
}

/// Refresh tokens
///
/// The refresh token is used up. One that is used a second time ends all tokens that came of the same login.
#[utoipa::path(
    post,
    path = "/v1/auth/refresh",
    tag = "auth",
    security(()),
    request_body = RefreshBody,
    responses((status = 200, description = "New tokens", body = TokensAnswer), AttemptProblems, CallProblems)
)]
pub(crate) async fn refresh(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = RefreshRequest { refresh_token: form.text("refresh_token") };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.refresh(asked).await };
    json(&TokensAnswer::new(ask(&app, &context, asked, send).await?.tokens))
}

/// Log out
///
/// Ends all tokens that came of the same login, but for access tokens, which expire. A token that is not known is no error.
#[utoipa::path(
    post,
    path = "/v1/auth/logout",
    tag = "auth",
    security(()),
    request_body = RefreshBody,
    responses((status = 204, description = "They are good no more"), AttemptProblems, CallProblems)
)]
pub(crate) async fn log_out(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = LogOutRequest { refresh_token: form.text("refresh_token") };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.log_out(asked).await };
    ask(&app, &context, asked, send).await?;
    Ok(gone())
}

/// Who one is from now on, with the tokens for it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedUp)]
struct SignedUpAnswer {
    /// The account.
    user: UserAnswer,
    /// Its organization.
    organization: OrganizationAnswer,
    /// Tokens for it.
    #[serde(flatten)]
    tokens: TokensAnswer,
}

impl SignedUpAnswer {
    fn new(user: Option<User>, organization: Option<Organization>, tokens: Option<Tokens>) -> Self {
        Self {
            user: UserAnswer::new(&user.unwrap_or_default()),
            organization: OrganizationAnswer::new(&organization.unwrap_or_default()),
            tokens: TokensAnswer::new(tokens),
        }
    }
}
