//! The reference service, envoyproxy/ratelimit.

use saphyr::MarkedYaml;

use super::{
    draft::{Draft, DraftLevel, DraftLimit, Drafts, Subject},
    yaml::{Fields, Node, Reader},
};
use crate::{
    domain::{MAX_TOKENS, Wildcard},
    policies::{conditions::MAX_LEVELS, names},
};

/// Their units, with the periods that they are: all are counted from 1970-01-01 on.
const UNITS: [(&str, &str); 7] = [
    ("second", "1s"),
    ("minute", "1m"),
    ("hour", "1h"),
    ("day", "1d"),
    ("week", "7d"),
    ("month", "30d"),
    ("year", "365d"),
];

/// Reads a document: a domain with its descriptors.
pub(super) fn read(document: &MarkedYaml<'_>, reader: &mut Reader, drafts: &mut Drafts) {
    let Some(mut fields) = Node::document(document).fields(reader) else { return };
    let domain = fields.take("domain");
    let descriptors = fields.take("descriptors");
    let namespace = match &domain {
        None => {
            reader.note(&fields.node, "has no domain");
            None
        }
        Some(node) => node.text(reader).filter(|domain| {
            let fault = names::namespace_fault(domain);
            fault.iter().for_each(|fault| reader.note(node, format!("{fault}; nothing of it is imported")));
            fault.is_none()
        }),
    };
    fields.finish(reader);
    if let (Some(namespace), Some(descriptors)) = (namespace, descriptors) {
        let mut domain = Domain { namespace, reader, drafts };
        domain.read_level(&descriptors, &[]);
    }
}

struct Domain<'a> {
    namespace: String,
    reader: &'a mut Reader,
    drafts: &'a mut Drafts,
}

/// An entry of a list of descriptors.
struct Entry<'y> {
    node: Node<'y>,
    fields: Fields<'y>,
    key: String,
    value: Option<String>,
}

/// A limit as it is written; unlimited if there are no tokens.
struct Limit {
    limit: Option<DraftLimit>,
    called: Option<String>,
    replaces: Vec<String>,
}

impl Domain<'_> {
    fn read_level(&mut self, list: &Node<'_>, above: &[DraftLevel]) {
        if above.len() == MAX_LEVELS {
            self.reader.note(list, format!("descriptors have at most {MAX_LEVELS} entries here"));
            return;
        }
        let mut before: Vec<Entry<'_>> = Vec::new();
        for node in list.list(self.reader) {
            let Some(entry) = self.read_entry(node) else { continue };
            if self.is_reached(&entry, &before) {
                before.push(entry);
            }
        }
        for entry in before {
            self.read_descriptor(entry, above);
        }
    }

    fn read_entry<'y>(&mut self, node: Node<'y>) -> Option<Entry<'y>> {
        let mut fields = node.clone().fields(self.reader)?;
        let (key, value) = (fields.take("key"), fields.take("value"));
        let Some(key) = key else {
            self.reader.note(&node, "has no key");
            return None;
        };
        let mut text = |node: &Node<'_>| {
            let text = node.text(self.reader)?;
            let is_long = text.len() > names::MAX_VALUE_BYTES;
            if is_long {
                self.reader.note(node, format!("is longer than {} bytes", names::MAX_VALUE_BYTES));
            }
            (!is_long).then_some(text)
        };
        let value = match &value {
            Some(value) => Some(text(value)?).filter(|value| !value.is_empty()),
            None => None,
        };
        let key_text = text(&key)?;
        if key_text.is_empty() {
            self.reader.note(&key, "is empty");
            return None;
        }
        Some(Entry { node, fields, key: key_text, value })
    }

    /// Whether any request comes to an entry, in the order in which they look: first the very value, then wildcards as
    /// they stand in the file, then the key alone.
    fn is_reached(&mut self, entry: &Entry<'_>, before: &[Entry<'_>]) -> bool {
        let alike = || before.iter().filter(|other| other.key == entry.key);
        if alike().any(|other| other.value == entry.value) {
            self.reader.note(&entry.node, "is there twice, which they refuse; the first is taken");
            return false;
        }
        let any = |value: &Option<String>| value.as_deref().is_none_or(|value| value == "*");
        if any(&entry.value) && alike().any(|other| any(&other.value)) {
            self.reader.note(
                &entry.node,
                "fits what another one without a value, or of value *, fits; the first is taken",
            );
            return false;
        }
        let Some(wildcard) = entry.value.as_deref().and_then(Wildcard::new) else { return true };
        for other in alike() {
            let Some(earlier) = other.value.as_deref().and_then(Wildcard::new) else { continue };
            if earlier.covers(&wildcard) {
                let description =
                    format!("is never reached: {:?} stands before it and fits all of it", earlier.text());
                self.reader.note(&entry.node, description);
                return false;
            }
            if wildcard < earlier && !earlier.is_apart_from(&wildcard) {
                let (here, there) = (wildcard.text(), earlier.text());
                let description = format!(
                    "a value that fits {here:?} and {there:?} is counted by {here:?} here, by {there:?} there"
                );
                self.reader.note(&entry.node, description);
            }
        }
        true
    }

    fn read_descriptor(&mut self, entry: Entry<'_>, above: &[DraftLevel]) {
        let Entry { mut fields, key, value, .. } = entry;
        let is_wildcard = value.as_ref().is_some_and(|value| value.contains('*'));
        let share = fields.take("share_threshold").filter(|share| share.truth(self.reader));
        if let Some(share) = share.as_ref().filter(|_| !is_wildcard) {
            self.reader.note(share, "goes only with a wildcard, else they refuse it");
        }
        let level = DraftLevel { key, value, shared: share.is_some() && is_wildcard };
        let levels = [above, &[level]].concat();
        let limit = fields.take("rate_limit");
        let nested = fields.take("descriptors");
        let shadow = fields.truth("shadow_mode", self.reader);
        if let Some(quota) = fields.take("quota_mode").filter(|quota| quota.truth(self.reader)) {
            self.reader.note(
                &quota,
                "there a request is denied once all of its quotas are used up; here each of them denies",
            );
        }
        for metric in ["detailed_metric", "value_to_metric"] {
            if let Some(metric) = fields.take(metric).filter(|metric| metric.truth(self.reader)) {
                self.reader.note(&metric, "metrics have no labels made of values here");
            }
        }
        if let Some(metadata) = fields.take("metadata") {
            self.reader.note(&metadata, "answers carry no metadata of policies here");
        }
        fields.finish(self.reader);
        let has_nested = nested.as_ref().is_some_and(|nested| !nested.list(self.reader).is_empty());
        let limit = match limit {
            Some(limit) => self.read_limit(&limit),
            // Nothing is limited there, whatever is said beside it of any value.
            None if !has_nested => Some(Limit { limit: None, called: None, replaces: Vec::new() }),
            None => None,
        };
        if let Some(Limit { limit, called, replaces }) = limit {
            let parts: Vec<_> = levels
                .iter()
                .map(|level| {
                    level
                        .value
                        .as_ref()
                        .map_or_else(|| level.key.clone(), |value| format!("{}-{value}", level.key))
                })
                .collect();
            self.drafts.add(Draft {
                namespace: self.namespace.clone(),
                name: parts.join("."),
                shadow: shadow && limit.is_some(),
                limit,
                subject: Subject::Descriptor { levels: levels.clone(), called, replaces },
            });
        }
        if let Some(nested) = nested.filter(|_| has_nested) {
            self.read_level(&nested, &levels);
        }
    }

    fn read_limit(&mut self, node: &Node<'_>) -> Option<Limit> {
        let reader = &mut *self.reader;
        let mut fields = node.clone().fields(reader)?;
        let unlimited = fields.truth("unlimited", reader);
        let called = fields.text("name", reader);
        let replaces = fields.take("replaces").map_or_else(Vec::new, |list| list.list(reader));
        let mut names = Vec::new();
        for replaced in replaces {
            let Some(mut replaced) = replaced.fields(reader) else { continue };
            names.extend(replaced.text("name", reader));
            replaced.finish(reader);
        }
        let unit = fields.take("unit");
        let tokens = fields.take("requests_per_unit");
        fields.finish(reader);
        if unlimited {
            if let Some(unit) = &unit {
                reader.note(unit, "they refuse a unit of what is unlimited; it is taken as unlimited");
            }
            return Some(Limit { limit: None, called, replaces: names });
        }
        let Some(unit) = unit else {
            reader.note(node, "has no unit, which they refuse; the limit is left out");
            return None;
        };
        let text = unit.text(reader)?.to_lowercase();
        let Some((name, period)) = UNITS.iter().find(|(name, _)| *name == text) else {
            reader.note(&unit, format!("is no unit: {text:?}; the limit is left out"));
            return None;
        };
        // Without a number it is 0 there, and denies everything.
        let mut count = 0;
        if let Some(tokens) = &tokens {
            count = tokens.number(reader)?;
            if count > MAX_TOKENS {
                reader.note(tokens, format!("is taken as {MAX_TOKENS}, the most that a limit has here"));
            }
        }
        let limit = DraftLimit { name, tokens: count.min(MAX_TOKENS), period: (*period).to_owned() };
        Some(Limit { limit: Some(limit), called, replaces: names })
    }
}
