//! Changes as they are made, call by call.

use std::iter;

use prost::Message;
use tidegate_proto::ratelimit::v1::{
    CreatePlanRequest, CreatePolicyRequest, Override, SetAssignmentRequest, SetOverridesRequest,
    UpdatePlanRequest, UpdatePolicyRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    change::{Act, Change},
    wanted::Fault,
};
use crate::{
    client,
    policies::{count, entry::Entry, in_force::Client},
};

/// So many overrides are set with one call.
const AT_ONCE: usize = 1_000;

/// So many bytes of overrides are sent with one call: half of what a service takes with its default settings.
const BYTES_AT_ONCE: usize = 512 * 1_024;

/// What is made with one call: one change, or as many neighbours as go together if they are of overrides.
#[derive(Debug)]
pub(super) struct Step<'c> {
    first: &'c Change,
    /// Changes of overrides.
    more: Vec<&'c Change>,
}

/// Cuts changes, none of which is to do nothing, into steps that are to be made in this order.
pub(super) fn steps<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Vec<Step<'c>> {
    let mut steps: Vec<Step<'c>> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let size = overridden(change).map_or(0, Message::encoded_len);
        bytes += size;
        match steps.last_mut().filter(|step| step.has_place_for(change) && bytes <= BYTES_AT_ONCE) {
            Some(step) => step.more.push(change),
            None => {
                steps.push(Step { first: change, more: Vec::new() });
                bytes = size;
            }
        }
    }
    steps
}

impl<'c> Step<'c> {
    fn has_place_for(&self, change: &Change) -> bool {
        let are_overrides = [self.first, change].into_iter().all(|change| overridden(change).is_some());
        are_overrides && self.len() < AT_ONCE
    }

    /// How many changes it makes.
    pub(super) fn len(&self) -> usize {
        1 + self.more.len()
    }

    /// The first of its changes.
    pub(super) fn first(&self) -> &'c Change {
        self.first
    }

    fn changes(&self) -> impl Iterator<Item = &'c Change> {
        iter::once(self.first).chain(self.more.iter().copied())
    }

    /// Makes it, or finds out only whether it could be made; all of it or nothing. What the service finds wrong is in the inner result.
    ///
    /// # Errors
    ///
    /// The service did not say.
    pub(super) async fn attempt(
        &self,
        client: &mut Client,
        validate_only: bool,
    ) -> anyhow::Result<Result<(), Vec<Fault>>> {
        let etag = match &self.first.act {
            Act::Nothing => return Ok(Ok(())),
            Act::Create => None,
            Act::Update { etag } => Some(etag.clone()),
        };
        let answer = match (self.first.entry.clone(), etag) {
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
            (Entry::Override(_), _) => {
                let overrides = self.changes().filter_map(overridden).cloned().collect();
                client.set_overrides(SetOverridesRequest { overrides, validate_only }).await.map(drop)
            }
        };
        match answer {
            Ok(()) => Ok(Ok(())),
            Err(status) if is_refusal(&status) => Ok(Err(self.faults(&status))),
            Err(status) => Err(client::explain(&status)),
        }
    }

    /// What the service finds wrong, where it stands in the file.
    fn faults(&self, status: &Status) -> Vec<Fault> {
        let reason = client::reason(status).unwrap_or_default();
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        let changed = matches!(&*reason, "ETAG_MISMATCH" | "ENTRY_EXISTS" | "CONCURRENT_CHANGES");
        let Change { path, entry, .. } = self.first;
        if violations.is_empty() || changed {
            let again =
                if changed { "; somebody changed it meanwhile: look, and apply the file again" } else { "" };
            let description = format!("{reason}: {}{again}", status.message());
            let more = match self.more.len() {
                0 => String::new(),
                more => format!(" and {}", count(more, "more override", "more overrides")),
            };
            return vec![Fault { path: format!("{path} ({}{more})", entry.key()), description }];
        }
        let placed = violations.iter().map(|violation| Fault {
            path: self.place(&violation.field).unwrap_or_else(|| format!("{path}: {}", violation.field)),
            description: violation.description.clone(),
        });
        placed.collect()
    }

    /// Where in the file a field of the request stands.
    fn place(&self, field: &str) -> Option<String> {
        let (change, rest) = match &self.first.entry {
            Entry::Plan(_) => (self.first, field.strip_prefix("plan")?),
            Entry::Policy(_) => (self.first, field.strip_prefix("policy")?),
            Entry::Assignment(_) => (self.first, field.strip_prefix("assignment")?),
            Entry::Override(_) => {
                let (index, rest) = field.strip_prefix("overrides[")?.split_once(']')?;
                (self.changes().nth(index.parse().ok()?)?, rest)
            }
        };
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{}{rest}", change.path))
    }
}

/// Whether the service says that it did nothing. A database that did not answer it in time may have done what it was asked for.
fn is_refusal(status: &Status) -> bool {
    let is_open = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Internal, Code::Unknown];
    client::reason(status).is_some() && !is_open.contains(&status.code())
}

fn overridden(change: &Change) -> Option<&Override> {
    match &change.entry {
        Entry::Override(set) => Some(set),
        Entry::Plan(_) | Entry::Policy(_) | Entry::Assignment(_) => None,
    }
}

#[cfg(test)]
mod tests;
