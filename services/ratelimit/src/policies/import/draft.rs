//! Policies to be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::ImportSource;
use crate::policies::names::MAX_NAME_BYTES;

/// The policies of a file, in their order.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    drafts: Vec<Draft>,
    names: BTreeSet<(String, String)>,
}

/// One policy.
#[derive(Debug)]
pub(super) struct Draft {
    pub namespace: String,
    pub name: String,
    pub subject: Subject,
    /// None: unlimited.
    pub limit: Option<DraftLimit>,
    pub shadow: bool,
}

/// What a policy is for.
#[derive(Debug)]
pub(super) enum Subject {
    Descriptor {
        levels: Vec<DraftLevel>,
        /// What others may call it to take its place.
        called: Option<String>,
        /// What those are called whose place it takes.
        replaces: Vec<String>,
    },
    Attributes {
        conditions: Vec<(String, String)>,
        when: Option<String>,
        key_by: Vec<String>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct DraftLevel {
    pub key: String,
    pub value: Option<String>,
    pub shared: bool,
}

#[derive(Debug)]
pub(super) struct DraftLimit {
    pub name: &'static str,
    pub tokens: u64,
    pub period: String,
}

impl Drafts {
    pub(super) fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Adds a policy, under a name that none has in its namespace.
    pub(super) fn add(&mut self, draft: Draft) {
        let name = self.free_name(&draft.namespace, &draft.name);
        self.drafts.push(Draft { name, ..draft });
    }

    /// A name made of what describes a policy.
    fn free_name(&mut self, namespace: &str, description: &str) -> String {
        let mut slug = String::new();
        for c in description.to_lowercase().chars() {
            match c {
                '.' | '-' if slug.ends_with(['.', '-']) => {}
                'a'..='z' | '0'..='9' | '.' | '_' => slug.push(c),
                _ if slug.ends_with(['.', '-']) => {}
                _ => slug.push('-'),
            }
        }
        let slug = slug.trim_matches('-');
        let slug = if slug.is_empty() { "policy" } else { slug };
        for number in 1_u32.. {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let name = format!("{}{suffix}", &slug[..slug.len().min(MAX_NAME_BYTES - suffix.len())]);
            if self.names.insert((namespace.to_owned(), name.clone())) {
                return name;
            }
        }
        unreachable!("numbers do not end")
    }

    /// The policy file.
    pub(super) fn write(&self, source: ImportSource) -> String {
        let setting = match source {
            ImportSource::EnvoyRatelimit => "envoy_compatible = true",
            ImportSource::Limitador => "first_descriptor_only = true",
        };
        let mut text = "builtin = false\n\n# What is answered when the store is gone: closed denies.\n[defaults]\nfailure_mode = \"closed\"\n".to_owned();
        let namespaces: BTreeSet<_> = self.drafts.iter().map(|draft| &*draft.namespace).collect();
        for namespace in namespaces {
            _ = write!(text, "\n[namespaces.{}]\n{setting}\n", quoted(namespace));
        }
        let mut called = BTreeMap::<_, Vec<_>>::new();
        for draft in &self.drafts {
            if let Subject::Descriptor { called: Some(name), .. } = &draft.subject {
                called.entry((&*draft.namespace, &**name)).or_default().push(&*draft.name);
            }
        }
        for draft in &self.drafts {
            draft.write(&called, &mut text);
        }
        text
    }
}

impl Draft {
    fn write(&self, called: &BTreeMap<(&str, &str), Vec<&str>>, text: &mut String) {
        _ = write!(
            text,
            "\n[[policies]]\nname = {}\nnamespace = {}\n",
            quoted(&self.name),
            quoted(&self.namespace)
        );
        match &self.subject {
            Subject::Descriptor { levels, replaces, .. } => {
                let levels: Vec<_> = levels.iter().map(DraftLevel::written).collect();
                _ = writeln!(text, "descriptor = [{}]", levels.join(", "));
                let replaced = replaces.iter().filter_map(|name| called.get(&(&*self.namespace, &**name)));
                let replaced: BTreeSet<_> = replaced.flatten().filter(|name| **name != self.name).collect();
                if !replaced.is_empty() {
                    _ = writeln!(text, "replaces = {}", list(replaced));
                }
            }
            Subject::Attributes { conditions, when, key_by } => {
                if !conditions.is_empty() {
                    let conditions: Vec<_> = conditions
                        .iter()
                        .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
                        .collect();
                    _ = writeln!(text, "match = {{ {} }}", conditions.join(", "));
                }
                if let Some(when) = when {
                    _ = writeln!(text, "when = {}", quoted(when));
                }
                _ = writeln!(text, "key_by = {}", list(key_by));
            }
        }
        if self.shadow {
            text.push_str("enforcement = \"shadow\"\n");
        }
        match &self.limit {
            None => text.push_str("unlimited = true\n"),
            Some(DraftLimit { name, tokens, period }) => {
                _ = writeln!(
                    text,
                    "limits = [{{ name = \"{name}\", algorithm = \"fixed_window\", limit = {tokens}, period = \"{period}\" }}]"
                );
            }
        }
    }
}

impl DraftLevel {
    fn written(&self) -> String {
        let value =
            self.value.as_ref().map_or_else(String::new, |value| format!(", value = {}", quoted(value)));
        let shared = if self.shared { ", shared = true" } else { "" };
        format!("{{ key = {}{value}{shared} }}", quoted(&self.key))
    }
}

fn list(texts: impl IntoIterator<Item: AsRef<str>>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
