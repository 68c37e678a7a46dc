//! Reading the fields of a JSON object, so that everything wrong with it is found at once.

use serde_json::{Map, Value};

use crate::problem::Violations;

/// Beyond this a name that the caller made up is cut when it is quoted back.
const LONGEST_QUOTE: usize = 64;

/// What an object has, until it is taken out.
pub(crate) type Fields = Map<String, Value>;

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

/// Reads a number that is not negative.
pub(crate) fn number(fields: &mut Fields, at: &str, name: &str, violations: &mut Violations) -> Option<u64> {
    let value = fields.remove(name)?;
    let number = value.as_u64();
    if number.is_none() {
        violations.add(path(at, name), "must be an integer of 0 or more");
    }
    number
}

/// Reads a string, empty if it is absent.
pub(crate) fn text(fields: &mut Fields, at: &str, name: &str, violations: &mut Violations) -> String {
    match fields.remove(name) {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => {
            wrong_type(path(at, name), "a string", &other, violations);
            String::new()
        }
    }
}

/// Reads a boolean, false if it is absent.
pub(crate) fn flag(fields: &mut Fields, at: &str, name: &str, violations: &mut Violations) -> bool {
    match fields.remove(name) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(other) => {
            wrong_type(path(at, name), "a boolean", &other, violations);
            false
        }
    }
}

/// Reads one of a few words.
pub(crate) fn word<T: Copy>(
    fields: &mut Fields,
    at: &str,
    name: &str,
    words: &[(&str, T)],
    violations: &mut Violations,
) -> Option<T> {
    let text = text(fields, at, name, violations);
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() && !text.is_empty() {
        violations.add(path(at, name), one_of(words));
    }
    found.map(|(_, value)| *value)
}

/// Reads an array of strings, empty if it is absent.
pub(crate) fn texts(fields: &mut Fields, at: &str, name: &str, violations: &mut Violations) -> Vec<String> {
    fields.remove(name).map_or_else(Vec::new, |value| list(value, &path(at, name), violations))
}

/// An array of strings.
pub(crate) fn list(value: Value, at: &str, violations: &mut Violations) -> Vec<String> {
    let Value::Array(items) = value else {
        wrong_type(at.to_owned(), "an array of strings", &value, violations);
        return Vec::new();
    };
    let text = |(index, item): (usize, Value)| match item {
        Value::String(text) => Some(text),
        other => {
            wrong_type(format!("{at}[{index}]"), "a string", &other, violations);
            None
        }
    };
    items.into_iter().enumerate().filter_map(text).collect()
}

/// Reads each object of an array, each at its path, and refuses fields that are left.
pub(crate) fn objects<T>(
    fields: &mut Fields,
    name: &str,
    violations: &mut Violations,
    mut read: impl FnMut(&str, &mut Fields, &mut Violations) -> T,
) -> Vec<T> {
    match fields.remove(name) {
        None => Vec::new(),
        Some(Value::Array(items)) => {
            let item = |(index, item)| {
                let at = format!("{name}[{index}]");
                let mut fields = object(item, &at, violations)?;
                let value = read(&at, &mut fields, violations);
                unknown(&fields, &at, violations);
                Some(value)
            };
            items.into_iter().enumerate().filter_map(item).collect()
        }
        Some(other) => {
            wrong_type(name.to_owned(), "an array of objects", &other, violations);
            Vec::new()
        }
    }
}

/// Says which words there are.
pub(crate) fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    format!("must be one of {}", words.join(", "))
}

/// An object of strings.
pub(crate) fn map(value: Value, at: &str, violations: &mut Violations) -> Vec<(String, String)> {
    let entries = object(value, at, violations).unwrap_or_default();
    let entry = |(key, value): (String, Value)| match value {
        Value::String(value) => Some((key, value)),
        other => {
            wrong_type(format!("{at}[{}]", quoted(&key)), "a string", &other, violations);
            None
        }
    };
    entries.into_iter().filter_map(entry).collect()
}

/// Reads the 64 hexadecimal digits of a SHA-256; nothing if they are absent.
pub(crate) fn sha256(fields: &mut Fields, at: &str, name: &str, violations: &mut Violations) -> Vec<u8> {
    let digits = text(fields, at, name, violations);
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    match bytes {
        Some(bytes) if bytes.len() == 32 || bytes.is_empty() => bytes,
        _ => {
            violations.add(path(at, name), "must be the 64 hexadecimal digits of a SHA-256");
            Vec::new()
        }
    }
}

fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}
