//! Organizations themselves, as the keys service knows them.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{
    CreateOrganizationRequest, GetOrganizationRequest, ListOrganizationsRequest, Organization,
    UpdateOrganizationRequest,
};
use utoipa::ToSchema;

use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument},
    routes::{
        accounts::{OrganizationAnswer, STATUSES},
        entries,
        form::Form,
        json,
        keys::ask,
        problems::{CallProblems, Forbidden, TenantProblems},
    },
    upstream::KeysClient,
};

/// List organizations
///
/// By name. Needs the role `admin`.
#[utoipa::path(
    get,
    path = "/v1/organizations",
    tag = "organizations",
    params(
        ("search" = Option<String>, Query, description = "Only those whose names contain this, without regard to case"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = OrganizationsAnswer), Forbidden, CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::of(context, &request);
    let search = form.parameter("search");
    let (page_size, page_token) = form.page();
    let context = form.finish()?;
    let asked = ListOrganizationsRequest { page_size, page_token, search };
    let send = |mut client: KeysClient, asked| async move { client.list_organizations(asked).await };
    let page = ask(&app, &context, asked, send).await?;
    let organizations = page.organizations.iter().map(OrganizationAnswer::new).collect();
    json(&OrganizationsAnswer { organizations, next_page_token: page.next_page_token })
}

/// Create an organization
///
/// Without members. Needs the role `admin`.
#[utoipa::path(
    post,
    path = "/v1/organizations",
    tag = "organizations",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = CreateBody,
    responses(
        (status = 201, description = "The organization", body = OrganizationAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        Forbidden,
        CallProblems
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = CreateOrganizationRequest { name: form.text("name"), plan: form.text("plan") };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.create_organization(asked).await };
    shown(StatusCode::CREATED, ask(&app, &context, asked, send).await?.organization)
}

/// Show an organization
#[utoipa::path(
    get,
    path = "/v1/organizations/{id}",
    tag = "organizations",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The organization", body = OrganizationAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn get(
    State(app): State<App>,
    context: RequestContext,
    Path(organization_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let context = Form::of(context, &request).finish()?;
    let asked = GetOrganizationRequest { organization_id };
    let send = |mut client: KeysClient, asked| async move { client.get_organization(asked).await };
    shown(StatusCode::OK, ask(&app, &context, asked, send).await?.organization)
}

/// Change an organization
///
/// What is absent stays. `plan`, `status` and `monthly_quota` can be changed by `admin` only; they are in force for the next check.
#[utoipa::path(
    patch,
    path = "/v1/organizations/{id}",
    tag = "organizations",
    params(
        ("id" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have")
    ),
    request_body = UpdateBody,
    responses(
        (status = 200, description = "The organization as it is now", body = OrganizationAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        TenantProblems,
        CallProblems
    )
)]
pub(crate) async fn update(
    State(app): State<App>,
    context: RequestContext,
    Path(organization_id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut form = Form::read(&app, context, request).await?;
    let asked = UpdateOrganizationRequest {
        organization_id,
        name: form.text_if_any("name"),
        plan: form.text_if_any("plan"),
        status: form.word("status", &STATUSES).map(Into::into),
        monthly_quota: form.number("monthly_quota"),
        etag: form.etag(),
    };
    let context = form.finish()?;
    let send = |mut client: KeysClient, asked| async move { client.update_organization(asked).await };
    shown(StatusCode::OK, ask(&app, &context, asked, send).await?.organization)
}

fn shown(status: StatusCode, organization: Option<Organization>) -> Result<Response, Box<Problem>> {
    let organization = organization.unwrap_or_default();
    entries::answer(status, &OrganizationAnswer::new(&organization), &organization.etag)
}

/// One page of organizations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organizations)]
struct OrganizationsAnswer {
    /// By name.
    organizations: Vec<OrganizationAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// A new organization.
#[derive(ToSchema)]
#[schema(as = CreateOrganization)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct CreateBody {
    /// 1 to 128 characters.
    #[schema(example = "Acme")]
    name: String,
    /// Its plan; absent means `free`.
    #[schema(nullable = false, example = "free")]
    plan: Option<String>,
}

/// What is to change.
#[derive(ToSchema)]
#[schema(as = UpdateOrganization)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct UpdateBody {
    /// 1 to 128 characters.
    #[schema(nullable = false, example = "Acme")]
    name: Option<String>,
    /// By `admin` only. A plan that the rate-limit service does not know denies every check.
    #[schema(nullable = false, example = "startup")]
    plan: Option<String>,
    /// By `admin` only: `active` or `suspended`.
    #[schema(nullable = false, example = "active")]
    status: Option<String>,
    /// By `admin` only: tokens a calendar month (UTC) of all its keys together; 0 for no such quota.
    #[schema(nullable = false)]
    monthly_quota: Option<u64>,
}
