//! A check by API key: what is asked, and whose the key is.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead},
};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::KeyIdentity;

use crate::when;

/// The key that the request came with.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Read the API key from standard input, so that it is in no list of processes.
    #[arg(long)]
    api_key_stdin: bool,

    /// From where the request came, for keys that may be used from some networks only.
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    pub(super) client_ip: String,

    /// Scopes that the key must have: names, and, or, parentheses.
    #[arg(long, value_name = "EXPRESSION", default_value = "", hide_default_value = true)]
    pub(super) required_scopes: String,
}

impl KeyArgs {
    /// The value of the key; empty if there is none.
    pub(super) fn value(&self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.api_key_stdin {
            io::stdin().lock().read_line(&mut line)?;
            ensure!(!line.trim().is_empty(), "--api-key-stdin: there is no key on standard input");
        }
        Ok(line.trim().to_owned())
    }
}

/// Whose the key is, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Identity {
    id: String,
    lineage_id: String,
    name: String,
    environment: String,
    scopes: Vec<String>,
    expires_at: Option<String>,
    metadata: BTreeMap<String, String>,
    organization_id: String,
    organization_name: String,
    plan: String,
}

impl From<KeyIdentity> for Identity {
    fn from(key: KeyIdentity) -> Self {
        Self {
            id: key.id,
            lineage_id: key.lineage_id,
            name: key.name,
            environment: key.environment,
            scopes: key.scopes,
            expires_at: (key.expires_at_ms > 0).then(|| when::ms(key.expires_at_ms)),
            metadata: key.metadata.into_iter().map(|entry| (entry.key, entry.value)).collect(),
            organization_id: key.organization_id,
            organization_name: key.organization_name,
            plan: key.plan,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, organization_name, organization_id, plan, .. } = self;
        write!(f, "key {name} of {organization_name} ({organization_id}), plan {plan}")
    }
}
