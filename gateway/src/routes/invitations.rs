//! How somebody becomes a member.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{
    CreateInvitationRequest, DeleteInvitationRequest, Invitation, ListInvitationsRequest,
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

/// Invite somebody
///
/// By a token that is shown this once, and that `POST /v1/auth/invitations:accept` takes: how it is sent is up to the caller.
#[utoipa::path(
    post,
    path = "/v1/organizations/{id}/invitations",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = InviteBody,
    responses(
        (status = 201, description = "The invitation", body = InvitedAnswer),
        (status = 409, description = "The address is a member already",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    Path(organization_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let email = form.text("email");
    let role = form.word("role", &MEMBER_ROLES).map_or(0, Into::into);
    let context = form.finish()?;
    let asked = CreateInvitationRequest { organization_id, email, role };
    let send = |mut client: KeysClient, asked| async move { client.create_invitation(asked).await };
    let made = ask(&app, &context, asked, send).await?;
    let invitation = InvitationAnswer::new(&made.invitation.unwrap_or_default());
    let mut response = json(&InvitedAnswer { invitation, token: made.token })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Add a member
///
/// Nobody becomes a member but by an invitation, so this is `POST /v1/organizations/{id}/invitations`.
#[utoipa::path(
    post,
    path = "/v1/organizations/{id}/members",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = InviteBody,
    responses(
        (status = 201, description = "The invitation", body = InvitedAnswer),
        (status = 409, description = "The address is a member already",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn add_member(
    app: State<App>,
    context: RequestContext,
    organization_id: Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    create(app, context, organization_id, request).await
}

/// List invitations
///
/// Those that can be accepted.
#[utoipa::path(
    get,
    path = "/v1/organizations/{id}/invitations",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = InvitationsAnswer), TenantProblems, CallProblems)
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
    let asked = ListInvitationsRequest { organization_id, page_size, page_token };
    let send = |mut client: KeysClient, asked| async move { client.list_invitations(asked).await };
    let page = ask(&app, &context, asked, send).await?;
    let invitations = page.invitations.iter().map(InvitationAnswer::new).collect();
    json(&InvitationsAnswer { invitations, next_page_token: page.next_page_token })
}

/// Take an invitation back
#[utoipa::path(
    delete,
    path = "/v1/organizations/{id}/invitations/{invitation_id}",
    tag = "members",
    params(
        ("id" = String, Path, description = "The organization"),
        ("invitation_id" = String, Path, description = "The invitation")
    ),
    responses((status = 204, description = "It cannot be accepted any more"), TenantProblems, CallProblems)
)]
pub(crate) async fn delete(
    State(app): State<App>,
    context: RequestContext,
    Path((organization_id, invitation_id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let asked = DeleteInvitationRequest { organization_id, invitation_id };
    let send = |mut client: KeysClient, asked| async move { client.delete_invitation(asked).await };
    ask(&app, &context, asked, send).await?;
    Ok(gone())
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
struct InvitationAnswer {
    /// Its id.
    id: String,
    /// Who is invited.
    #[schema(example = "grace@example.com")]
    email: String,
    /// `tenant_admin` or `user`.
    #[schema(example = "user")]
    role: &'static str,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it can be accepted: RFC 3339, UTC.
    #[schema(format = DateTime)]
    expires_at: String,
}

impl InvitationAnswer {
    fn new(of: &Invitation) -> Self {
        Self {
            id: of.id.clone(),
            email: of.email.clone(),
            role: word(&MEMBER_ROLES, &of.role()),
            created_at: at(of.created_at_ms),
            expires_at: at(of.expires_at_ms),
        }
    }
}

/// A new invitation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invited)]
struct InvitedAnswer {
    /// What lists show.
    #[serde(flatten)]
    invitation: InvitationAnswer,
    /// By which it is accepted, this once.
    token: String,
}

/// One page of invitations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitations)]
struct InvitationsAnswer {
    /// Those that can be accepted.
    invitations: Vec<InvitationAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// Whom to invite.
#[derive(ToSchema)]
#[schema(as = Invite)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct InviteBody {
    /// An e-mail address.
    #[schema(example = "grace@example.com")]
    email: String,
    /// `tenant_admin` or `user`.
    #[schema(example = "user")]
    role: String,
}
