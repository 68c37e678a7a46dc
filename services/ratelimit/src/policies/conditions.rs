//! What a policy matches on, and what its key is made of, as written.

use toml::Value;

use super::{
    names::{MAX_VALUE_BYTES, check_attribute, check_value},
    reader::{Faults, Fields, numbered, text, wrong_type},
};
use crate::domain::{Condition, Expression, Level, LevelValue, Pattern, Wildcard};

const MAX_CONDITIONS: usize = 64;
const MAX_PATTERNS: usize = 1_000;
/// The most attributes that make a key.
pub(super) const MAX_KEY_ATTRIBUTES: usize = 8;
/// The most entries of a descriptor.
pub(crate) const MAX_LEVELS: usize = 16;

/// Reads the table `match`.
pub(super) fn read_conditions(fields: &mut Fields, faults: &mut Faults) -> Vec<Condition> {
    fields.table("match", faults).map_or_else(Vec::new, |table| read_condition_table(table, faults))
}

/// Reads attributes with what their values may be.
pub(super) fn read_condition_table(table: Fields, faults: &mut Faults) -> Vec<Condition> {
    let path = table.path().to_owned();
    let mut conditions = Vec::new();
    for (path, attribute, value) in table.entries() {
        check_attribute(&path, &attribute, faults);
        let values = match value {
            Value::Array(values) => numbered(&path, 0, values),
            Value::String(_) => vec![(path.clone(), value)],
            other => {
                wrong_type::<()>(&path, "a string or a list of strings", &other, faults);
                continue;
            }
        };
        match values.len() {
            0 => faults.add(&path, "is empty and would never match"),
            1..=MAX_PATTERNS => {}
            many => faults.add(&path, format!("at most {MAX_PATTERNS} values, are {many}")),
        }
        let patterns = values.into_iter().filter_map(|(path, value)| read_pattern(&path, value, faults));
        conditions.push(Condition::new(&attribute, patterns.collect()));
    }
    if conditions.len() > MAX_CONDITIONS {
        faults.add(path, format!("at most {MAX_CONDITIONS} conditions, are {}", conditions.len()));
    }
    conditions
}

pub(super) fn read_pattern(path: &str, value: Value, faults: &mut Faults) -> Option<Pattern> {
    let text = text(path, value, faults)?;
    if text.len() > MAX_VALUE_BYTES {
        check_value(path, &text, faults);
    }
    Pattern::parse(&text).map_err(|description| faults.add(path, description)).ok()
}

/// Reads the list `descriptor`.
pub(super) fn read_descriptor(fields: &mut Fields, faults: &mut Faults) -> Option<Vec<Level>> {
    let path = fields.path_of("descriptor");
    let levels = fields.tables("descriptor", faults)?;
    for other in ["match", "when", "key_by"] {
        if fields.has(other) {
            faults.add(
                fields.path_of(other),
                "does not go with descriptor, which says both what it is for and its key",
            );
        }
    }
    if !(1..=MAX_LEVELS).contains(&levels.len()) {
        faults.add(path, format!("must be 1 to {MAX_LEVELS} entries, are {}", levels.len()));
    }
    Some(levels.into_iter().filter_map(|level| read_level(level, faults)).collect())
}

fn read_level(mut level: Fields, faults: &mut Faults) -> Option<Level> {
    level.need("key", faults);
    let key = level.text("key", faults);
    if let Some(key) = &key {
        check_value(&level.path_of("key"), key, faults);
    }
    let value = match level.value("value") {
        None => Some(LevelValue::Any),
        Some(value) => read_level_value(&level.path_of("value"), value, faults),
    };
    let shared = level.boolean("shared", faults).unwrap_or_default();
    if shared && matches!(value, Some(LevelValue::Exact(_))) {
        faults.add(level.path_of("shared"), "is for what many values fit, and there is one here");
    }
    level.finish(faults);
    Some(Level { key: key?.into(), value: value?, shared })
}

fn read_level_value(path: &str, value: Value, faults: &mut Faults) -> Option<LevelValue> {
    let text = text(path, value, faults)?;
    if text == "*" {
        return Some(LevelValue::Any);
    }
    check_value(path, &text, faults);
    Some(Wildcard::new(&text).map_or_else(|| LevelValue::Exact((*text).into()), LevelValue::Like))
}

/// Reads the list `replaces`, which only a policy with a descriptor has.
pub(super) fn read_replaces(fields: &mut Fields, has_descriptor: bool, faults: &mut Faults) -> Vec<String> {
    let path = fields.path_of("replaces");
    let listed = fields.list("replaces", faults);
    if listed.is_some() && !has_descriptor {
        faults.add(path, "goes only with descriptor");
    }
    listed.into_iter().flatten().filter_map(|(path, value)| text(&path, value, faults)).collect()
}

/// Reads the expression `when`.
pub(super) fn read_when(fields: &mut Fields, faults: &mut Faults) -> Option<Expression> {
    let text = fields.text("when", faults)?;
    let path = fields.path_of("when");
    let noted = |descriptions: Vec<String>| {
        descriptions.into_iter().for_each(|description| faults.add(&path, description));
    };
    Expression::parse(&text).map_err(noted).ok()
}

/// Reads the list `key_by`, which a policy without limits does not need either.
pub(super) fn read_key_by(fields: &mut Fields, is_needed: bool, faults: &mut Faults) -> Vec<String> {
    if is_needed && !fields.has("key_by") && !fields.has("unlimited") {
        let path = fields.path_of("key_by");
        faults.add(path, "is missing; write key_by = [] to count the whole namespace together");
    }
    let path = fields.path_of("key_by");
    let mut names = Vec::new();
    for (path, value) in fields.list("key_by", faults).unwrap_or_default() {
        let Some(name) = text(&path, value, faults) else { continue };
        check_attribute(&path, &name, faults);
        if names.contains(&name) {
            faults.add(path, format!("{name:?} is already part of the key"));
        }
        names.push(name);
    }
    if names.len() > MAX_KEY_ATTRIBUTES {
        faults.add(path, format!("at most {MAX_KEY_ATTRIBUTES} attributes, are {}", names.len()));
    }
    names
}
