//! Reads TOML tables so that every fault is found, each with its path.

use toml::Value;

use super::{PolicyError, PolicyErrors};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<PolicyError>);

impl Faults {
    /// Notes that what stands at `path` is wrong.
    pub(super) fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(PolicyError { path: path.into(), description: description.into() });
    }

    /// Nothing, or what was found wrong in `origin`.
    pub(super) fn none_or(self, origin: &str) -> Result<(), PolicyErrors> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(PolicyErrors { origin: origin.to_owned(), errors: self.0 })
        }
    }
}

/// A table of the file whose keys are known beforehand. Ask for each key, then [`finish`](Self::finish).
pub(super) struct Fields {
    path: String,
    values: toml::Table,
    known: Vec<&'static str>,
}

impl Fields {
    /// The table at `path`; the whole file has the empty path.
    pub(super) fn new(path: impl Into<String>, values: toml::Table) -> Self {
        Self { path: path.into(), values, known: Vec::new() }
    }

    /// Path of the table itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The table as JSON, if nothing was asked for yet.
    pub(super) fn json(&self) -> Box<str> {
        serde_json::to_string(&self.values).unwrap_or_default().into()
    }

    /// Path of a key of the table.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether the key is there and 0.
    pub(super) fn is_zero(&self, key: &str) -> bool {
        self.values.get(key).and_then(Value::as_integer) == Some(0)
    }

    /// Notes a fault unless the key is there.
    pub(super) fn need(&self, key: &str, faults: &mut Faults) {
        if !self.has(key) {
            faults.add(self.path_of(key), "is missing");
        }
    }

    /// Whatever stands under the key.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.remove(key)
    }

    /// A string; nothing if the key is absent or, which is noted, something else.
    pub(super) fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<String> {
        let path = self.path_of(key);
        text(&path, self.value(key)?, faults)
    }

    /// An integer; as [`text`](Self::text).
    pub(super) fn integer(&mut self, key: &'static str, faults: &mut Faults) -> Option<i64> {
        match self.value(key)? {
            Value::Integer(integer) => Some(integer),
            other => wrong_type(&self.path_of(key), "an integer", &other, faults),
        }
    }

    /// A boolean; as [`text`](Self::text).
    pub(super) fn boolean(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        match self.value(key)? {
            Value::Boolean(boolean) => Some(boolean),
            other => wrong_type(&self.path_of(key), "true or false", &other, faults),
        }
    }

    /// One of a few words; as [`text`](Self::text).
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        let text = self.text(key, faults)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            faults.add(self.path_of(key), format!("must be one of {}, is {text:?}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A list, each element with its path; as [`text`](Self::text).
    pub(super) fn list(&mut self, key: &'static str, faults: &mut Faults) -> Option<Vec<(String, Value)>> {
        let path = self.path_of(key);
        match self.value(key)? {
            Value::Array(values) => Some(numbered(&path, 0, values)),
            other => wrong_type(&path, "a list", &other, faults),
        }
    }

    /// A list of tables; those elements that are none are noted and left out.
    pub(super) fn tables(&mut self, key: &'static str, faults: &mut Faults) -> Option<Vec<Self>> {
        let list = self.list(key, faults)?;
        Some(list.into_iter().filter_map(|(path, value)| table(&path, value, faults)).collect())
    }

    /// A table with keys of its own; as [`text`](Self::text).
    pub(super) fn table(&mut self, key: &'static str, faults: &mut Faults) -> Option<Self> {
        let path = self.path_of(key);
        table(&path, self.value(key)?, faults)
    }

    /// Every entry with its path, for a table whose keys are not known beforehand.
    pub(super) fn entries(self) -> impl Iterator<Item = (String, String, Value)> {
        let path = self.path;
        self.values.into_iter().map(move |(key, value)| (join(&path, &key), key, value))
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self, faults: &mut Faults) {
        for key in self.values.keys() {
            let known = self.known.join(", ");
            faults.add(join(&self.path, key), format!("is not a known key; known here: {known}"));
        }
    }
}

/// Takes a string.
pub(super) fn text(path: &str, value: Value, faults: &mut Faults) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        other => wrong_type(path, "a string", &other, faults),
    }
}

/// Takes a table.
pub(super) fn table(path: &str, value: Value, faults: &mut Faults) -> Option<Fields> {
    match value {
        Value::Table(values) => Some(Fields::new(path, values)),
        other => wrong_type(path, "a table", &other, faults),
    }
}

/// Gives each element its path, of which the first is the one at position `first` of the list.
pub(super) fn numbered(path: &str, first: usize, values: Vec<Value>) -> Vec<(String, Value)> {
    (first..).zip(values).map(|(index, value)| (format!("{path}[{index}]"), value)).collect()
}

/// Notes that `found` is not what it `must` be.
pub(super) fn wrong_type<T>(path: &str, must: &str, found: &Value, faults: &mut Faults) -> Option<T> {
    let is = match found {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    faults.add(path, format!("must be {must}, is {is}"));
    None
}

/// Path of a key of the table at a path.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match (path.is_empty(), bare) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{key:?}"),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}.{key:?}"),
    }
}
