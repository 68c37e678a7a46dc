//! Entries on the screen: as JSON, and what is said of each.

use serde::Serialize;
use tidegate_proto::ratelimit::v1::EntryMeta;
use toml::Table;

use super::entry::{Entry, Key, origin, when};

/// An entry as `--json` prints it: its fields as in a policy file, and what the service says of it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    fields: Table,
    meta: Meta,
}

#[derive(Debug, Serialize)]
struct Meta {
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    etag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    updated_at: String,
    hides_database_entry: bool,
}

impl Shown {
    /// Of an entry.
    pub(crate) fn new(entry: &Entry) -> Self {
        let mut fields = entry.fields();
        if let Key::Assignment(attribute, value) = entry.key() {
            fields.insert("attribute".to_owned(), attribute.into());
            fields.insert("value".to_owned(), value.into());
        }
        Self { fields, meta: Meta::new(&entry.meta()) }
    }
}

impl Meta {
    fn new(meta: &EntryMeta) -> Self {
        Self {
            origin: origin(meta),
            version: (meta.version != 0).then_some(meta.version),
            etag: meta.etag.clone(),
            created_at: when(meta.create_time.as_ref()),
            updated_at: when(meta.update_time.as_ref()),
            hides_database_entry: meta.hides_database_entry,
        }
    }
}

/// The origin of an entry and its version, if it has one.
pub(crate) fn provenance(meta: &EntryMeta) -> (String, String) {
    let hides = if meta.hides_database_entry { ", hides one of the database" } else { "" };
    let version = if meta.version == 0 { String::new() } else { meta.version.to_string() };
    (format!("{}{hides}", origin(meta)), version)
}
