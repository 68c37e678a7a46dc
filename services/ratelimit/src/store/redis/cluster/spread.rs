//! Checks whose keys lie in several slots, which no script can decide at once: all parts are charged, or none.
//!
//! First every part is looked at. Only if all have room each is charged, the one with the idempotency record last, so that
//! a retry finds the record only if the rest was charged. If one has no room after all, what was charged in
//! the others is taken back ([`Rule::undo`](crate::domain::Rule::undo)), exactly as far as that cannot admit
//! more than if it had never been. Whatever is not known to have been charged, or not known to have been taken back, counts as charged:
//! the error is always on the side of admitting less.

use std::{iter::zip, sync::Arc};

use futures_util::future::join_all;
use redis::Value;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Cluster,
    held::{Held, Part},
};
use crate::{
    domain::{Charged, Decision, HeldLease, LimitOutcome, Rule},
    store::{
        CellLease, StoreError,
        redis::{
            batch::Answered,
            call::Failure,
            script::{self, LeaseStep},
        },
    },
};

/// Decides a check in parts: one for each slot, or for each key if the keys are `apart`, as while a slot moves.
pub(super) async fn decide(
    cluster: &Arc<Cluster>,
    check: &Held,
    apart: bool,
    deadline: Instant,
) -> Result<Decision, StoreError> {
    let answer = attempt(cluster, check, apart, deadline).await;
    match answer {
        // A slot is moving, and the keys of a part lie on two nodes. Nothing was charged.
        Err(Failure::Elsewhere(_)) if !apart => Ok(attempt(cluster, check, true, deadline).await?),
        answer => Ok(answer?),
    }
}

async fn attempt(
    cluster: &Arc<Cluster>,
    check: &Held,
    apart: bool,
    deadline: Instant,
) -> Result<Decision, Failure> {
    let parts = check.parts(apart);
    let looks = parts.iter().map(|part| {
        let look = Held { charge: false, ..part.check.clone() };
        async move { cluster.ask(part.slot, &look, apart, deadline).await }
    });
    let looks: Vec<Answered> = join_all(looks).await.into_iter().collect::<Result<_, _>>()?;
    let looked = decisions(&looks);
    let mut decision = combine(check, &parts, &looked);
    if let (true, Some(lease)) = (decision.replayed, decision.lease) {
        decision.lease = held(cluster, &parts, lease, deadline).await?;
    }
    if !check.charge || !decision.admitted || decision.replayed {
        return Ok(decision);
    }
    // Once anything may be charged it is brought to its end, also when who asks goes away.
    let (cluster, check) = (Arc::clone(cluster), check.clone());
    let charged =
        tokio::spawn(async move { charge_or_undo(&cluster, &check, &parts, looked, apart, deadline).await });
    // If it failed, so that nobody can say what was charged.
    charged.await.unwrap_or(Err(StoreError::Disconnected.into()))
}

/// Charges all parts, or none.
async fn charge_or_undo(
    cluster: &Arc<Cluster>,
    check: &Held,
    parts: &[Part],
    looked: Vec<Decision>,
    apart: bool,
    deadline: Instant,
) -> Result<Decision, Failure> {
    let sent_at = Instant::now();
    let charges = charge(cluster, check, parts, apart, deadline).await;
    let all: Result<Vec<Answered>, Failure> = charges.iter().cloned().collect();
    if let Ok(charged) = &all
        && charged.len() == parts.len()
        && charged.iter().all(|charged| charged.decision.admitted && !charged.decision.replayed)
    {
        return Ok(combine(check, parts, &decisions(charged)));
    }
    if may_be_recorded(check, parts, &charges) {
        // A retry may find the record and be admitted, so everything has to stay charged.
        return Err(StoreError::Disconnected.into());
    }
    undo(cluster, parts, &charges, sent_at, deadline).await;
    all.map_err(StoreError::from)?;
    // Where a part was charged and taken back, as it was looked at.
    let answered: Vec<_> = zip(looked, charges.into_iter().map(Some).chain(std::iter::repeat(None)))
        .map(|(looked, charge)| match charge {
            Some(Ok(charge)) if !charge.decision.admitted || charge.decision.replayed => charge.decision,
            Some(_) | None => looked,
        })
        .collect();
    Ok(combine(check, parts, &answered))
}

/// A lease that was taken before, of which the part with the record says that it is held there: unless it has ended in an enforced
/// limit of another.
async fn held(
    cluster: &Cluster,
    parts: &[Part],
    lease: HeldLease,
    deadline: Instant,
) -> Result<Option<HeldLease>, StoreError> {
    let others = parts.iter().filter(|part| part.check.idempotency.is_none());
    let cells =
        others.flat_map(|part| &part.check.cells).filter(|cell| cell.enforced && cell.layout.is_leased());
    let looks = cells.map(|cell| {
        let leased = CellLease {
            key: cell.key.clone(),
            algorithms: cell.layout.rules().iter().map(Rule::algorithm).collect(),
            enforced: true,
            id: lease.id,
        };
        async move { cluster.send(&leased.key, &script::lease_command(&leased, LeaseStep::Look)).await }
    });
    let mut expires_after_us = lease.expires_after_us;
    for look in timeout_at(deadline, join_all(looks)).await.map_err(|_| StoreError::Timeout)? {
        match look? {
            Value::Int(rest_us @ 1..) => expires_after_us = expires_after_us.min(rest_us.unsigned_abs()),
            _ => return Ok(None),
        }
    }
    Ok(Some(HeldLease { expires_after_us, ..lease }))
}

/// Charges the parts, and the one with the record only if the others were charged: then there is no answer for it.
async fn charge(
    cluster: &Cluster,
    check: &Held,
    parts: &[Part],
    apart: bool,
    deadline: Instant,
) -> Vec<Result<Answered, Failure>> {
    let (others, record) = parts.split_at(parts.len() - usize::from(check.idempotency.is_some()));
    let ask = |part: &Part| {
        let (slot, check) = (part.slot, part.check.clone());
        async move { cluster.ask(slot, &check, apart, deadline).await }
    };
    let mut charges = join_all(others.iter().map(ask)).await;
    let admitted = |charge: &Result<Answered, Failure>| charge.as_ref().is_ok_and(|c| c.decision.admitted);
    if let [record] = record
        && charges.iter().all(admitted)
    {
        charges.push(ask(record).await);
    }
    charges
}

/// Whether the part with the record was sent and may have been charged without our knowing.
fn may_be_recorded(check: &Held, parts: &[Part], charges: &[Result<Answered, Failure>]) -> bool {
    let unknown = |failure: &Failure| match failure {
        Failure::Store(StoreError::Timeout | StoreError::Disconnected | StoreError::Protocol) => true,
        Failure::Store(StoreError::BreakerOpen | StoreError::Full | StoreError::Incomplete)
        | Failure::Refused(_)
        | Failure::Down
        | Failure::Elsewhere(_) => false,
    };
    check.idempotency.is_some()
        && charges.len() == parts.len()
        && charges.last().is_some_and(|charge| charge.as_ref().is_err_and(unknown))
}

/// Takes back what was charged for certain. It goes on when the deadline has passed, and when nobody waits.
async fn undo(
    cluster: &Arc<Cluster>,
    parts: &[Part],
    charges: &[Result<Answered, Failure>],
    sent_at: Instant,
    deadline: Instant,
) {
    let ago_us = u64::try_from(sent_at.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut commands = Vec::new();
    for (part, charge) in zip(parts, charges) {
        let Ok(Answered { decision, at_us }) = charge else { continue };
        if !decision.admitted || decision.replayed {
            continue;
        }
        let mut outcomes = decision.outcomes.iter();
        for cell in &part.check.cells {
            let lease = part.check.lease.map(|lease| lease.id);
            let charged = Charged { cost: cell.cost, at_us: *at_us, lease, ago_us };
            let own = outcomes.by_ref().take(cell.layout.rules().len());
            let were_charged = own.map(|outcome| !outcome.exceeded());
            let command = script::undo_command(&cell.key, &cell.layout, &charged, were_charged);
            commands.push((cell.key.clone(), command));
        }
    }
    let cluster = Arc::clone(cluster);
    let patience = cluster.backend.config.connect_timeout.get();
    let undone = tokio::spawn(async move {
        let sent = commands.iter().map(|(key, command)| cluster.send(key, command));
        let sent = timeout(patience, join_all(sent)).await.unwrap_or_default();
        if sent.len() < commands.len() || sent.iter().any(Result::is_err) {
            tracing::warn!("a charge was not taken back: a little less than the limit may be admitted");
        }
    });
    // It says itself what went wrong.
    let _ = timeout_at(deadline, undone).await;
}

fn decisions(answers: &[Answered]) -> Vec<Decision> {
    answers.iter().map(|answer| answer.decision.clone()).collect()
}

/// What the decisions of the parts say of the check.
fn combine(check: &Held, parts: &[Part], decisions: &[Decision]) -> Decision {
    if decisions.iter().any(|decision| decision.stale) {
        return Decision::of_stale();
    }
    if decisions.iter().any(|decision| decision.key_reused) {
        return Decision::of_reused_key();
    }
    let replayed = decisions.iter().any(|decision| decision.replayed);
    let mut by_cell: Vec<&[LimitOutcome]> = vec![&[]; check.cells.len()];
    for (part, decision) in zip(parts, decisions) {
        let mut rest = &decision.outcomes[..];
        for (place, cell) in zip(&part.places, &part.check.cells) {
            (by_cell[*place], rest) = rest.split_at(cell.layout.rules().len());
        }
    }
    let mut outcomes: SmallVec<[LimitOutcome; 4]> = by_cell.concat().into();
    if replayed {
        outcomes.iter_mut().for_each(|outcome| outcome.retry_after_us = 0);
    }
    let admitted = replayed || decisions.iter().all(|decision| decision.admitted);
    let lease = decisions.iter().find_map(|decision| decision.lease);
    Decision { admitted, replayed, key_reused: false, stale: false, outcomes, lease }
}
