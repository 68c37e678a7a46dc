//! YAML, read so that everything has its place and what nobody asked for is told.

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::LeftOut;

/// Reads the documents of a text.
///
/// # Errors
///
/// The line, and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Vec<MarkedYaml<'_>>, (usize, String)> {
    MarkedYaml::load_from_str(text)
        .map_err(|error| (error.marker().line(), format!("is not YAML: {}", error.info())))
}

/// What was found to have no counterpart so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Name of the file that is read.
    pub origin: String,
    pub left_out: Vec<LeftOut>,
}

impl Reader {
    /// Notes that what stands there has no counterpart.
    pub(super) fn note(&mut self, at: &Node<'_>, description: impl Into<String>) {
        self.left_out.push(LeftOut {
            origin: self.origin.clone(),
            line: at.line,
            path: at.path.clone(),
            description: description.into(),
        });
    }
}

/// Something in a document, with its place.
#[derive(Clone)]
pub(super) struct Node<'y> {
    pub path: String,
    line: usize,
    yaml: &'y MarkedYaml<'y>,
}

impl<'y> Node<'y> {
    /// A whole document.
    pub(super) fn document(yaml: &'y MarkedYaml<'y>) -> Self {
        Self { path: String::new(), line: yaml.span.start.line(), yaml }
    }

    /// Whether there is nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.yaml.data, YamlData::Value(Scalar::Null))
    }

    /// The entries of a mapping; notes if it is none.
    pub(super) fn fields(self, reader: &mut Reader) -> Option<Fields<'y>> {
        let YamlData::Mapping(mapping) = &self.yaml.data else {
            reader.note(&self, "is no mapping");
            return None;
        };
        let mut entries = Vec::new();
        for (key, value) in mapping {
            let YamlData::Value(Scalar::String(name)) = &key.data else {
                reader.note(&self, "has a key that is no text");
                continue;
            };
            let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
            entries.push((&**name, Self { path, line: key.span.start.line(), yaml: value }));
        }
        Some(Fields { node: self, entries })
    }

    /// The elements of a list, of which there are none if there is nothing; notes if it is something else.
    pub(super) fn list(&self, reader: &mut Reader) -> Vec<Self> {
        match &self.yaml.data {
            YamlData::Sequence(elements) => {
                let numbered = elements.iter().enumerate();
                let element = |(index, yaml): (usize, &'y MarkedYaml<'y>)| Self {
                    path: format!("{}[{index}]", self.path),
                    line: yaml.span.start.line(),
                    yaml,
                };
                numbered.map(element).collect()
            }
            YamlData::Value(Scalar::Null) => Vec::new(),
            _ => {
                reader.note(self, "is no list");
                Vec::new()
            }
        }
    }

    /// A text; whole numbers and truth values are as they are written. Notes if it is something else.
    pub(super) fn text(&self, reader: &mut Reader) -> Option<String> {
        match &self.yaml.data {
            YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
            YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
            YamlData::Value(Scalar::Boolean(truth)) => Some(truth.to_string()),
            _ => {
                reader.note(self, "is no text; put it in quotes");
                None
            }
        }
    }

    /// A truth value; notes if it is something else.
    pub(super) fn truth(&self, reader: &mut Reader) -> bool {
        match self.yaml.data {
            YamlData::Value(Scalar::Boolean(truth)) => truth,
            YamlData::Value(Scalar::Null) => false,
            _ => {
                reader.note(self, "is neither true nor false");
                false
            }
        }
    }

    /// A whole number that is not negative; notes if it is something else.
    pub(super) fn number(&self, reader: &mut Reader) -> Option<u64> {
        let number = match self.yaml.data {
            YamlData::Value(Scalar::Integer(number)) => u64::try_from(number).ok(),
            _ => None,
        };
        if number.is_none() {
            reader.note(self, "is no whole number of 0 or more");
        }
        number
    }
}

/// The entries of a mapping. Take those that are known, then [`finish`](Self::finish).
pub(super) struct Fields<'y> {
    /// The mapping itself.
    pub node: Node<'y>,
    entries: Vec<(&'y str, Node<'y>)>,
}

impl<'y> Fields<'y> {
    /// What stands under a key; nothing if the key is absent, or empty.
    pub(super) fn take(&mut self, key: &str) -> Option<Node<'y>> {
        let at = self.entries.iter().position(|(name, _)| *name == key)?;
        Some(self.entries.remove(at).1).filter(|node| !node.is_null())
    }

    /// As [`Node::truth`]; false if the key is absent.
    pub(super) fn truth(&mut self, key: &str, reader: &mut Reader) -> bool {
        self.take(key).is_some_and(|node| node.truth(reader))
    }

    /// As [`Node::text`]; nothing if the key is absent.
    pub(super) fn text(&mut self, key: &str, reader: &mut Reader) -> Option<String> {
        self.take(key).and_then(|node| node.text(reader))
    }

    /// Notes every key that was not taken.
    pub(super) fn finish(self, reader: &mut Reader) {
        for (_, node) in &self.entries {
            reader.note(node, "is not a known key");
        }
    }
}
