//! `tidegate keys import`: keys of another system, by their hashes.

use std::{fs, io::Read, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use tidegate_proto::keys::v1::{
    ImportApiKeysRequest, ImportedKey, KeyEnvironment, imported_key::MetadataEntry,
};

use super::{Owner, shown::line};
use crate::client;

const EXAMPLES: &str = "\
Examples:
  tidegate keys import keys.jsonl
  printf '{\"sha256\":\"%s\",\"name\":\"legacy\"}\\n' \"$(printf %s \"$OLD_KEY\" | sha256sum | cut -d' ' -f1)\" | tidegate keys import -

One key a line, as JSON: sha256 (of its value, 64 hex digits) and name; and if wanted key_prefix, environment (live or test), scopes (a list),
expires_at_ms and metadata (an object). 1,000 are sent at a time; those of one call are all taken in or none.";

/// The most that one call takes in.
const AT_A_TIME: usize = 1_000;

/// Take in keys of another system by the SHA-256 of their values: they are accepted from then on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    owner: Owner,

    /// A file of JSON lines; - for standard input.
    file: PathBuf,
}

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sha256: String,
    name: String,
    #[serde(default)]
    key_prefix: String,
    #[serde(default)]
    environment: Environment,
    #[serde(default)]
    scopes: Vec<String>,
    expires_at_ms: Option<u64>,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Environment {
    #[default]
    Live,
    Test,
}

/// Takes them in.
pub(super) async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text =
            fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    }
    let keys = read(&text)?;
    let mut client = args.owner.connect().await?;
    let mut done = 0;
    for keys in keys.chunks(AT_A_TIME) {
        let organization_id = args.owner.organization.clone();
        let request = ImportApiKeysRequest { organization_id, keys: keys.to_vec() };
        let answer = client.import_api_keys(request).await.map_err(|status| client::explain(&status));
        let answer =
            answer.with_context(|| format!("{done} keys were taken in, those after them were not"))?;
        for key in &answer.into_inner().keys {
            anstream::println!("{}", line(key));
            done += 1;
        }
    }
    anstream::eprintln!("{done} keys were taken in");
    Ok(ExitCode::SUCCESS)
}

/// Every line, or what is wrong with all of those that are.
fn read(text: &str) -> anyhow::Result<Vec<ImportedKey>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut keys, mut faults) = (Vec::new(), String::new());
    for (index, line) in lines {
        match imported(line) {
            Ok(key) => keys.push(key),
            Err(error) => faults.push_str(&format!("\n  line {}: {error:#}", index + 1)),
        }
    }
    if !faults.is_empty() {
        bail!("nothing was taken in:{faults}");
    }
    ensure!(!keys.is_empty(), "there is no key in it");
    Ok(keys)
}

fn imported(line: &str) -> anyhow::Result<ImportedKey> {
    let line: Line = serde_json::from_str(line)?;
    let metadata = line.metadata.into_iter();
    Ok(ImportedKey {
        key_sha256: hash(&line.sha256).context("sha256 must be 64 hex digits")?.into(),
        name: line.name,
        key_prefix: line.key_prefix,
        environment: match line.environment {
            Environment::Live => KeyEnvironment::Live.into(),
            Environment::Test => KeyEnvironment::Test.into(),
        },
        scopes: line.scopes,
        expires_at_ms: line.expires_at_ms,
        metadata: metadata.map(|(key, value)| MetadataEntry { key, value }).collect(),
    })
}

fn hash(text: &str) -> Option<Vec<u8>> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = is_hash.then(|| text.as_bytes().chunks(2))?;
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_line_is_named_and_nothing_is_taken_in() {
        let good = format!("{{\"sha256\":\"{}\",\"name\":\"a\"}}", "0f".repeat(32));
        let keys = read(&format!("{good}\n\n{good}\n")).unwrap();
        assert_eq!((keys.len(), &keys[0].key_sha256[..2]), (2, &[15, 15][..]));

        let error =
            read(&format!("{good}\n{{}}\n{{\"sha256\":\"12\",\"name\":\"b\"}}")).unwrap_err().to_string();
        assert!(
            error.contains("line 2: ") && error.contains("line 3: sha256 must be 64 hex digits"),
            "{error}"
        );
        assert!(!error.contains("\n  line 1:"), "{error}");
    }
}
