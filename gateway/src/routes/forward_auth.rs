//! What a proxy asks of a request that it is about to pass on: may it?
//!
//! The proxy needs no credentials of its own. It is believed for its address (`forward_auth.trusted`), and the check is made in
//! the gateway's name.

mod counted;
mod original;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tidegate_chassis::auth::RESERVED_NAMESPACES;
use tidegate_proto::ratelimit::v1::{CheckRequest, KeyIdentity, check_request::AttributesEntry};
use tonic::{Code, Status};

use self::{counted::Counted, original::Original};
use super::{
    check::{answer::knows_key, broken},
    failed,
    problems::CallProblems,
    query::Parameters,
};
use crate::{
    access,
    app::App,
    config::ProxiesConfig,
    edge::{ClientAddress, RequestContext},
    problem::{BEARER, Problem, ProblemDocument, Violations},
    rate_limit,
};

const X_API_KEY: &str = "x-api-key";
const ORGANIZATION: HeaderName = HeaderName::from_static("x-tidegate-organization");
const KEY_ID: HeaderName = HeaderName::from_static("x-tidegate-key-id");
const KEY_NAME: HeaderName = HeaderName::from_static("x-tidegate-key-name");
const PLAN: HeaderName = HeaderName::from_static("x-tidegate-plan");
const SCOPES: HeaderName = HeaderName::from_static("x-tidegate-scopes");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-tidegate-environment");

/// What the settings of a proxy say of the check, as parameters.
const IN_QUERY: [&str; 3] = ["namespace", "required_scopes", "cost"];
/// The same where the query is that of the original request.
const IN_HEADERS: [&str; 3] = ["x-tidegate-namespace", "x-tidegate-required-scopes", "x-tidegate-cost"];

/// May this request go on?
///
/// For `auth_request` of nginx, `forward_auth` of Caddy and `ForwardAuth` of Traefik, by any method. The API key is that of the
/// original request, in `X-API-Key` or `Authorization: Bearer`. The address of the caller is what the proxy names; the attributes
/// of the check are `method`, `host` and `path` of the original request, and `ip`.
///
/// For `ext_authz` of Envoy over HTTP, any path below this one is served as well: what follows is the path of the original
/// request, whose method and host are then those of this one. The query is its too, so the parameters are the headers
/// `X-Tidegate-Namespace`, `X-Tidegate-Required-Scopes` and `X-Tidegate-Cost`.
#[utoipa::path(
    get,
    path = "/v1/forward-auth",
    tag = "check",
    security(()),
    params(
        ("namespace" = Option<String>, Query, description = "Namespace of the policies; absent means `default`"),
        ("required_scopes" = Option<String>, Query, description = "What the key must be allowed to do, as `invoices:read or admin`"),
        ("cost" = Option<u64>, Query, description = "Tokens to charge; absent means 1"),
        ("X-API-Key" = Option<String>, Header, description = "The API key"),
        ("Authorization" = Option<String>, Header, description = "`Bearer` and the API key, if there is no `X-API-Key`"),
        ("X-Original-URI" = Option<String>, Header, description = "As nginx tells it; also `X-Original-URL`, `X-Forwarded-Uri`"),
        ("X-Original-Method" = Option<String>, Header, description = "As nginx tells it; also `X-Forwarded-Method`"),
        ("X-Original-Host" = Option<String>, Header, description = "As nginx tells it; also `X-Forwarded-Host`")
    ),
    responses(
        (status = 200, description = "It may; the body is empty", headers(
            ("X-Tidegate-Organization" = String, description = "Id of the key's organization"),
            ("X-Tidegate-Key-Id" = String, description = "Id of the key"),
            ("X-Tidegate-Key-Name" = String, description = "Its name, percent-encoded where it is not printable ASCII"),
            ("X-Tidegate-Plan" = String, description = "Plan of the organization"),
            ("X-Tidegate-Scopes" = String, description = "What the key may do, separated by blanks"),
            ("X-Tidegate-Environment" = String, description = "`live` or `test`"),
            ("X-RateLimit-Limit" = u64, description = "Tokens per period of the binding limit"),
            ("X-RateLimit-Remaining" = u64, description = "Tokens left in it"),
            ("X-RateLimit-Reset" = u64, description = "When it is wholly unused again, in Unix seconds"),
            ("RateLimit-Policy" = String, description = "Every limit"),
            ("RateLimit" = String, description = "The binding limit")
        )),
        (status = 403, description = "The key may not be used so (`ip_forbidden`, `scope_missing`, `organization_suspended`), or the \
            proxy may not ask", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "A limit denies it", body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn ask(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let (parts, _body) = request.into_parts();
    let headers = &parts.headers;
    let mut violations = Violations::default();
    let of_target = Original::of_target(&parts, &mut violations);
    let (parameters, names) = match of_target {
        Some(_) => {
            refuse_slash(&parts.uri, &mut violations);
            (Parameters::of_headers(headers, &IN_HEADERS), IN_HEADERS)
        }
        None => (Parameters::of(&parts.uri, &mut violations), IN_QUERY),
    };
    let mut check = asked(parameters, names, &mut violations);
    let original = of_target.unwrap_or_else(|| Original::of(headers, &mut violations));
    refuse_own(&check.namespace, names[0], &mut violations);
    violations.into_result()?;
    let caller = caller(&app, &context, headers);
    let counted = caller.map(|caller| context.called_by(caller));
    let mut counted = Counted { app: &app, context: counted, pending: None };
    let key = match api_key(headers) {
        Ok(key) => key,
        Err(problem) => return Err(counted.refused(problem).await),
    };
    counted.admit(key).await?;
    key.clone_into(&mut check.api_key);
    check.client_ip = caller.map(|caller| caller.ip.to_string()).unwrap_or_default();
    check.attributes = attributes(&original, caller);
    let context = context.called_by(caller.unwrap_or(context.client));
    let deadline = app.shared.config.upstreams.deadline.get();
    let decision = app.ratelimit.check(check, &context, deadline).await;
    counted.pending = None;
    let decision = decision.map_err(|status| undecided(&status, &context))?;
    knows_key(true, &decision).map_err(|error| broken(&error, &context))?;
    let now_us = app.shared.clock.now_us();
    if !decision.allowed {
        return Err(counted.judged(key, rate_limit::denied(&decision, now_us)).await);
    }
    app.shared.reputation.accept(key.as_bytes());
    let mut response = Response::default();
    if let Some(key) = &decision.key {
        write_identity(response.headers_mut(), key);
    }
    rate_limit::write_headers(response.headers_mut(), &decision, now_us);
    Ok(response)
}

/// Parameters of the call behind a bare slash are those of a proxy that has the slash too many, or of a caller who must not look
/// like one: nobody can tell, and what a proxy requires is never left out.
fn refuse_slash(uri: &Uri, violations: &mut Violations) {
    if uri.path() != access::FORWARD_AUTH_ROOT {
        return;
    }
    let mut given = Parameters::of(uri, &mut Violations::default());
    for name in IN_QUERY {
        if given.text(name, &mut Violations::default()).is_some() {
            violations.add(name, "is a parameter of /v1/forward-auth, without a slash at the end");
        }
    }
}

/// The limits of Tidegate's own services are no proxy's to spend.
fn refuse_own(namespace: &str, field: &str, violations: &mut Violations) {
    if RESERVED_NAMESPACES.contains(&namespace) {
        violations.add(field, "is that of limits of Tidegate's own services");
    }
}

fn asked(mut parameters: Parameters, names: [&str; 3], violations: &mut Violations) -> CheckRequest {
    let [namespace, required_scopes, cost] = names;
    let check = CheckRequest {
        namespace: parameters.text(namespace, violations).unwrap_or_default(),
        required_scopes: parameters.text(required_scopes, violations).unwrap_or_default(),
        cost: parameters.number(cost, violations),
        ..CheckRequest::default()
    };
    parameters.finish(violations);
    check
}

/// The API key of the original request. A backend may use `Authorization` for its own purposes, so `X-API-Key` goes first.
fn api_key(headers: &HeaderMap) -> Result<&str, Box<Problem>> {
    let one = |name: &str| {
        let mut given = headers.get_all(name).iter();
        match (given.next(), given.next()) {
            (Some(value), None) => Ok(Some(value.to_str().map_err(|_| no_key("The API key is not ASCII"))?)),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(no_key("There is more than one API key")),
        }
    };
    let bearer = || one(header::AUTHORIZATION.as_str()).map(|value| value.and_then(access::bearer));
    let key = match one(X_API_KEY)? {
        Some(key) => Some(key.trim()),
        None => bearer()?,
    };
    key.filter(|key| !key.is_empty())
        .ok_or_else(|| no_key("An API key is needed, in X-API-Key or as Authorization: Bearer"))
}

fn no_key(words: &'static str) -> Box<Problem> {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", words);
    Box::new(problem.with_header(header::WWW_AUTHENTICATE, BEARER))
}

/// A service that does not believe the gateway says nothing of the caller's key, so its 401 is not the caller's.
fn undecided(status: &Status, context: &RequestContext) -> Box<Problem> {
    if !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
        return failed(status, context);
    }
    let (code, message, request_id) = (status.code(), status.message(), context.request_id());
    tracing::error!(
        ?code,
        message,
        request_id,
        "the rate-limit service does not believe the gateway: auth.internal_secret"
    );
    let words = "The service behind this call does not believe the gateway";
    Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", words))
}

/// Whom the proxy names. It is never the caller itself, so one that names nobody leaves the caller unknown.
fn caller(app: &App, context: &RequestContext, headers: &HeaderMap) -> Option<ClientAddress> {
    let config = &app.shared.config;
    let trusted = config.forward_auth.trusted.iter().chain(&config.proxies.trusted).copied().collect();
    let proxies = ProxiesConfig { trusted, header: config.proxies.header };
    ClientAddress::named(context.peer, headers, &proxies)
}

fn attributes(original: &Original, caller: Option<ClientAddress>) -> Vec<AttributesEntry> {
    let known = [
        ("method", original.method.clone()),
        ("host", original.host.clone()),
        ("path", original.path.clone()),
        ("ip", caller.map(|caller| caller.key())),
    ];
    let entry =
        |(key, value): (&str, Option<String>)| Some(AttributesEntry { key: key.to_owned(), value: value? });
    known.into_iter().filter_map(entry).collect()
}

fn write_identity(headers: &mut HeaderMap, key: &KeyIdentity) {
    let written = [
        (ORGANIZATION, encoded(&key.organization_id)),
        (KEY_ID, encoded(&key.id)),
        (KEY_NAME, encoded(&key.name)),
        (PLAN, encoded(&key.plan)),
        (SCOPES, encoded(&key.scopes.join(" "))),
        (ENVIRONMENT, encoded(&key.environment)),
    ];
    for (name, value) in written {
        headers.insert(name, value);
    }
}

/// Printable ASCII as it is, but `%`; the rest percent-encoded (RFC 3986, 2.1), so that no name can break out of its header.
fn encoded(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => write!(value, "%{byte:02X}").expect("a String takes every write"),
            _ => value.push(char::from(byte)),
        }
    }
    HeaderValue::try_from(value).expect("it is printable ASCII")
}
