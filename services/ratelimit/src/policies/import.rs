//! Configurations of other rate-limit services, as policy files.
//!
//! What has no counterpart is left out, or taken as what comes nearest, and told with its place. Facts about the other services are
//! those of their documentation and source code.

mod condition;
mod draft;
mod envoy;
mod limitador;
mod yaml;

use std::fmt;

use self::{draft::Drafts, yaml::Reader};

/// Whose configuration is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// envoyproxy/ratelimit, the reference service of Envoy's protocol: one file for a domain.
    EnvoyRatelimit,
    /// Limitador: a list of limits.
    Limitador,
}

/// A policy file made of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The policy file.
    pub text: String,
    /// How many policies it has.
    pub policies: usize,
    /// What is not, or not quite, in it.
    pub left_out: Vec<LeftOut>,
}

/// Something of a configuration that has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Name of the file.
    pub origin: String,
    /// Line in it, from 1 on.
    pub line: usize,
    /// Where, as `descriptors[2].rate_limit.unit`.
    pub path: String,
    /// What and why.
    pub description: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, line, path, description } = self;
        write!(formatter, "{origin}:{line}: ")?;
        if !path.is_empty() {
            write!(formatter, "{path}: ")?;
        }
        formatter.write_str(description)
    }
}

/// Turns the texts of files, each after its name, into one policy file.
///
/// # Errors
///
/// The files that are not YAML, each with its place.
pub fn import(source: ImportSource, files: &[(String, String)]) -> Result<Imported, Vec<LeftOut>> {
    let mut reader = Reader::default();
    let mut drafts = Drafts::default();
    let mut broken = Vec::new();
    for (origin, text) in files {
        match yaml::parse(text) {
            Ok(documents) => {
                origin.clone_into(&mut reader.origin);
                for document in &documents {
                    match source {
                        ImportSource::EnvoyRatelimit => envoy::read(document, &mut reader, &mut drafts),
                        ImportSource::Limitador => limitador::read(document, &mut reader, &mut drafts),
                    }
                }
            }
            Err((line, description)) => {
                broken.push(LeftOut { origin: origin.clone(), line, path: String::new(), description });
            }
        }
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let policies = drafts.len();
    Ok(Imported { text: drafts.write(source), policies, left_out: reader.left_out })
}

#[cfg(test)]
mod tests;
