//! Takes passwords out of URLs.

use toml::Value;

/// Replaces the password of every URL in the strings of `value` by `***`.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::String(text) => redact_text(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Table(table) => table.iter_mut().for_each(|(_, item)| redact(item)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn redact_text(text: &mut String) {
    let Some(scheme_end) = text.find("://") else { return };
    let authority = scheme_end + "://".len();
    // A password may itself hold '@', ':', '/', '?' or '#' if someone forgot to escape it: the last '@' of the
    // whole text ends it, so that too much is hidden rather than too little.
    let Some(user_end) = text[authority..].rfind('@').map(|at| authority + at) else { return };
    if let Some(colon) = text[authority..user_end].find(':') {
        text.replace_range(authority + colon + 1..user_end, "***");
    }
}
