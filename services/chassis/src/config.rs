//! Configuration: embedded commented defaults, then a file, then the environment.
//!
//! The defaults of a service are its manual: every key it knows stands there. A key of the file or
//! of the environment that does not is refused, and so is every value that does not fit; all faults
//! are reported at once, each with its key and where it came from.
//!
//! - `TIDEGATE_<SECTION>__<KEY>` sets `<section>.<key>`; a double underscore separates levels.
//! - An optional setting has the default `""`, and `""` means "not set" (see [`not_empty`]).
//! - A table that is empty in the defaults is open: it takes any keys.
//! - Environment values are read as the type of the default: lists as a TOML array or separated by
//!   commas, booleans as true/false, yes/no, on/off or 1/0 in any case.

mod args;
mod layers;
mod redact;
mod rules;
mod values;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub use self::{
    args::ConfigArgs,
    rules::{url, url_if_any, uuid_if_any},
    values::{HumanDuration, Secret},
};
use self::{
    layers::{Layers, Origin},
    redact::redact,
};

/// Where the settings of one process come from.
#[derive(Clone, Debug, Default)]
pub struct Source<'a> {
    /// The embedded, commented TOML that names every key.
    pub defaults: &'a str,
    /// A TOML file that overrides some of them.
    pub file: Option<&'a Path>,
    /// The environment (`std::env::vars().collect()`); it overrides the file. Empty values are
    /// settings too.
    pub env: Vec<(String, String)>,
    /// Further names: environment variable to dotted key. A variable may stand here more than once.
    /// `TIDEGATE_…__…` wins over an alias.
    pub aliases: &'a [(&'a str, &'a str)],
    /// `TIDEGATE_` variables that belong to other binaries and are passed over.
    pub ignored: &'a [&'a str],
}

impl Source<'_> {
    /// The environment of this process, without variables that are not Unicode (no setting is).
    #[must_use]
    pub fn process_env() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

/// Where the process runs; production refuses what is only good for trying out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Anything goes.
    #[default]
    Development,
    /// In-memory counters and weak secrets are refused, reflection is off.
    Production,
}

impl Environment {
    /// Adds the fault "production refuses `what`" for `key` if it `is_so` and this is production.
    pub fn refuse_in_production(self, key: &str, is_so: bool, what: &str, faults: &mut Vec<Fault>) {
        if is_so && self == Self::Production {
            let message = format!("ENVIRONMENT=production refuses {what}");
            faults.push(Fault { key: key.to_owned(), origin: None, message });
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Dotted key, `server.workers`.
    pub key: String,
    /// The file or the environment variable that set it; `None` for the defaults.
    pub origin: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " (from {origin})"))
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// The file, or the embedded defaults.
        origin: String,
        /// Line, column and what was expected; never what stands there, which may be secret.
        message: String,
    },
    /// Unknown keys or bad values; all of them.
    #[error("the configuration is refused:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Refused(Vec<Fault>),
}

/// Reads, merges and validates the settings.
///
/// # Errors
/// [`ConfigError::Refused`] lists every unknown key and every bad value. Rules that span several
/// keys are checked once each value is right on its own.
pub fn load<C>(source: &Source<'_>) -> Result<C, ConfigError>
where
    C: DeserializeOwned + Validate<Context = ()>,
{
    let mut layers = Layers::from_defaults(source.defaults)?;
    if let Some(path) = source.file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        layers.read_file(&path.display().to_string(), &text)?;
    }
    layers.read_env(source);
    let (merged, origins, mut faults) = layers.merge(|table| C::deserialize(table).map(drop));
    if !faults.is_empty() {
        return Err(ConfigError::Refused(faults));
    }
    let config = C::deserialize(merged).map_err(|error| {
        let message = error.to_string().trim().replace('\n', " ");
        ConfigError::Refused(vec![Fault { key: "configuration".to_owned(), origin: None, message }])
    })?;
    if let Err(report) = config.validate() {
        faults.extend(report.iter().map(|(path, error)| {
            let key = path.to_string();
            let origin = origins.get(&key).map(Origin::to_string);
            Fault { key, origin, message: error.to_string() }
        }));
        return Err(ConfigError::Refused(faults));
    }
    Ok(config)
}

/// The settings as TOML, without what is secret: [`Secret`] fields and passwords in URLs.
pub fn print_redacted<C: Serialize>(config: &C) -> String {
    match toml::Value::try_from(config) {
        Ok(mut value) => {
            redact(&mut value);
            toml::to_string_pretty(&value).unwrap_or_else(|error| format!("# {error}\n"))
        }
        Err(error) => format!("# the settings cannot be shown as TOML: {error}\n"),
    }
}

/// Puts the defaults of several services under one table each, as `tidegate up` has them:
/// `[ratelimit.server]`, `[gateway.server]`.
///
/// # Errors
/// [`ConfigError::Syntax`] if one of them is not TOML.
pub fn nested_defaults(services: &[(&str, &str)]) -> Result<String, ConfigError> {
    let mut tables = toml::Table::new();
    for (name, defaults) in services {
        tables
            .insert((*name).to_owned(), layers::parse(&format!("the defaults of {name}"), defaults)?.into());
    }
    Ok(tables.to_string())
}

/// For `#[serde(deserialize_with = "…::not_empty")]` on an optional string: `""` is `None`.
///
/// # Errors
/// If the value is not a string.
pub fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}
