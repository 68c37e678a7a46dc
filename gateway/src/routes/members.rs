//! Who belongs to an organization.

#[cfg(test)]
mod tests;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{
    CreatePasswordResetRequest, ListMembersRequest, Member, RemoveMemberRequest, UpdateMemberRequest,
};
use utoipa::ToSchema;

use super::{
    accounts::{MEMBER_ROLES, at, word},
    entries::gone,
    form::Form,
    json,
    keys::ask,
    problems::{CallProblems, TenantProblems},
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    upstream::KeysClient,
};

/// List members
///
/// In the order of joining.
#[utoipa::path(
    get,
    path = "/v1/organizations/{id}/members",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = MembersAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    Path(organization_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let (page_size, page_token) = form.page();
    let context = form.finish()?;
    let asked = ListMembersRequest { organization_id, page_size, page_token };
    let send = |mut client: KeysClient, asked| async move { client.list_members(asked).await };
    let page = ask(&app, &context, asked, send).await?;
    let members = page.members.iter().map(MemberAnswer::new).collect();
    json(&MembersAnswer { members, next_page_token: page.next_page_token })
}

/// Give a member another role
///
/// Tokens that were given before keep theirs until they expire.
#[utoipa::path(
    patch,
    path = "/v1/organizations/{id}/members/{user_id}",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("user_id" = String, Path, description = "The account")
    ),
    request_body = UpdateBody,
    responses(
        (status = 200, description = "The member as it is now", body = MemberAnswer),
        (status = 409, description = "The organization would be left without a `tenant_admin`",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn update(
    State(app): State<App>,
    context: RequestContext,
    Path((organization_id, user_id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let role = form.word("role", &MEMBER_ROLES).map_or(0, Into::into);
    let context = form.finish()?;
    let asked = UpdateMemberRequest { organization_id, user_id, role };
    let send = |mut client: KeysClient, asked| async move { client.update_member(asked).await };
    let member = ask(&app, &context, asked, send).await?.member;
    json(&MemberAnswer::new(&member.unwrap_or_default()))
}

/// End a membership
#[utoipa::path(
    delete,
    path = "/v1/organizations/{id}/members/{user_id}",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("user_id" = String, Path, description = "The account")
    ),
    responses(
        (status = 204, description = "It belongs to the organization no more"),
        (status = 409, description = "The organization would be left without a `tenant_admin`",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn remove(
    State(app): State<App>,
    context: RequestContext,
    Path((organization_id, user_id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let asked = RemoveMemberRequest { organization_id, user_id };
    let send = |mut client: KeysClient, asked| async move { client.remove_member(asked).await };
    ask(&app, &context, asked, send).await?;
    Ok(gone())
}

/// Let a member set a new password
///
/// By a token that is shown this once, and that `POST /v1/auth/password:reset` takes: how it is sent is up to the caller. For a
/// member of several organizations the role `admin` is needed.
#[utoipa::path(
    post,
    path = "/v1/organizations/{id}/members/{user_id}/password-reset",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("user_id" = String, Path, description = "The account"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses((status = 201, description = "The token", body = PasswordResetAnswer), TenantProblems, CallProblems)
)]
pub(crate) async fn reset_password(
    State(app): State<App>,
    context: RequestContext,
    Path((organization_id, user_id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let asked = CreatePasswordResetRequest { organization_id, user_id };
    let send = |mut client: KeysClient, asked| async move { client.create_password_reset(asked).await };
    let made = ask(&app, &context, asked, send).await?;
    let mut response = json(&PasswordResetAnswer { token: made.token, expires_at: at(made.expires_at_ms) })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// A member of an organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
struct MemberAnswer {
    /// The account.
    user_id: String,
    /// Its e-mail address.
    #[schema(example = "ada@example.com")]
    email: String,
    /// `tenant_admin` or `user`.
    #[schema(example = "user")]
    role: &'static str,
    /// When it joined: RFC 3339, UTC.
    #[schema(format = DateTime)]
    joined_at: String,
}

impl MemberAnswer {
    fn new(of: &Member) -> Self {
        Self {
            user_id: of.user_id.clone(),
            email: of.email.clone(),
            role: word(&MEMBER_ROLES, &of.role()),
            joined_at: at(of.joined_at_ms),
        }
    }
}

/// One page of members.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Members)]
struct MembersAnswer {
    /// In the order of joining.
    members: Vec<MemberAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// By which a password can be set.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PasswordReset)]
struct PasswordResetAnswer {
    /// The token, this once.
    token: String,
    /// Until when it can be used: RFC 3339, UTC.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Another role.
#[derive(ToSchema)]
#[schema(as = UpdateMember)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct UpdateBody {
    /// `tenant_admin` or `user`.
    #[schema(example = "user")]
    role: String,
}
