//! `tidegate policies apply`: what a file says is put into the database.

mod change;
mod step;
mod wanted;

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use owo_colors::OwoColorize;
use serde::Serialize;

use self::{
    change::{Act, Change, Pending, changes},
    step::{Step, steps},
    wanted::{Fault, Wanted},
};
use super::{
    count,
    entry::Entry,
    in_force::{self, Client, Service},
};

const EXAMPLES: &str = "\
Examples:
  tidegate policies apply policies.toml --dry-run    what would change
  tidegate policies apply policies.toml

The file has [[plans]], [[policies]], [assignments.ATTRIBUTE] and [[overrides]] as a policy file has them, and [defaults].
What it does not name stays as it is. Applied again it changes nothing.
Exit code: 0 all of it is in force (or could be, with --dry-run), 1 not: what is wrong and what was changed is told.";

/// Create or change policies, plans, assignments and overrides of the database as a file says.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    service: Service,

    /// The file (TOML).
    file: PathBuf,

    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Print what changes as JSON.
    #[arg(long)]
    json: bool,
}

/// So many overrides are shown of those that one thing is done with. As JSON all of them are.
const SHOWN_OVERRIDES: usize = 20;

/// A change as `--json` prints it.
#[derive(Debug, Serialize)]
struct ChangeShown {
    entry: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
}

/// Applies the file.
pub(super) async fn run(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string();
    let text = fs::read_to_string(&args.file).with_context(|| format!("{name} cannot be read"))?;
    let (wanted, mut faults) = Wanted::read(&text, &name)?;
    let mut client = args.service.connect().await?;
    let in_force = known(&mut client, &wanted).await?;
    faults.extend(wanted.check(&in_force));
    if !faults.is_empty() {
        return Ok(refused(&name, &faults));
    }
    let changes = match changes(wanted.entries(&in_force), &in_force) {
        Ok(changes) => changes,
        Err(faults) => return Ok(refused(&name, &faults)),
    };
    // All that can be told beforehand is told before anything changes.
    let pending = Pending::of(&changes);
    let looked_at: Vec<_> = changes.iter().filter_map(|change| change.to_look_at(&pending)).collect();
    let mut faults = Vec::new();
    for step in steps(looked_at.iter().map(AsRef::as_ref)) {
        faults.extend(step.attempt(&mut client, true).await?.err());
    }
    if !faults.is_empty() {
        return Ok(refused(&name, &faults.concat()));
    }
    show(&changes, args.json)?;
    let created = changes.iter().filter(|change| change.act == Act::Create).count();
    let unchanged = changes.iter().filter(|change| change.act == Act::Nothing).count();
    let updated = changes.len() - created - unchanged;
    if args.dry_run {
        anstream::eprintln!(
            "{created} to create, {updated} to update, {unchanged} unchanged; nothing was changed (--dry-run)"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let pending: Vec<_> = changes.iter().filter(|change| change.act != Act::Nothing).collect();
    let mut made = 0;
    for step in steps(pending.iter().copied()) {
        let left = |is_known| left(&step, made, pending.len(), is_known);
        match step.attempt(&mut client, false).await {
            Ok(Ok(())) => made += step.len(),
            Ok(Err(faults)) => {
                faults.iter().for_each(|fault| anstream::eprintln!("{name}: {fault}"));
                anstream::eprintln!("{}", left(true));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.context(left(false))),
        }
    }
    anstream::eprintln!("{created} created, {updated} updated, {unchanged} unchanged");
    Ok(ExitCode::SUCCESS)
}

/// Everything that what is wanted is compared with, or has to fit.
async fn known(client: &mut Client, wanted: &Wanted) -> anyhow::Result<Vec<Entry>> {
    let mut entries = in_force::plans(client).await?;
    entries.extend(in_force::policies(client, "").await?);
    for attribute in wanted.assigned_attributes() {
        entries.extend(in_force::assignments(client, attribute).await?);
    }
    if let Some(namespaces) = wanted.overridden_namespaces() {
        if namespaces.is_empty() {
            entries.extend(in_force::overrides(client, "", "").await?);
        }
        for namespace in namespaces {
            entries.extend(in_force::overrides(client, namespace, "").await?);
        }
    }
    Ok(entries)
}

/// What was made of all changes before this step, and what became of this one: whether that is known.
fn left(step: &Step<'_>, made: usize, all: usize, is_known: bool) -> String {
    let all = count(all, "change", "changes");
    let first = step.first().entry.key();
    if is_known {
        return format!("{made} of {all} made; {first} and what comes after it are not");
    }
    let more = match step.len() - 1 {
        0 => String::new(),
        more => format!(" and {} with it", count(more, "more override", "more overrides")),
    };
    format!(
        "{made} of {all} made; whether {first}{more} is made is not known, what comes after is not; apply the file again"
    )
}

fn refused(name: &str, faults: &[Fault]) -> ExitCode {
    faults.iter().for_each(|fault| anstream::eprintln!("{name}: {fault}"));
    anstream::eprintln!(
        "{name} cannot be applied: {}; nothing was changed",
        count(faults.len(), "fault", "faults")
    );
    ExitCode::FAILURE
}

fn show(changes: &[Change], json: bool) -> anyhow::Result<()> {
    if json {
        let shown: Vec<_> = changes.iter().map(ChangeShown::new).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let mut overrides = BTreeMap::<_, usize>::new();
    for change in changes {
        if matches!(change.entry, Entry::Override(_)) {
            let count = overrides.entry(change.act.word()).or_default();
            *count += 1;
            if *count > SHOWN_OVERRIDES {
                continue;
            }
        }
        let ChangeShown { entry, change, removed, added } = ChangeShown::new(change);
        anstream::println!("{change:9}  {entry}");
        removed.iter().for_each(|line| anstream::println!("  {}", format!("- {line}").red()));
        added.iter().for_each(|line| anstream::println!("  {}", format!("+ {line}").green()));
    }
    for (word, number) in overrides {
        if let Some(more) = number.checked_sub(SHOWN_OVERRIDES).filter(|more| *more > 0) {
            anstream::println!("{word:9}  {}", count(more, "more override", "more overrides"));
        }
    }
    Ok(())
}

impl ChangeShown {
    fn new(change: &Change) -> Self {
        let after = change.entry.lines();
        let before = change.before.as_ref().map(Entry::lines).unwrap_or_default();
        let without = |lines: &[String], others: &[String]| {
            lines.iter().filter(|line| !others.contains(line)).cloned().collect()
        };
        let (removed, added) = match change.act {
            Act::Create => (Vec::new(), after),
            Act::Update { .. } => (without(&before, &after), without(&after, &before)),
            Act::Nothing => (Vec::new(), Vec::new()),
        };
        Self { entry: change.entry.key().to_string(), change: change.act.word(), removed, added }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_proto::ratelimit::v1::Override;

    use super::*;

    #[test]
    fn what_became_of_the_changes_is_told_as_far_as_it_is_known() {
        let of_override = |at: usize| Change {
            path: format!("overrides[{at}]"),
            entry: Entry::Override(Override {
                namespace: "shop".into(),
                policy: "calls".into(),
                limit: format!("limit{at}"),
                ..Override::default()
            }),
            before: None,
            act: Act::Create,
        };
        let changes: Vec<_> = (0..3).map(of_override).collect();
        let (all, one) = (steps(&changes), steps(&changes[2..]));
        let key = changes[0].entry.key();
        assert_eq!(
            left(&all[0], 4, 7, true),
            format!("4 of 7 changes made; {key} and what comes after it are not")
        );
        let told = left(&all[0], 4, 7, false);
        assert!(
            told.contains(&format!("whether {key} and 2 more overrides with it is made is not known")),
            "{told}"
        );
        let told = left(&one[0], 0, 1, false);
        assert!(told.contains(&format!("whether {} is made is not known", changes[2].entry.key())), "{told}");
    }
}
