//! Policy files for the measurements. The built-in policy `organization` is replaced.

use std::fmt::Write;

/// A limit that no run reaches, so that checks are admitted.
const NEVER: &str = "1_000_000_000";

/// Three sliding windows per organization: minute, hour, day.
pub(super) fn three_windows() -> String {
    let windows = ["1m", "1h", "1d"].map(|period| limit("sliding_window", NEVER, period));
    organization(&windows.join(", "))
}

/// `three_windows` of which the longest is used up by the first check. Whatever is not denied by it is admitted, also what Redis does
/// not answer in time.
pub(super) fn used_up() -> String {
    let windows = [(NEVER, "1m"), (NEVER, "1h"), ("1", "1d")]
        .map(|(tokens, period)| limit("sliding_window", tokens, period));
    let policy = organization(&windows.join(", "));
    format!("{policy}failure_mode = \"open\"\n")
}

/// One limit per organization.
pub(super) fn one_limit(algorithm: &str, tokens: &str, period: &str) -> String {
    organization(&limit(algorithm, tokens, period))
}

/// `three_windows` among `count` policies, none of whose others matches the checks.
pub(super) fn among(count: u32) -> String {
    let mut text = three_windows();
    for other in 1..count {
        let limits = limit("sliding_window", "1000", "1m");
        write!(
            text,
            "\n[[policies]]\nname = \"other-{other}\"\nnamespace = \"default\"\n\
             match = {{ path = \"/v1/other/{other}\" }}\nkey_by = [\"organization\"]\nlimits = [{limits}]\n"
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// `among(10)`, and an override for each of `count` organizations: those that the load is made of, one in ten of them
/// by a prefix, which goes for a limit of its own.
pub(super) fn overridden(count: u32) -> String {
    let mut text = among(10);
    let mut push = |limit: &str, key: &str| {
        write!(
            text,
            "\n[[overrides]]\nnamespace = \"default\"\npolicy = \"organization\"\nlimit = \"{limit}\"\n\
             key = {{ organization = \"{key}\" }}\ntokens = 999_999_999\n"
        )
        .expect("writing to a String cannot fail");
    };
    for number in 0..count {
        match number % 10 {
            0 => push("1h", &format!("bench-{:07}*", number / 10)),
            _ => push("1m", &format!("bench-{number:08}")),
        }
    }
    text
}

/// One limit per organization, for descriptors of Envoy's protocol.
pub(super) fn one_descriptor() -> String {
    let limit = limit("fixed_window", NEVER, "1m");
    format!(
        "builtin = false\n[[policies]]\nname = \"organization\"\nnamespace = \"default\"\n\
         descriptor = [{{ key = \"organization\" }}]\nlimits = [{limit}]\n"
    )
}

fn organization(limits: &str) -> String {
    format!(
        "[[policies]]\nname = \"organization\"\nnamespace = \"default\"\nkey_by = [\"organization\"]\n\
         limits = [{limits}]\n"
    )
}

/// A limit that is called by its period.
fn limit(algorithm: &str, tokens: &str, period: &str) -> String {
    format!("{{ name = \"{period}\", algorithm = \"{algorithm}\", limit = {tokens}, period = \"{period}\" }}")
}
