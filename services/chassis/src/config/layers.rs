//! The three layers, merged key by key so that every fault is found and traced to its origin.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

use super::{ConfigError, Fault, Source};

const PREFIX: &str = "TIDEGATE_";
/// Read by the command line (`ConfigArgs`), not a setting.
const CONFIG_PATH: &str = "TIDEGATE_CONFIG";

/// Where an overriding value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File(String),
    Env(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The defaults and everything that overrides them, by dotted key; later layers replace earlier ones.
pub(super) struct Layers {
    defaults: Table,
    overrides: BTreeMap<String, (Value, Origin)>,
    faults: Vec<Fault>,
}

pub(super) fn parse(origin: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| ConfigError::Syntax {
        origin: origin.to_owned(),
        message: syntax_fault(text, &error),
    })
}

/// Where the fault is and what was expected. The line itself may hold a password and is not shown.
fn syntax_fault(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or(message.clone(), |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}: {message}")
    })
}

impl Layers {
    pub(super) fn from_defaults(text: &str) -> Result<Self, ConfigError> {
        let defaults = parse("the embedded configuration", text)?;
        Ok(Self { defaults, overrides: BTreeMap::new(), faults: Vec::new() })
    }

    pub(super) fn read_file(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        let table = parse(path, text)?;
        self.take_table("", table, &Origin::File(path.to_owned()));
        Ok(())
    }

    pub(super) fn read_env(&mut self, source: &Source<'_>) {
        let mut env = source.env.clone();
        env.sort();
        for (name, text) in &env {
            for (_, key) in source.aliases.iter().filter(|(alias, _)| alias == name) {
                self.take_text(name, key, text);
            }
        }
        for (name, text) in &env {
            let is_alias = source.aliases.iter().any(|(alias, _)| alias == name);
            let is_foreign =
                name == CONFIG_PATH || source.ignored.contains(&name.as_str()) || is_service_link(name);
            if let Some(path) = name.strip_prefix(PREFIX).filter(|_| !is_alias && !is_foreign) {
                self.take_text(name, &path.to_ascii_lowercase().replace("__", "."), text);
            }
        }
    }

    /// Applies every override that fits by itself, and lists those that do not; `fits` says what is
    /// wrong with a whole configuration.
    pub(super) fn merge(
        mut self,
        fits: impl Fn(Table) -> Result<(), toml::de::Error>,
    ) -> (Table, BTreeMap<String, Origin>, Vec<Fault>) {
        let mut merged = self.defaults.clone();
        let mut origins = BTreeMap::new();
        for (key, (value, origin)) in self.overrides {
            let mut alone = self.defaults.clone();
            put(&mut alone, &key, value.clone());
            // The defaults themselves are right (a test of each service), so what fails now is this value.
            if let Err(error) = fits(alone) {
                let message = error.message().to_owned();
                self.faults.push(Fault { key, origin: Some(origin.to_string()), message });
            } else {
                put(&mut merged, &key, value);
                origins.insert(key, origin);
            }
        }
        self.faults.sort_by(|a, b| a.key.cmp(&b.key));
        (merged, origins, self.faults)
    }

    fn take_table(&mut self, prefix: &str, table: Table, origin: &Origin) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match (self.known(&key), value) {
                (Some(Known::Table), Value::Table(inner)) => self.take_table(&key, inner, origin),
                (Some(Known::Table), _) => {
                    self.refuse(&key, origin, "this is a table of settings, not a value");
                }
                (Some(_), value) => self.set(key, value, origin.clone()),
                (None, _) => self.refuse(&key, origin, "unknown key"),
            }
        }
    }

    fn take_text(&mut self, name: &str, key: &str, text: &str) {
        let origin = Origin::Env(name.to_owned());
        match self.known(key) {
            Some(Known::Value(default)) => {
                let value = read_text(text, default);
                self.set(key.to_owned(), value, origin);
            }
            Some(Known::Open) => {
                let value = read_toml(text).unwrap_or_else(|| text.into());
                self.set(key.to_owned(), value, origin);
            }
            Some(Known::Table) => self.refuse(key, &origin, "this is a table of settings, not a value"),
            None => self.refuse(key, &origin, "unknown key"),
        }
    }

    fn set(&mut self, key: String, value: Value, origin: Origin) {
        self.overrides.insert(key, (value, origin));
    }

    fn refuse(&mut self, key: &str, origin: &Origin, message: &str) {
        let message = message.to_owned();
        self.faults.push(Fault { key: key.to_owned(), origin: Some(origin.to_string()), message });
    }

    fn known(&self, key: &str) -> Option<Known<'_>> {
        let mut table = &self.defaults;
        let mut names = key.split('.').peekable();
        while let Some(name) = names.next() {
            match table.get(name) {
                // What an open table takes is judged by its own type. The root is never open.
                None => return (table.is_empty() && key.contains('.')).then_some(Known::Open),
                Some(Value::Table(inner)) if names.peek().is_some() => table = inner,
                Some(Value::Table(_)) => return Some(Known::Table),
                Some(value) => return names.peek().is_none().then_some(Known::Value(value)),
            }
        }
        None
    }
}

/// What the defaults say of a key.
enum Known<'a> {
    Table,
    Open,
    Value(&'a Value),
}

/// Whether Kubernetes sets a variable of this name in every pod beside a service called `tidegate…`
/// (`enableServiceLinks`): nobody means a setting by it. Settings in a section have `__` in their names.
fn is_service_link(name: &str) -> bool {
    let port = name.split_once("_PORT_").map(|(_, protocol)| protocol);
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_PORT")
            || name.contains("_SERVICE_PORT_")
            || port.is_some_and(|protocol| protocol.starts_with(|first: char| first.is_ascii_digit())))
}

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Reads the text of a variable as the type of the default; what does not fit stays text and is
/// refused with the type that was expected.
fn read_text(text: &str, default: &Value) -> Value {
    let trimmed = text.trim();
    let read = match default {
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => None,
        Value::Integer(_) => trimmed.parse().map(Value::Integer).ok(),
        Value::Float(_) => trimmed.parse().map(Value::Float).ok(),
        Value::Boolean(_) => read_bool(trimmed).map(Value::Boolean),
        Value::Array(_) if trimmed.starts_with('[') => read_toml(trimmed),
        Value::Array(_) => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(Value::from).collect()))
        }
    };
    read.unwrap_or_else(|| text.into())
}

fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn read_toml(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}
