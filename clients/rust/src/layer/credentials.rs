//! Where requests carry their API key.

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &str = "bearer";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    Nothing,
    Key(&'a str),
    /// Something that no key can be: twice, or not ASCII.
    Malformed,
}

/// The key of `X-API-Key`, or else of `Authorization: Bearer`. Metadata of gRPC are headers.
pub(super) fn presented(headers: &HeaderMap) -> Presented<'_> {
    match only(headers, &X_API_KEY) {
        Presented::Nothing => {}
        found => return found,
    }
    let Presented::Key(authorization) = only(headers, &AUTHORIZATION) else {
        return only(headers, &AUTHORIZATION);
    };
    match authorization.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(BEARER) && !key.trim().is_empty() => {
            Presented::Key(key.trim())
        }
        // Another scheme is for somebody else to understand.
        _ => Presented::Nothing,
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Presented<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) => match value.to_str().map(str::trim) {
            Ok("") => Presented::Nothing,
            Ok(text) => Presented::Key(text),
            Err(_) => Presented::Malformed,
        },
        (Some(_), Some(_)) => Presented::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], Presented::Nothing)]
    #[case(&[("x-api-key", "k")], Presented::Key("k"))]
    #[case(&[("authorization", "Bearer k")], Presented::Key("k"))]
    #[case(&[("authorization", "bearer  k ")], Presented::Key("k"))]
    #[case(&[("authorization", "Bearer ")], Presented::Nothing)]
    #[case(&[("authorization", "Basic k")], Presented::Nothing)]
    #[case(&[("authorization", "Bearer jwt"), ("x-api-key", "k")], Presented::Key("k"))]
    #[case(&[("x-api-key", "k"), ("x-api-key", "k")], Presented::Malformed)]
    #[case(&[("x-api-key", "ä")], Presented::Malformed)]
    fn a_key_is_found_where_it_may_be(
        #[case] headers: &[(&'static str, &str)],
        #[case] found: Presented<'_>,
    ) {
        let entries = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut map = HeaderMap::new();
        for (name, value) in entries {
            map.append(name, value);
        }
        assert_eq!(presented(&map), found);
    }
}
