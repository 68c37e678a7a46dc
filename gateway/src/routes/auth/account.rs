//! One's own account: who one is, the password, and invitations.

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde::Serialize;
use tidegate_proto::keys::v1::{
    AcceptInvitationRequest, ChangePasswordRequest, GetMeRequest, GetMeResponse, ResetPasswordRequest,
};
use utoipa::ToSchema;

use super::{
    SignedUpAnswer,
    schema::{AcceptInvitationBody, ChangePasswordBody, ResetPasswordBody},
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    routes::{
        accounts::{OrganizationAnswer, ROLES, TokensAnswer, UserAnswer, word},
        entries::gone,
        form::Form,
        json,
        keys::ask,
        problems::{AttemptProblems, CallProblems},
    },
    upstream::AuthClient,
};

/// Who am I?
#[utoipa::path(
    get,
    path = "/v1/auth/me",
    tag = "auth",
    responses((status = 200, description = "The caller", body = MeAnswer), CallProblems)
)]
pub(crate) async fn me(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let send = |mut client: AuthClient, asked| async move { client.get_me(asked).await };
    json(&MeAnswer::new(&ask(&app, &context, GetMeRequest {}, send).await?))
}

/// Change one's password
///
/// All other logins of the account end.
#[utoipa::path(
    post,
    path = "/v1/auth/password",
    tag = "auth",
    request_body = ChangePasswordBody,
    responses((status = 200, description = "New tokens", body = TokensAnswer), AttemptProblems, CallProblems)
)]
pub(crate) async fn change_password(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = ChangePasswordRequest {
        current_password: form.text("current_password"),
        new_password: form.text("new_password"),
    };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.change_password(asked).await };
    json(&TokensAnswer::new(ask(&app, &context, asked, send).await?.tokens))
}

/// Set a password by a one-time token
///
/// The token is used up, and all logins of the account end.
#[utoipa::path(
    post,
    path = "/v1/auth/password:reset",
    tag = "auth",
    security(()),
    request_body = ResetPasswordBody,
    responses((status = 204, description = "It is set: log in"), AttemptProblems, CallProblems)
)]
pub(crate) async fn reset_password(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = ResetPasswordRequest { token: form.text("token"), new_password: form.text("new_password") };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.reset_password(asked).await };
    ask(&app, &context, asked, send).await?;
    Ok(gone())
}

/// Accept an invitation
///
/// The invited address becomes a member; an account is made if there is none. Either `password` or `id_token` is needed.
#[utoipa::path(
    post,
    path = "/v1/auth/invitations:accept",
    tag = "auth",
    security(()),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = AcceptInvitationBody,
    responses(
        (status = 200, description = "The account, the organization, and tokens for it", body = SignedUpAnswer),
        (status = 409, description = "The account is a member already",
            body = ProblemDocument, content_type = "application/problem+json"),
        AttemptProblems,
        CallProblems
    )
)]
pub(crate) async fn accept_invitation(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let token = form.text("token");
    let id_token = form.text_if_any("id_token").unwrap_or_default();
    // It goes in the place of a password.
    let password = if id_token.is_empty() {
        form.text("password")
    } else {
        form.text_if_any("password").unwrap_or_default()
    };
    let asked = AcceptInvitationRequest { token, password, id_token };
    let context = form.finish()?;
    let send = |mut client: AuthClient, asked| async move { client.accept_invitation(asked).await };
    let joined = ask(&app, &context, asked, send).await?;
    json(&SignedUpAnswer::new(joined.user, joined.organization, joined.tokens))
}

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
struct MeAnswer {
    /// What the caller may do: `admin`, `tenant_admin`, `user` or `service`.
    #[schema(example = "tenant_admin")]
    role: &'static str,
    /// The account; null for a service.
    user: Option<UserAnswer>,
    /// The organization that the token is for; null if it is for all of them.
    organization: Option<OrganizationAnswer>,
    /// Every organization of the account, in the order of joining.
    memberships: Vec<MembershipAnswer>,
    /// Name of the service; absent for an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    service_name: Option<String>,
}

/// That somebody belongs to an organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Membership)]
struct MembershipAnswer {
    /// The organization.
    organization_id: String,
    /// Its name.
    organization_name: String,
    /// `tenant_admin` or `user`.
    role: &'static str,
}

impl MeAnswer {
    fn new(me: &GetMeResponse) -> Self {
        let memberships = me.memberships.iter().map(|of| MembershipAnswer {
            organization_id: of.organization_id.clone(),
            organization_name: of.organization_name.clone(),
            role: word(&ROLES, &of.role()),
        });
        Self {
            role: word(&ROLES, &me.role()),
            user: me.user.as_ref().map(UserAnswer::new),
            organization: me.organization.as_ref().map(OrganizationAnswer::new),
            memberships: memberships.collect(),
            service_name: Some(me.service_name.clone()).filter(|name| !name.is_empty()),
        }
    }
}
