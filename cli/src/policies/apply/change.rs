//! What has to be done so that a file is in force.

use tidegate_proto::ratelimit::v1::{
    Assignment, CreatePlanRequest, CreatePolicyRequest, Origin, SetAssignmentRequest, UpdatePlanRequest,
    UpdatePolicyRequest,
};
use tonic_types::StatusExt;

use super::wanted::{Fault, Placed};
use crate::{
    client,
    policies::{
        entry::{Entry, Key},
        in_force::Client,
    },
};

/// A plan that every service has.
const BUILT_IN: &str = "free";

/// One entry, and what is to be done with it.
#[derive(Debug)]
pub(super) struct Change {
    path: String,
    pub(super) entry: Entry,
    /// What is in force now.
    pub(super) before: Option<Entry>,
    pub(super) act: Act,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    /// Only if it is still what it was compared with.
    Update {
        etag: String,
    },
    Nothing,
}

/// Compares what is wanted with what is in force.
///
/// # Errors
///
/// Entries of the service's own file are in the way.
pub(super) fn changes(wanted: Vec<Placed>, in_force: &[Entry]) -> Result<Vec<Change>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut changes = Vec::with_capacity(wanted.len());
    for Placed { path, entry } in wanted {
        let key = entry.key();
        let before = in_force.iter().find(|known| known.key() == key).cloned();
        let act = match &before {
            Some(known) if known.fields() == entry.fields() => Act::Nothing,
            Some(known) => match known.meta().origin() {
                Origin::Database => Act::Update { etag: known.meta().etag },
                Origin::File => {
                    let description = format!("{key} is in the policy file of the service, which goes first");
                    faults.push(Fault { path: path.clone(), description });
                    continue;
                }
                Origin::Builtin | Origin::Unspecified => Act::Create,
            },
            None => Act::Create,
        };
        changes.push(Change { path, entry, before, act });
    }
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

impl Change {
    /// Whether it can only be made after another one, so that the service cannot tell beforehand.
    fn needs_another(&self, changes: &[Self]) -> bool {
        let needed = match &self.entry {
            Entry::Plan(_) => Vec::new(),
            Entry::Policy(policy) => {
                let of = policy.plan_of.as_ref().map(|of| of.default.clone());
                let plans = [Some(policy.plan.clone()), of, Some(policy.upgrade_plan.clone())];
                let replaced = policy.replaces.iter();
                let replaced = replaced.map(|name| Key::Policy(policy.namespace.clone(), name.clone()));
                plans.into_iter().flatten().map(Key::Plan).chain(replaced).collect()
            }
            Entry::Assignment(assignment) => vec![Key::Plan(assignment.plan.clone())],
        };
        let others = changes.iter().filter(|other| other.act != Act::Nothing);
        others.map(|other| other.entry.key()).any(|other| needed.contains(&other))
    }

    /// Finds out whether it could be made, as far as the service can tell before the others are made.
    ///
    /// # Errors
    ///
    /// As [`attempt`](Self::attempt).
    pub(super) async fn look(
        &self,
        client: &mut Client,
        changes: &[Self],
    ) -> anyhow::Result<Result<(), Vec<Fault>>> {
        if !self.needs_another(changes) {
            return self.attempt(client, true).await;
        }
        // Of others the fields have been checked here.
        let Entry::Assignment(assignment) = self.entry.clone() else { return Ok(Ok(())) };
        let entry = Entry::Assignment(Assignment { plan: BUILT_IN.to_owned(), ..assignment });
        let (path, act) = (self.path.clone(), self.act.clone());
        Self { path, entry, before: None, act }.attempt(client, true).await
    }

    /// Makes it, or finds out only whether it could be made. What the service finds wrong is in the inner result.
    ///
    /// # Errors
    ///
    /// The service did not say.
    pub(super) async fn attempt(
        &self,
        client: &mut Client,
        validate_only: bool,
    ) -> anyhow::Result<Result<(), Vec<Fault>>> {
        let etag = match &self.act {
            Act::Nothing => return Ok(Ok(())),
            Act::Create => None,
            Act::Update { etag } => Some(etag.clone()),
        };
        let answer = match (self.entry.clone(), etag) {
            (Entry::Plan(plan), None) => {
                let request = CreatePlanRequest { plan: Some(plan), validate_only };
                client.create_plan(request).await.map(drop)
            }
            (Entry::Plan(plan), Some(etag)) => {
                let request = UpdatePlanRequest { plan: Some(plan), etag, validate_only };
                client.update_plan(request).await.map(drop)
            }
            (Entry::Policy(policy), None) => {
                let request = CreatePolicyRequest { policy: Some(policy), validate_only };
                client.create_policy(request).await.map(drop)
            }
            (Entry::Policy(policy), Some(etag)) => {
                let request = UpdatePolicyRequest { policy: Some(policy), etag, validate_only };
                client.update_policy(request).await.map(drop)
            }
            (Entry::Assignment(assignment), etag) => {
                let etag = etag.unwrap_or_default();
                let request = SetAssignmentRequest { assignment: Some(assignment), etag, validate_only };
                client.set_assignment(request).await.map(drop)
            }
        };
        match answer {
            Ok(()) => Ok(Ok(())),
            Err(status) if client::reason(&status).is_some() => Ok(Err(self.faults(&status))),
            Err(status) => Err(client::explain(&status)),
        }
    }

    /// What the service finds wrong, where it stands in the file.
    fn faults(&self, status: &tonic::Status) -> Vec<Fault> {
        let field = match self.entry {
            Entry::Plan(_) => "plan",
            Entry::Policy(_) => "policy",
            Entry::Assignment(_) => "assignment",
        };
        let reason = client::reason(status).unwrap_or_default();
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        let fault = |field: String, description: String| Fault { path: field, description };
        let changed = matches!(&*reason, "ETAG_MISMATCH" | "ENTRY_EXISTS" | "CONCURRENT_CHANGES");
        if violations.is_empty() || changed {
            let again =
                if changed { "; somebody changed it meanwhile: look, and apply the file again" } else { "" };
            let description = format!("{reason}: {}{again}", status.message());
            return vec![fault(format!("{} ({})", self.path, self.entry.key()), description)];
        }
        let placed = violations.iter().map(|violation| {
            let inside =
                violation.field.strip_prefix(field).filter(|rest| rest.is_empty() || rest.starts_with('.'));
            let path = match inside {
                Some(rest) => format!("{}{rest}", self.path),
                None => format!("{}: {}", self.path, violation.field),
            };
            fault(path, violation.description.clone())
        });
        placed.collect()
    }
}

#[cfg(test)]
mod tests;
