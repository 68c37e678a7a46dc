//! Limitador.

use std::collections::BTreeSet;

use saphyr::MarkedYaml;

use super::{
    condition::{Condition, condition, variable},
    draft::{Draft, DraftLimit, Drafts, Subject},
    yaml::{Fields, Node, Reader},
};
use crate::{
    domain::{Expression, MAX_TOKENS},
    policies::{conditions::MAX_KEY_ATTRIBUTES, names},
};

/// The longest period: that of our limits.
const MAX_SECONDS: u64 = 3_650 * 86_400;

/// Reads a document: a list of limits.
pub(super) fn read(document: &MarkedYaml<'_>, reader: &mut Reader, drafts: &mut Drafts) {
    let mut known = BTreeSet::new();
    for node in Node::document(document).list(reader) {
        let Some(fields) = node.fields(reader) else { continue };
        if let Some(draft) = read_limit(fields, &mut known, reader) {
            drafts.add(draft);
        }
    }
}

/// What tells one of their limits from another.
type Identity = (String, u64, BTreeSet<String>, BTreeSet<String>);

fn read_limit(mut fields: Fields<'_>, known: &mut BTreeSet<Identity>, reader: &mut Reader) -> Option<Draft> {
    let node = fields.node.clone();
    let id = fields.text("id", reader);
    let name = fields.text("name", reader).or(id);
    let (namespace, tokens, seconds) =
        (fields.take("namespace"), fields.take("max_value"), fields.take("seconds"));
    let conditions = fields.take("conditions").map_or_else(Vec::new, |list| list.list(reader));
    let variables = fields.take("variables").map_or_else(Vec::new, |list| list.list(reader));
    fields.finish(reader);
    let mut need = |field: Option<Node<'_>>, name: &str| {
        if field.is_none() {
            reader.note(&node, format!("has no {name}; the limit is left out"));
        }
        field.is_some()
    };
    let is_whole = need(namespace.clone(), "namespace") & need(seconds.clone(), "seconds");
    let (namespace_node, seconds_node) = (namespace.filter(|_| is_whole)?, seconds?);

    let namespace = namespace_node.text(reader)?;
    if let Some(fault) = names::namespace_fault(&namespace) {
        reader.note(&namespace_node, format!("{fault}; the limit is left out"));
        return None;
    }
    let seconds = seconds_node.number(reader)?;
    if !(1..=MAX_SECONDS).contains(&seconds) {
        reader.note(&seconds_node, format!("must be 1 to {MAX_SECONDS}; the limit is left out"));
        return None;
    }
    let subject = read_subject(&conditions, &variables, reader)?;
    let texts =
        |nodes: &[Node<'_>]| nodes.iter().filter_map(|node| node.text(&mut Reader::default())).collect();
    if !known.insert((namespace.clone(), seconds, texts(&conditions), texts(&variables))) {
        reader.note(&node, "is the same limit as one before it: there too only one of them counts");
        return None;
    }
    // Without a number it is 0 there.
    let count = match &tokens {
        Some(tokens) => tokens.number(reader)?,
        None => 0,
    };
    let at = tokens.as_ref().unwrap_or(&node);
    if count == 0 {
        reader.note(at, "a max_value of 0 denies everything, and only policies with a descriptor can here; the limit is left out");
        return None;
    }
    if count > MAX_TOKENS {
        reader.note(at, format!("is taken as {MAX_TOKENS}, the most that a limit has here"));
    }
    Some(Draft {
        name: name.unwrap_or_else(|| format!("{}.{seconds}s", subject.description())),
        namespace,
        subject: subject.into_subject(),
        limit: Some(DraftLimit {
            name: "window",
            tokens: count.min(MAX_TOKENS),
            period: format!("{seconds}s"),
        }),
        shadow: false,
    })
}

/// What a limit is for.
struct Asked {
    conditions: Vec<(String, String)>,
    expressions: Vec<String>,
    key_by: Vec<String>,
}

/// Nothing if there is anything without a counterpart: the rest of it would count other requests.
fn read_subject(conditions: &[Node<'_>], variables: &[Node<'_>], reader: &mut Reader) -> Option<Asked> {
    let mut asked = Asked { conditions: Vec::new(), expressions: Vec::new(), key_by: Vec::new() };
    let mut is_whole = true;
    let mut left_out = |node: &Node<'_>, why: &str, reader: &mut Reader| {
        reader.note(node, format!("{why}; the limit is left out"));
        is_whole = false;
    };
    for node in conditions {
        let Some(text) = node.text(reader) else {
            left_out(node, "is no condition", reader);
            continue;
        };
        match condition(&text) {
            Ok(Condition::Is { attribute, value }) => {
                match asked.conditions.iter().any(|(name, _)| *name == attribute) {
                    // An attribute is asked for once in a table.
                    true => asked.expressions.push(format!("attributes[{attribute:?}] == {value:?}")),
                    false => asked.conditions.push((attribute, value)),
                }
            }
            Ok(Condition::When(text)) => asked.expressions.push(text),
            Err(why) => left_out(node, &why, reader),
        }
    }
    for node in variables {
        let Some(text) = node.text(reader) else {
            left_out(node, "is no variable", reader);
            continue;
        };
        match variable(&text) {
            Ok(name) if asked.key_by.contains(&name) => {}
            Ok(name) => asked.key_by.push(name),
            Err(why) => left_out(node, &why, reader),
        }
    }
    if let (Some(node), true) = (variables.first(), asked.key_by.len() > MAX_KEY_ATTRIBUTES) {
        left_out(node, &format!("at most {MAX_KEY_ATTRIBUTES} attributes make a key here"), reader);
    }
    if let (Some(node), Some(when)) = (conditions.first(), asked.when())
        && let Err(faults) = Expression::parse(&when)
    {
        left_out(node, &format!("taken together, {}", faults.join("; ")), reader);
    }
    is_whole.then_some(asked)
}

impl Asked {
    /// All expressions as one.
    fn when(&self) -> Option<String> {
        match &self.expressions[..] {
            [] => None,
            [only] => Some(only.clone()),
            several => Some(format!("({})", several.join(") && ("))),
        }
    }

    fn description(&self) -> String {
        let conditions = self.conditions.iter().map(|(name, value)| format!("{name}-{value}"));
        let expressions = self
            .expressions
            .iter()
            .map(|text| text.replace(['[', ']', '"', '\''], "").replace("attributes", ""));
        let keys = (!self.key_by.is_empty()).then(|| format!("per-{}", self.key_by.join("-")));
        let parts: Vec<_> = conditions.chain(expressions).chain(keys).collect();
        if parts.is_empty() { "all".to_owned() } else { parts.join(".") }
    }

    fn into_subject(self) -> Subject {
        let when = self.when();
        Subject::Attributes { conditions: self.conditions, when, key_by: self.key_by }
    }
}
