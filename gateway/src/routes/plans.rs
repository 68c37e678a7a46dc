//! Plans.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{
    CreatePlanRequest, DeletePlanRequest, GetPlanRequest, ListPlansRequest, Plan, UpdatePlanRequest,
};
use utoipa::ToSchema;

use super::{
    entries::{self, call, gone, merged},
    etag, json,
    policies::{
        answer::{PlanAnswer, PlanBody},
        request, validate_only,
    },
    problems::CallProblems,
    query::Parameters,
    read_body,
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    upstream::RateLimitClient,
};

/// The field of requests that holds the plan.
const ENTRY: &str = "plan";

/// List plans
///
/// By name, wherever they come from.
#[utoipa::path(
    get,
    path = "/v1/plans",
    tag = "policies",
    params(
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = PlansAnswer), CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let (page_size, page_token) = parameters.page(&mut violations);
    parameters.finish(&mut violations);
    violations.into_result()?;
    let asked = ListPlansRequest { page_size, page_token };
    let send = |mut client: RateLimitClient, asked| async move { client.list_plans(asked).await };
    let page = call(&app, &context, "", asked, send).await?;
    let plans = page.plans.iter().map(PlanAnswer::new).collect();
    json(&PlansAnswer { plans, next_page_token: page.next_page_token })
}

/// Create a plan
///
/// It is kept in the database. One of the same name that is built in is covered by it; one of the policy file is in its way.
#[utoipa::path(
    post,
    path = "/v1/plans",
    tag = "policies",
    params(("validate_only" = Option<bool>, Query, description = "Find out only whether it could be created: 200, and \
        nothing changes")),
    request_body = PlanBody,
    responses(
        (status = 201, description = "The plan", body = PlanAnswer, headers(("ETag" = String, description = "Its etag"))),
        (status = 200, description = "With `validate_only`: it could be created", body = PlanAnswer),
        (status = 409, description = "There is one of that name, or no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let plan = request::plan(body, &mut violations);
    violations.into_result()?;
    let asked = CreatePlanRequest { plan: Some(plan), validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.create_plan(asked).await };
    let created = call(&app, &context, ENTRY, asked, send).await?;
    let status = if validate_only { StatusCode::OK } else { StatusCode::CREATED };
    shown(status, created.plan)
}

/// Show a plan
#[utoipa::path(
    get,
    path = "/v1/plans/{name}",
    tag = "policies",
    params(
        ("name" = String, Path, description = "Its name"),
        ("version" = Option<u64>, Query, description = "That version, be it still in force or not")
    ),
    responses(
        (status = 200, description = "The plan", body = PlanAnswer, headers(("ETag" = String, description = "Its etag"))),
        (status = 404, description = "No such plan, or no such version",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn get(
    State(app): State<App>,
    context: RequestContext,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let version = parameters.number("version", &mut violations).unwrap_or_default();
    parameters.finish(&mut violations);
    violations.into_result()?;
    shown(StatusCode::OK, current(&app, &context, name, version).await?)
}

/// Change a plan
///
/// As a policy is changed: fields of the body take the place of those of the plan, and null takes one away.
#[utoipa::path(
    patch,
    path = "/v1/plans/{name}",
    tag = "policies",
    params(
        ("name" = String, Path, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be changed")
    ),
    request_body = PlanBody,
    responses(
        (status = 200, description = "The plan as it is now", body = PlanAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 404, description = "No such plan",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is built in or of the policy file, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn update(
    State(app): State<App>,
    context: RequestContext,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let asked_etag = etag::asked(request.headers(), &mut violations);
    let patch = read_body(&app, request, &mut violations).await?;
    let before = current(&app, &context, name, 0).await?.unwrap_or_default();
    let body = merged(&PlanBody::new(&before), patch, &["name"], &mut violations);
    let plan = request::plan(body, &mut violations);
    violations.into_result()?;
    let known = before.meta.unwrap_or_default().etag;
    let etag = if asked_etag.is_empty() { known } else { asked_etag };
    let asked = UpdatePlanRequest { plan: Some(plan), etag, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.update_plan(asked).await };
    shown(StatusCode::OK, call(&app, &context, ENTRY, asked, send).await?.plan)
}

/// Delete a plan
///
/// One of the same name that is built in is in force again. Refused while a policy or an assignment needs it.
#[utoipa::path(
    delete,
    path = "/v1/plans/{name}",
    tag = "policies",
    params(
        ("name" = String, Path, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be deleted")
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such plan",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is built in or of the policy file, it is needed, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn delete(
    State(app): State<App>,
    context: RequestContext,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    violations.into_result()?;
    let asked = DeletePlanRequest { name, etag, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.delete_plan(asked).await };
    call(&app, &context, "", asked, send).await?;
    Ok(gone())
}

async fn current(
    app: &App,
    context: &RequestContext,
    name: String,
    version: u64,
) -> Result<Option<Plan>, Box<Problem>> {
    let send = |mut client: RateLimitClient, asked| async move { client.get_plan(asked).await };
    Ok(call(app, context, "", GetPlanRequest { name, version }, send).await?.plan)
}

fn shown(status: StatusCode, plan: Option<Plan>) -> Result<Response, Box<Problem>> {
    let plan = plan.unwrap_or_default();
    let etag = plan.meta.as_ref().map_or("", |meta| &meta.etag);
    entries::answer(status, &PlanAnswer::new(&plan), etag)
}

/// One page of plans.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plans)]
struct PlansAnswer {
    /// By name.
    plans: Vec<PlanAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}
