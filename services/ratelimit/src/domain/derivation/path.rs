//! Paths as servers understand them, however they are written.

use std::borrow::Cow;

/// A path without query and fragment, in the one way in which every server would read it: dot segments resolved, unreserved
/// characters not escaped (RFC 3986, 6.2.2), empty segments and a slash at the end left out.
///
/// Nothing if servers may read it differently: it does not begin with a slash, leaves the root, or hides a
/// slash, a backslash or a control character.
pub(crate) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let is_plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    let rest = path.strip_prefix('/')?;
    if rest.is_empty() || rest.split('/').all(is_plain) && !path.contains(['%', '\\']) && !has_control(path) {
        return Some(path.into());
    }
    let decoded = decode(path)?;
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            _ => segments.push(segment),
        }
    }
    Some(format!("/{}", segments.join("/")).into())
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control())
}

/// Escapes of unreserved characters undone, others with capital digits.
fn decode(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.push_str(parts.next()?);
    for part in parts {
        let digits = part.get(..2)?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        match byte {
            b'/' | b'\\' | b'%' => return None,
            byte if byte.is_ascii_control() => return None,
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte.into()),
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        decoded.push_str(&part[2..]);
    }
    (!decoded.contains('\\') && !has_control(&decoded)).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("/v1/users/42", Some("/v1/users/42"))]
    #[case::root("/", Some("/"))]
    #[case::query("/v1/users?x=/../a", Some("/v1/users"))]
    #[case::slash_at_the_end("/v1/login/", Some("/v1/login"))]
    #[case::empty_segments("//v1///login", Some("/v1/login"))]
    #[case::escaped_letters("/v1/%6cogin/%7e", Some("/v1/login/~"))]
    #[case::small_digits("/a%c3%a9", Some("/a%C3%A9"))]
    #[case::climbs("/metrics/../v1/orders", Some("/v1/orders"))]
    #[case::climbs_escaped("/metrics/%2e%2E/v1/orders", Some("/v1/orders"))]
    #[case::stays("/a/./b/.", Some("/a/b"))]
    #[case::leaves_the_root("/../etc", None)]
    #[case::hides_a_slash("/metrics%2f..%2fv1", None)]
    #[case::hides_a_backslash("/metrics/..%5cv1", None)]
    #[case::backslash("/metrics\\..\\v1", None)]
    #[case::escaped_twice("/%252e%252e/x", None)]
    #[case::control("/a\u{0}b", None)]
    #[case::hidden_control("/a%00b", None)]
    #[case::cut_escape("/a%2", None)]
    #[case::no_escape("/a%zz", None)]
    #[case::signed("/a%+1", None)]
    #[case::other_form("http://host/x", None)]
    #[case::asterisk("*", None)]
    fn paths_have_one_form_or_none(#[case] path: &str, #[case] expected: Option<&str>) {
        assert_eq!(canonical(path).as_deref(), expected);
    }
}
