//! The host that a request was meant for.

use axum::extract::Request;
use http::{Version, header};

use crate::problem::{Problem, Violations};

/// Whether the request names this machine as loopback, in its target (HTTP/2, or a target in absolute
/// form) or else in its `Host`. A web page that had its own name point to 127.0.0.1 (DNS rebinding)
/// speaks from this machine too, but under that name.
///
/// # Errors
/// 400 if there is not exactly one `Host` in HTTP/1.1, or if it is malformed (RFC 9112, 3.2).
pub(super) fn names_loopback(request: &Request) -> Result<bool, Box<Problem>> {
    let mut violations = Violations::default();
    let mut given = request.headers().get_all(header::HOST).iter();
    let host = match (given.next(), given.next()) {
        (None, _) => {
            if request.version() == Version::HTTP_11 {
                violations.add("Host", "is missing");
            }
            None
        }
        (Some(value), None) => {
            let host = value.to_str().ok().and_then(without_port);
            if host.is_none() {
                violations.add("Host", "is not host or host:port");
            }
            host
        }
        (Some(_), Some(_)) => {
            violations.add("Host", "is given more than once");
            None
        }
    };
    violations.into_result()?;
    Ok(request.uri().host().or(host).is_some_and(is_loopback))
}

fn without_port(authority: &str) -> Option<&str> {
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let colon = authority[end..].find(':').map_or(authority.len(), |colon| end + colon);
    let (host, port) = authority.split_at(colon);
    let is_port = port.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    let is_host =
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=[]:".contains(&byte));
    (is_host && is_port).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use rstest::rstest;

    use super::*;

    fn judged(target: &str, hosts: &[&str], version: Version) -> Result<bool, u16> {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let judged = names_loopback(&request.body(Body::empty()).unwrap());
        judged.map_err(|problem| problem.status.as_u16())
    }

    #[rstest]
    #[case("127.0.0.1:8000", true)]
    #[case("127.8.8.8", true)]
    #[case("localhost", true)]
    #[case("LOCALHOST:80", true)]
    #[case("[::1]:8000", true)]
    #[case("[::ffff:127.0.0.1]", true)]
    #[case::rebound("evil.example:8000", false)]
    #[case::looks_like_loopback("localhost.evil.example", false)]
    #[case::looks_like_an_address("127.0.0.1.evil.example", false)]
    #[case::other_address("192.0.2.1", false)]
    #[case::empty("", false)]
    fn only_names_of_loopback_name_loopback(#[case] host: &str, #[case] expected: bool) {
        assert_eq!(judged("/", &[host], Version::HTTP_11), Ok(expected));
    }

    #[rstest]
    #[case::missing(&[])]
    #[case::twice(&["127.0.0.1", "127.0.0.1"])]
    #[case::user(&["evil@127.0.0.1"])]
    #[case::path(&["127.0.0.1/x"])]
    #[case::words(&["a b"])]
    #[case::port(&["127.0.0.1:x"])]
    fn a_wrong_host_is_refused(#[case] hosts: &[&str]) {
        assert_eq!(judged("/", hosts, Version::HTTP_11), Err(400));
    }

    #[test]
    fn the_target_outweighs_the_header() {
        assert_eq!(judged("http://evil.example/", &["127.0.0.1"], Version::HTTP_11), Ok(false));
        assert_eq!(judged("http://127.0.0.1/", &[], Version::HTTP_2), Ok(true));
        assert_eq!(judged("/", &[], Version::HTTP_10), Ok(false), "nothing is named");
    }
}
