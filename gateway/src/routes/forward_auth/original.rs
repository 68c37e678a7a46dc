//! The request that a proxy is about to pass on, as it tells of it.

use http::{HeaderMap, header, request::Parts};

use crate::{access::FORWARD_AUTH, problem::Violations};

/// Headers by which proxies tell it: nginx as its manual writes it, ingress controllers on it, Traefik and Caddy, Envoy.
const URIS: [&str; 4] = ["x-original-uri", "x-original-url", "x-forwarded-uri", "x-envoy-original-path"];
const METHODS: [&str; 3] = ["x-original-method", "x-forwarded-method", "x-envoy-original-method"];
const HOSTS: [&str; 3] = ["x-original-host", "x-forwarded-host", "x-envoy-original-host"];

/// What is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Original {
    /// As `GET`.
    pub method: Option<String>,
    /// The host that was asked.
    pub host: Option<String>,
    /// Without the query.
    pub path: Option<String>,
}

impl Original {
    /// The request itself, if its path is that of the call with the original one behind it, as Envoy asks: by the method and
    /// with the host of the original request.
    ///
    /// Such a proxy writes no headers of it. One that does has a slash too many in its settings, and what its URL says beside
    /// the path would count for nothing, `required_scopes` too: so they are refused.
    pub(super) fn of_target(parts: &Parts, violations: &mut Violations) -> Option<Self> {
        let path = parts.uri.path().strip_prefix(FORWARD_AUTH).filter(|path| path.starts_with('/'))?;
        for name in URIS.iter().chain(&METHODS).filter(|name| parts.headers.contains_key(**name)) {
            violations.add(
                *name,
                "is not for here: a proxy that writes it asks /v1/forward-auth, without a slash at the end",
            );
        }
        let named = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = parts.uri.authority().map(http::uri::Authority::as_str).or_else(named);
        Some(Self {
            method: Some(parts.method.to_string()),
            host: host.map(str::to_ascii_lowercase),
            path: Some(path.to_owned()),
        })
    }

    /// Reads the headers of all proxies. A proxy writes its own and passes on what its caller wrote of the others, so two
    /// that do not say the same are refused rather than chosen from.
    pub(super) fn of(headers: &HeaderMap, violations: &mut Violations) -> Self {
        Self {
            method: agreed(headers, &METHODS, str::to_owned, violations),
            host: agreed(headers, &HOSTS, str::to_ascii_lowercase, violations),
            path: agreed(headers, &URIS, path, violations),
        }
    }
}

fn agreed(
    headers: &HeaderMap,
    names: &[&'static str],
    read: impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<String> {
    let mut known: Option<String> = None;
    for name in names {
        for value in headers.get_all(*name) {
            let value = read(&String::from_utf8_lossy(value.as_bytes()));
            match &known {
                Some(known) if *known != value => {
                    violations.add(*name, "differs from what another header says of the original request");
                }
                Some(_) => {}
                None => known = Some(value),
            }
        }
    }
    known
}

/// The path of a URI, which may be a whole URL.
fn path(uri: &str) -> String {
    let from_path = match uri.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => uri,
    };
    let end = from_path.find(['?', '#']).unwrap_or(from_path.len());
    from_path[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rstest::rstest;

    use super::*;

    fn read(lines: &[(&'static str, &'static str)]) -> (Original, Vec<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut violations = Violations::default();
        let original = Original::of(&headers, &mut violations);
        let refused = violations.into_result().err();
        let named = refused.map(|problem| problem.violations.into_iter().map(|of| of.field).collect());
        (original, named.unwrap_or_default())
    }

    #[rstest]
    #[case::nginx(&[("x-original-uri", "/a/b?c=d"), ("x-original-method", "PUT"), ("x-original-host", "Shop.example")])]
    #[case::ingress(&[("x-original-url", "https://shop.example/a/b?c"), ("x-original-method", "PUT"), ("x-forwarded-host", "shop.example")])]
    #[case::traefik(&[("x-forwarded-uri", "/a/b#c"), ("x-forwarded-method", "PUT"), ("x-forwarded-host", "shop.example")])]
    #[case::several_that_agree(&[
        ("x-forwarded-uri", "/a/b?x"), ("x-original-uri", "/a/b?y"), ("x-original-method", "PUT"), ("x-forwarded-host", "shop.example")
    ])]
    fn every_proxy_is_understood(#[case] lines: &[(&'static str, &'static str)]) {
        let told = |text: &str| Some(text.to_owned());
        let expected = Original { method: told("PUT"), host: told("shop.example"), path: told("/a/b") };
        assert_eq!(read(lines), (expected, Vec::new()));
    }

    #[rstest]
    #[case::two_headers(&[("x-original-uri", "/a"), ("x-forwarded-uri", "/b")], &["x-forwarded-uri"])]
    #[case::two_lines(&[("x-original-method", "GET"), ("x-original-method", "PUT")], &["x-original-method"])]
    fn what_contradicts_itself_is_refused(
        #[case] lines: &[(&'static str, &'static str)],
        #[case] fields: &[&str],
    ) {
        assert_eq!(read(lines).1, fields);
    }

    #[rstest]
    #[case::root("/v1/forward-auth/", "shop.example:8443", Some("/"))]
    #[case::as_it_was_sent(
        "/v1/forward-auth//a%2Fb/../c?namespace=x",
        "Shop.example:8443",
        Some("//a%2Fb/../c")
    )]
    #[case::http_2("https://Shop.example:8443/v1/forward-auth/a", "", Some("/a"))]
    #[case::the_call_itself("/v1/forward-auth?a=/b", "shop.example:8443", None)]
    #[case::longer_word("/v1/forward-auths/a", "shop.example:8443", None)]
    fn the_path_behind_that_of_the_call_is_the_original_one(
        #[case] target: &str,
        #[case] host: &str,
        #[case] path: Option<&str>,
    ) {
        let mut request = http::Request::builder().method("PURGE").uri(target);
        if !host.is_empty() {
            request = request.header(header::HOST, host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let told = |text: &str| Some(text.to_owned());
        let expected = path.map(|path| Original {
            method: told("PURGE"),
            host: told("shop.example:8443"),
            path: told(path),
        });
        let mut violations = Violations::default();
        assert_eq!(Original::of_target(&parts, &mut violations), expected);
        assert!(violations.into_result().is_ok());
    }

    #[rstest]
    #[case("/", "/")]
    #[case("https://a.example", "/")]
    #[case("/redirect?to=http://a.example/b", "/redirect")]
    #[case("/a/http://b/c", "/a/http://b/c")]
    #[case("", "")]
    fn a_path_is_cut_out(#[case] uri: &str, #[case] expected: &str) {
        assert_eq!(path(uri), expected);
    }
}
