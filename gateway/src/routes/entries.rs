//! What the calls about policies and plans have in common.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::{Request, Status};

use super::{etag, failed, json};
use crate::{
    app::App,
    body::fields::object,
    edge::RequestContext,
    problem::{Problem, Violations},
    upstream::ServiceClient,
};

/// Makes one call of the service that the client is of. `entry` is the field of the request that the body is: it is cut off the names of wrong fields.
pub(super) async fn call<C: ServiceClient, T: Clone, R, F>(
    app: &App,
    context: &RequestContext,
    entry: &str,
    request: T,
    send: impl Fn(C, Request<T>) -> F,
) -> Result<R, Box<Problem>>
where
    F: Future<Output = Result<tonic::Response<R>, Status>>,
{
    let answer = app.upstream(C::OF)?.ask(request, context, send).await;
    answer.map_err(|status| {
        let mut problem = failed(&status, context);
        for violation in &mut problem.violations {
            match violation.field.strip_prefix(entry) {
                Some("") => "body".clone_into(&mut violation.field),
                Some(rest) if rest.starts_with('.') => violation.field = rest[1..].to_owned(),
                Some(_) | None => {}
            }
        }
        problem
    })
}

/// An answer with a status and an etag.
pub(super) fn answer(
    status: StatusCode,
    value: &impl Serialize,
    etag: &str,
) -> Result<Response, Box<Problem>> {
    let mut response = json(value)?;
    *response.status_mut() = status;
    etag::write(&mut response, etag);
    Ok(response)
}

/// An answer without a body.
pub(super) fn gone() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// There is nothing of that id.
pub(super) fn not_found(what: &str) -> Box<Problem> {
    Box::new(Problem::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}")))
}

/// What `entry` becomes by the fields of `patch`: each takes the place of one of the same name, and null takes it away
/// (RFC 7396, but that fields are replaced as a whole). Names that identify it stay.
pub(super) fn merged(
    entry: &impl Serialize,
    patch: Value,
    fixed: &[&str],
    violations: &mut Violations,
) -> Value {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(entry) else { return Value::Object(Map::new()) };
    for (name, value) in object(patch, "", violations).unwrap_or_default() {
        if fixed.contains(&&*name) && fields.get(&name) != Some(&value) {
            violations.add(name, "cannot be changed");
        } else if value.is_null() {
            fields.remove(&name);
        } else {
            fields.insert(name, value);
        }
    }
    Value::Object(fields)
}
