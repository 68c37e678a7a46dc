//! The policies in force: read from a file, checked as a whole, and read again when it changes.

mod compile;
mod conditions;
mod derivations;
mod document;
mod file;
pub mod import;
mod layers;
mod limits;
mod names;
mod overrides;
mod period;
mod rate;
mod reader;
mod stored;
mod summary;
mod watch;

use std::{fmt, fs, ops::Deref, path::Path};

use siphasher::sip128::SipHasher24;

use self::{
    document::{Document, PIECE},
    file::PolicyFile,
    reader::Faults,
};
use crate::domain::PolicySet;

pub(crate) use conditions::MAX_LEVELS;
pub(crate) use layers::{Layers, Listed, Origin, Trial};
pub use overrides::spelt_out;
pub(crate) use stored::StoredEntry;
pub use summary::PolicySummary;
pub(crate) use watch::PolicyWatch;

/// The built-in policy file: the four plans and the policies that apply when nothing else is said. It is
/// also the manual of the format.
pub const BUILT_IN: &str = include_str!("../policies.default.toml");

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Where: a path as `policies[2].limits[0].period`, `line 3, column 5` if the file is not UTF-8 or not
    /// TOML, or empty if it could not be read.
    pub path: String,
    /// What.
    pub description: String,
}

/// So many faults are logged one by one; `tidegate policies validate` shows them all.
const MAX_LOGGED: usize = 100;

/// Gives `log` the first faults of many, and tells how many more there are.
pub(crate) fn log_faults(faults: &[PolicyError], log: impl Fn(&PolicyError)) {
    faults.iter().take(MAX_LOGGED).for_each(log);
    let more = faults.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        tracing::error!(more, "there are more faults in the policies, which are not logged");
    }
}

/// Everything that is wrong with a policy file: at least one fault. Shown one per line, each
/// preceded by the name of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    origin: String,
    errors: Vec<PolicyError>,
}

impl PolicyErrors {
    /// Those of `origin`, at least one.
    pub(crate) fn of(origin: &str, errors: Vec<PolicyError>) -> Self {
        Self { origin: origin.to_owned(), errors }
    }

    fn one(origin: &str, path: String, description: String) -> Self {
        Self { origin: origin.to_owned(), errors: vec![PolicyError { path, description }] }
    }
}

impl Deref for PolicyErrors {
    type Target = [PolicyError];

    fn deref(&self) -> &Self::Target {
        &self.errors
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.description)
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(formatter, "{line_break}{}: {error}", self.origin)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// Reads the policies of a file. `replicas` is how many replicas share a limit when each has to count
/// by itself (failure mode `local`).
///
/// # Errors
///
/// Every fault of the file, or the one that it cannot be read.
pub fn load(path: &Path, replicas: u32) -> Result<PolicySet, PolicyErrors> {
    load_layers(path, replicas).map(built)
}

/// As [`load`], before what is there is put together.
pub(crate) fn load_layers(path: &Path, replicas: u32) -> Result<Layers, PolicyErrors> {
    let origin = path.display().to_string();
    match fs::read(path) {
        Ok(bytes) => Layers::of_text(utf8(&bytes, &origin)?, &origin, replicas),
        Err(error) => Err(PolicyErrors::one(&origin, String::new(), format!("cannot be read: {error}"))),
    }
}

/// Reads the policies from the text of a file; `origin` names it in errors.
///
/// # Errors
///
/// Every fault of the text.
pub fn parse(text: &str, origin: &str, replicas: u32) -> Result<PolicySet, PolicyErrors> {
    Layers::of_text(text, origin, replicas).map(built)
}

/// The policies that apply when there is no file.
pub fn builtin(replicas: u32) -> PolicySet {
    built(Layers::built_in(replicas))
}

fn built(mut layers: Layers) -> PolicySet {
    layers.build().expect("what is built in has no fault, and a file with one was refused")
}

/// What may not be a text.
fn utf8<'b>(bytes: &'b [u8], origin: &str) -> Result<&'b str, PolicyErrors> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        PolicyErrors::one(origin, place_after(&before), "is not UTF-8".to_owned())
    })
}

fn read_built_in() -> PolicyFile {
    let mut faults = Faults::default();
    let file = read(BUILT_IN, &mut faults).expect("the built-in policies are TOML");
    assert!(faults.0.is_empty(), "the built-in policies have faults: {:?}", faults.0);
    file
}

fn read(text: &str, faults: &mut Faults) -> Option<PolicyFile> {
    if let Some(document) = Document::in_pieces(text, PIECE) {
        let mut noted = Faults::default();
        if let Ok(file) = PolicyFile::read(document, &mut noted) {
            faults.0.append(&mut noted.0);
            return Some(file);
        }
    }
    match text.parse() {
        Ok(table) => {
            let whole = Document::whole(table);
            Some(PolicyFile::read(whole, faults).expect("a document that is a tree has no pieces"))
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            faults.add(place_after(text.get(..at).unwrap_or(text)), error.message().replace('\n', "; "));
            None
        }
    }
}

/// The place in a file that `before` comes before.
fn place_after(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}")
}

/// Tells one text from another.
fn fingerprint(text: &[u8]) -> u128 {
    SipHasher24::new().hash(text).as_u128()
}

#[cfg(test)]
mod tests;
