//! Who may call a route, and in whose name the gateway passes the call on.
//!
//! What a caller shows is verified by the services behind. Here it is only decided whether a route needs anything, and
//! whether what is shown can be it: so a call that must fail does not travel, and one for which nobody may be asked is never
//! made in the gateway's own name.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    config::ForwardAuthConfig,
    edge::{RequestContext, Speaker},
    problem::{BEARER, Problem},
};

/// Never limited: whoever watches the gateway must not be turned away.
pub(crate) const WATCHED: [&str; 3] = ["/health/live", "/health/ready", "/openapi.json"];
/// Below `/v1/`, and open to anybody: calls by which credentials are had, and one that revokes a key by its value.
pub(crate) const OPEN: [&str; 8] = [
    "/v1/auth/id-token",
    "/v1/auth/invitations:accept",
    "/v1/auth/login",
    "/v1/auth/logout",
    "/v1/auth/password:reset",
    "/v1/auth/refresh",
    "/v1/auth/signup",
    "/v1/keys:leaked",
];
/// Asked by proxies, for each request that they are about to pass on.
pub(crate) const FORWARD_AUTH: &str = "/v1/forward-auth";
/// The same for proxies that put the path of the original request behind it. A template takes no empty path, so there are two.
pub(crate) const FORWARD_AUTH_ROOT: &str = "/v1/forward-auth/";
/// See [`FORWARD_AUTH_ROOT`].
pub(crate) const FORWARD_AUTH_BELOW: &str = "/v1/forward-auth/{*path}";
/// Everything below it needs credentials, but for those above.
const GUARDED: &str = "/v1/";

/// What becomes of a request before its handler.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It goes on, and is not counted.
    Free(Speaker),
    /// It is counted by its address; within the limit it goes on, or is refused.
    Counted(Result<Speaker, Box<Problem>>),
}

/// Whether this is the path, or the template of a route, by which proxies ask.
pub(crate) fn is_of_proxy(path: &str) -> bool {
    path.strip_prefix(FORWARD_AUTH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Judges a request for `route`, a template. Without a keys service there is no identity, and the guarded routes are open on
/// loopback only.
pub(crate) fn judge(
    route: &str,
    context: &RequestContext,
    headers: &HeaderMap,
    has_keys: bool,
    forward_auth: &ForwardAuthConfig,
) -> Admission {
    if WATCHED.contains(&route) {
        return Admission::Free(Speaker::Nobody);
    }
    if is_of_proxy(route) {
        return of_proxy(context, forward_auth);
    }
    if !route.starts_with(GUARDED) || OPEN.contains(&route) {
        return Admission::Counted(Ok(Speaker::Gateway));
    }
    if !has_keys {
        return match context.client.is_local {
            true => Admission::Free(Speaker::Nobody),
            false => Admission::Counted(Err(unauthenticated(LOOPBACK_ONLY))),
        };
    }
    match shown(headers) {
        Ok(token) => Admission::Free(Speaker::Caller(token)),
        Err(words) => Admission::Counted(Err(unauthenticated(words))),
    }
}

fn of_proxy(context: &RequestContext, config: &ForwardAuthConfig) -> Admission {
    if !config.enabled {
        return Admission::Counted(Err(Box::new(Problem::of_status(StatusCode::NOT_FOUND))));
    }
    if config.trusted.iter().any(|range| range.contains(context.peer)) {
        return Admission::Free(Speaker::Gateway);
    }
    let words = "Only proxies that forward_auth.trusted lists may ask this";
    Admission::Counted(Err(Box::new(Problem::new(StatusCode::FORBIDDEN, "permission_denied", words))))
}

const LOOPBACK_ONLY: &str = "Until a keys service is configured, this call is open on loopback only: to callers on this machine, \
     by the name localhost or a loopback address";
const NOTHING: &str =
    "This call needs Authorization: Bearer and a JWT, which a login or a service token gives";
const NO_JWT: &str = "This call needs a JWT, which a login or a service token gives. An API key is not one: it is checked by \
     POST /v1/check, which takes it as api_key in its body";
const NO_BEARER: &str = "Authorization must be Bearer and a JWT";
const SEVERAL: &str = "Authorization is given more than once";

/// The one JWT of `Authorization`, as it is passed on; or what is wrong.
fn shown(headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (given.next(), given.next()) {
        (None, _) if headers.contains_key("x-api-key") => return Err(NO_JWT),
        (None, _) => return Err(NOTHING),
        (Some(_), Some(_)) => return Err(SEVERAL),
        (Some(value), None) => value,
    };
    let token = value.to_str().ok().and_then(bearer).ok_or(NO_BEARER)?;
    if !is_jwt(token) {
        return Err(NO_JWT);
    }
    let mut passed_on = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| NO_BEARER)?;
    passed_on.set_sensitive(true);
    Ok(passed_on)
}

/// The token of `Bearer TOKEN`; the scheme may be written in any case (RFC 9110, 11.1).
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Three parts of base64url (RFC 7515, 3.1). What they say is for the services to judge.
fn is_jwt(token: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    token.split('.').count() == 3 && token.split('.').all(is_part)
}

fn unauthenticated(words: &'static str) -> Box<Problem> {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", words);
    Box::new(problem.with_header(header::WWW_AUTHENTICATE, BEARER))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::jwt(&["Bearer aA0.b-_.c"], Ok("Bearer aA0.b-_.c"))]
    #[case::scheme_in_any_case(&["bEARER a.b.c"], Ok("Bearer a.b.c"))]
    #[case::nothing(&[], Err(NOTHING))]
    #[case::password(&["Basic dXNlcjpwdw=="], Err(NO_BEARER))]
    #[case::no_token(&["Bearer "], Err(NO_BEARER))]
    #[case::bare(&["a.b.c"], Err(NO_BEARER))]
    #[case::api_key(&["Bearer tk_live_0123456789abcdef"], Err(NO_JWT))]
    #[case::unsigned(&["Bearer a.b."], Err(NO_JWT))]
    #[case::encrypted(&["Bearer a.b.c.d.e"], Err(NO_JWT))]
    #[case::blank_inside(&["Bearer a.b.c d"], Err(NO_JWT))]
    #[case::two(&["Bearer a.b.c", "Bearer a.b.c"], Err(SEVERAL))]
    fn a_jwt_is_told_from_what_is_none(
        #[case] lines: &[&'static str],
        #[case] expected: Result<&str, &'static str>,
    ) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(line));
        }
        let token = shown(&headers);
        assert_eq!(
            token.as_ref().map(|token| token.to_str().unwrap()),
            expected.as_ref().map(|token| *token)
        );
        assert!(token.is_err() || !format!("{token:?}").contains("a.b.c"), "it shows in logs");
    }

    #[test]
    fn whoever_shows_an_api_key_alone_is_told_what_it_is_for() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("tk_live_x"));
        assert_eq!(shown(&headers), Err(NO_JWT));
    }
}
