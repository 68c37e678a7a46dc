//! Reading the fields of a JSON object, so that everything wrong with it is found at once.

use serde_json::{Map, Value};

use crate::problem::Violations;

/// Beyond this a name that the caller made up is cut when it is quoted back.
const LONGEST_QUOTE: usize = 64;

/// The fields of an object at a path, which is empty for the whole body.
pub(crate) fn object(body: Value, at: &str, violations: &mut Violations) -> Option<Map<String, Value>> {
    match body {
        Value::Object(fields) => Some(fields),
        other => {
            let field = if at.is_empty() { "body" } else { at };
            wrong_type(field.to_owned(), "an object", &other, violations);
            None
        }
    }
}

/// Refuses what was not taken out.
pub(crate) fn unknown(fields: &Map<String, Value>, at: &str, violations: &mut Violations) {
    for name in fields.keys() {
        violations.add(path(at, quoted(name)), "is not a field of this request");
    }
}

/// Refuses a value of the wrong type.
pub(crate) fn wrong_type(field: String, wanted: &str, got: &Value, violations: &mut Violations) {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    violations.add(field, format!("must be {wanted}, not {got}"));
}

/// The path of a field of what is at a path.
pub(crate) fn path(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// A name that the caller made up, cut to what is quoted back.
pub(crate) fn quoted(name: &str) -> &str {
    let end = name.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST_QUOTE);
    &name[..end.unwrap_or(name.len())]
}
