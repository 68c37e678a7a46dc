//! `tidegate policies list`, `get` and `history`: what is in force, and what was.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{ListPolicyVersionsRequest, PolicyVersion};
use toml::{Table, Value};

use super::{
    entry::{Entry, Key, file, limits, origin, when},
    in_force::{self, Client, Service},
    shown::{Shown, provenance},
    which::{Which, policy},
};
use crate::{client, table};

const LIST_EXAMPLES: &str = "\
Examples:
  tidegate policies list
  tidegate policies list --namespace shop
  tidegate policies list --json | jq '.policies[] | select(.meta.origin == \"database\")'";

const GET_EXAMPLES: &str = "\
Examples:
  tidegate policies get shop:calls
  tidegate policies get shop:calls --version 7
  tidegate policies get --plan gold
  tidegate policies get --stored > stored.toml    # all of the database, as a file that apply reads";

const HISTORY_EXAMPLES: &str = "\
Examples:
  tidegate policies history shop:calls
  tidegate policies rollback shop:calls --to 7";

/// List policies, plans and assignments in force, wherever they come from.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    service: Service,

    /// Policies of this namespace, and nothing else.
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Print an entry as a policy file that `apply` reads.
#[derive(Debug, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    service: Service,

    #[command(flatten)]
    which: Option<Which>,

    /// All that the database holds and that is in force.
    #[arg(long, required_unless_present_any = ["policy", "plan", "assignment"], conflicts_with_all = ["Which", "version"])]
    stored: bool,

    /// This version of it, be it still in force or not.
    #[arg(long, value_name = "NUMBER", conflicts_with = "assignment")]
    version: Option<u64>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List every version that a policy of the database ever had, the newest first.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    service: Service,

    /// Which policy.
    #[arg(value_name = "NAMESPACE:NAME", value_parser = policy)]
    policy: Key,

    /// The most versions to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A policy, and how many overrides it has.
#[derive(Debug, Serialize)]
struct PolicyShown {
    #[serde(flatten)]
    policy: Shown,
    overrides: usize,
}

#[derive(Debug, Serialize)]
struct AllShown {
    policies: Vec<PolicyShown>,
    plans: Vec<Shown>,
    assignments: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct VersionShown {
    version: u64,
    time: String,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Table>,
}

/// Prints what is in force.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.service.connect().await?;
    let policies = in_force::policies(&mut client, &args.namespace).await?;
    let (mut plans, mut assignments) = (Vec::new(), Vec::new());
    if args.namespace.is_empty() {
        plans = in_force::plans(&mut client).await?;
        assignments = in_force::assignments(&mut client, "").await?;
    }
    let overrides = count_by_policy(&in_force::overrides(&mut client, &args.namespace, "").await?);
    let overrides = |policy: &Entry| overrides.get(&policy.key()).copied().unwrap_or_default();
    if args.json {
        let shown = |entries: &[Entry]| entries.iter().map(Shown::new).collect();
        let policies = policies
            .iter()
            .map(|policy| PolicyShown { policy: Shown::new(policy), overrides: overrides(policy) });
        let all =
            AllShown { policies: policies.collect(), plans: shown(&plans), assignments: shown(&assignments) };
        anstream::println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["namespace", "policy", "key", "limits", "overrides", "enforcement", "origin", "version"];
    let mut shown = table::new(&header, [4, 7]);
    for entry in &policies {
        let Key::Policy(namespace, name) = entry.key() else { continue };
        let fields = entry.fields();
        let (key, enforcement) = (subject(&fields), text(&fields, "enforcement"));
        let (origin, version) = provenance(&entry.meta());
        let overrides = Some(overrides(entry)).filter(|count| *count != 0);
        let overrides = overrides.map(|count| count.to_string()).unwrap_or_default();
        shown.add_row([namespace, name, key, limits(&fields), overrides, enforcement, origin, version]);
    }
    anstream::println!("{shown}");
    for (kind, entries) in [("plan", &plans), ("assignment", &assignments)] {
        if entries.is_empty() {
            continue;
        }
        let mut shown = table::new(&[kind, "limits", "origin", "version"], [3]);
        for entry in entries {
            let name = entry.key().to_string();
            let name = name.split_once(' ').map_or("", |(_, name)| name).to_owned();
            let (origin, version) = provenance(&entry.meta());
            shown.add_row([name, limits(&entry.fields()), origin, version]);
        }
        anstream::println!("\n{shown}");
    }
    Ok(ExitCode::SUCCESS)
}

/// How many overrides each policy has.
fn count_by_policy(overrides: &[Entry]) -> BTreeMap<Key, usize> {
    let mut counts = BTreeMap::new();
    for entry in overrides {
        if let Entry::Override(of) = entry {
            *counts.entry(Key::Policy(of.namespace.clone(), of.policy.clone())).or_default() += 1;
        }
    }
    counts
}

/// Prints entries as a policy file.
pub(super) async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.service.connect().await?;
    let entries = match &args.which {
        Some(which) => {
            vec![in_force::one(&mut client, &which.key()?, args.version.unwrap_or_default()).await?]
        }
        None => stored(&mut client).await?,
    };
    if args.json {
        let shown: Vec<_> = entries.iter().map(Shown::new).collect();
        let text = match &shown[..] {
            [one] if !args.stored => serde_json::to_string_pretty(one)?,
            all => serde_json::to_string_pretty(all)?,
        };
        anstream::println!("{text}");
    } else {
        anstream::print!("{}", file(&entries));
    }
    Ok(ExitCode::SUCCESS)
}

/// In the order in which they need each other.
async fn stored(client: &mut Client) -> anyhow::Result<Vec<Entry>> {
    let mut entries = in_force::plans(client).await?;
    entries.extend(in_force::policies(client, "").await?);
    entries.extend(in_force::assignments(client, "").await?);
    entries.extend(in_force::overrides(client, "", "").await?);
    entries.retain(|entry| origin(&entry.meta()) == "database");
    Ok(entries)
}

/// Prints the versions of a policy.
pub(super) async fn history(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.service.connect().await?;
    let versions = versions(&mut client, &args).await?;
    if args.json {
        let shown: Vec<_> = versions.iter().map(VersionShown::new).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table::new(&["version", "time", "key", "limits", "enforcement"], [0]);
    for version in &versions {
        let number = version.version.to_string();
        let time = when(version.time.as_ref());
        match version.policy.clone().filter(|_| !version.deleted) {
            Some(policy) => {
                let fields = Entry::Policy(policy).fields();
                let enforcement = text(&fields, "enforcement");
                shown.add_row([number, time, subject(&fields), limits(&fields), enforcement]);
            }
            None => {
                shown.add_row([number, time, "deleted".to_owned()]);
            }
        }
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

async fn versions(client: &mut Client, args: &HistoryArgs) -> anyhow::Result<Vec<PolicyVersion>> {
    let Key::Policy(namespace, name) = &args.policy else { return Ok(Vec::new()) };
    let (mut versions, mut page_token) = (Vec::new(), String::new());
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    loop {
        let (namespace, name) = (namespace.clone(), name.clone());
        let request = ListPolicyVersionsRequest { namespace, name, page_size: 100, page_token };
        let page = client.list_policy_versions(request).await;
        let page = page.map_err(|status| client::explain(&status))?.into_inner();
        versions.extend(page.versions);
        page_token = page.next_page_token;
        if page_token.is_empty() || versions.len() >= most {
            versions.truncate(most);
            return Ok(versions);
        }
    }
}

impl VersionShown {
    fn new(version: &PolicyVersion) -> Self {
        Self {
            version: version.version,
            time: when(version.time.as_ref()),
            deleted: version.deleted,
            policy: version.policy.clone().map(|policy| Entry::Policy(policy).fields()),
        }
    }
}

/// What it counts by, or which descriptors it is for.
fn subject(fields: &Table) -> String {
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Table(level) => Some(text(level, "key")),
        _ => None,
    };
    let list = |field: &str| {
        let list = fields.get(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(name).collect::<Vec<_>>()
    };
    match (list("descriptor"), list("key_by")) {
        (levels, _) if !levels.is_empty() => levels.join(" / "),
        (_, attributes) => attributes.join(", "),
    }
}

fn text(fields: &Table, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
