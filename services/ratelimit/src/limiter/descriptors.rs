//! Several descriptors of one request, as Envoy's protocol has them.

use std::{borrow::Cow, sync::Arc};

use futures_util::future::join_all;
use smallvec::SmallVec;

use super::{Counters, Limiter, Matches, RequestLimit, Verdict, degraded, limited};
use crate::{
    domain::{CellCheck, Check, Decision, Enforcement, Match, Namespace, PolicySet, UnknownPlan},
    key::Key,
    store::{CellRefund, StoreError},
};

/// One of the things that a request is counted under.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    /// Its entries, keys and values, in their order.
    pub entries: &'a [(&'a str, Cow<'a, str>)],
    /// Tokens to charge; 0 looks whether one could be charged.
    pub hits: u64,
    /// Whether the hits are given back, of each limit those that were charged last.
    pub gives_back: bool,
    /// Takes the place of the policies.
    pub limit: Option<&'a RequestLimit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Charge,
    Look,
    Refund,
}

impl<'a> Descriptor<'a> {
    fn kind(&self) -> Kind {
        match (self.gives_back, self.hits) {
            (_, 0) => Kind::Look,
            (true, _) => Kind::Refund,
            (false, _) => Kind::Charge,
        }
    }

    fn matches(&self, namespace: &'a Namespace) -> Result<Matches<'a>, UnknownPlan> {
        let mut matches = Matches::new();
        match self.limit {
            Some(limit) => matches.push(limit.found()),
            None => namespace.matching_descriptor(self.entries, self.hits.max(1), &mut matches)?,
        }
        Ok(matches)
    }
}

/// Descriptors that are decided together, each with what applies to it.
struct Group<'p> {
    /// What applies to any of them, each subject once.
    matches: Matches<'p>,
    cells: SmallVec<[CellCheck<'p>; 2]>,
    members: Vec<Member<'p>>,
}

struct Member<'p> {
    cost: u64,
    matches: Matches<'p>,
    /// Places of its limited matches among those of the group.
    cells: SmallVec<[usize; 4]>,
    /// Whether it cannot be told what applies: then it is denied.
    is_refused: bool,
}

impl Limiter {
    /// Decides the descriptors of one request, and answers each in its order.
    ///
    /// All of them are charged or none, unless the namespace is compatible with the reference service: then each is charged that
    /// has room, whatever the others have. One that only looks is looked at first, and is no part of the same moment. Where no
    /// policy applies, or none is declared in the namespace at all, a descriptor is admitted by no limit. What is in a
    /// request never makes it undecidable, since callers would send it to be let through: more hits than a limit
    /// could ever admit, and plans that do not exist, are over the limit. Without the store each is answered by the
    /// failure modes for itself. One that gives hits back is never over its limits, and has its way whatever the others have;
    /// `degraded` says that it was not done.
    pub async fn check_descriptors<'p>(
        &self,
        policies: &'p PolicySet,
        namespace: &str,
        descriptors: &[Descriptor<'p>],
    ) -> Vec<Verdict<'p>> {
        let Some(namespace) = policies.namespace(namespace).filter(|_| self.settings.enabled) else {
            return descriptors.iter().map(|_| Verdict::unlimited(self.clock.now_us())).collect();
        };
        let given_back = self.give_back(namespace, descriptors).await;
        if let Err(error) = given_back {
            tracing::warn!(%error, "hits were not given back");
        }
        let refunded = |verdict: &mut Verdict<'_>| {
            verdict.admit();
            verdict.degraded |= given_back.is_err();
        };
        if namespace.settings().envoy_compatible {
            let alone = descriptors.iter().map(|descriptor| {
                let charge = descriptor.kind() == Kind::Charge;
                self.decide_group(namespace, std::iter::once(descriptor), charge)
            });
            let mut verdicts: Vec<_> = join_all(alone).await.into_iter().flatten().collect();
            let refunds = descriptors.iter().zip(&mut verdicts);
            refunds.filter(|(of, _)| of.kind() == Kind::Refund).for_each(|(_, verdict)| refunded(verdict));
            return verdicts;
        }
        let of = |kind| descriptors.iter().filter(move |descriptor| descriptor.kind() == kind);
        let mut refunds = self.decide_group(namespace, of(Kind::Refund), false).await;
        refunds.iter_mut().for_each(refunded);
        let looks = self.decide_group(namespace, of(Kind::Look), false).await;
        let charge = looks.iter().all(|verdict| verdict.allowed);
        let charges = self.decide_group(namespace, of(Kind::Charge), charge).await;
        let (mut refunds, mut looks, mut charges) =
            (refunds.into_iter(), looks.into_iter(), charges.into_iter());
        let in_order = descriptors.iter().map(|descriptor| match descriptor.kind() {
            Kind::Refund => refunds.next(),
            Kind::Look => looks.next(),
            Kind::Charge => charges.next(),
        });
        in_order.map(|verdict| verdict.expect("each of a group was answered")).collect()
    }

    /// Gives back the hits of the descriptors that say so.
    async fn give_back<'p>(
        &self,
        namespace: &'p Namespace,
        descriptors: &[Descriptor<'p>],
    ) -> Result<(), StoreError> {
        let mut cells = Vec::new();
        for descriptor in descriptors.iter().filter(|descriptor| descriptor.kind() == Kind::Refund) {
            let Ok(matches) = descriptor.matches(namespace) else { continue };
            cells.extend(limited(&matches).map(|found| CellRefund {
                key: self.key_form().cell(found, descriptor.entries),
                layout: Arc::clone(&found.bundle.layout),
                tokens: descriptor.hits,
            }));
        }
        if cells.is_empty() { Ok(()) } else { self.store().refund(&cells).get().await }
    }

    async fn decide_group<'p: 'd, 'd>(
        &self,
        namespace: &'p Namespace,
        descriptors: impl Iterator<Item = &'d Descriptor<'p>>,
        charge: bool,
    ) -> Vec<Verdict<'p>> {
        let mut group = self.group(namespace, descriptors);
        if group.cells.is_empty() {
            let now_us = self.clock.now_us();
            return group.members.iter().map(|member| member.without_limits(now_us)).collect();
        }
        let too_dear = group.refuse_too_dear();
        let charge =
            charge && !too_dear.contains(&true) && group.members.iter().all(|member| !member.is_refused);
        let check = Check { cells: group.cells.clone(), charge, idempotency: None };
        let answer = match &self.counters {
            Counters::Memory(store) => store.decide_at(&check, self.clock.now_us()),
            Counters::Shared { store, .. } => store.decide(&check).get().await,
        };
        let now_us = self.clock.now_us();
        match answer {
            Ok(decision) => {
                let members = group.members.iter();
                members.map(|member| member.decided(&group.cells, &decision, &too_dear, now_us)).collect()
            }
            Err(error) => {
                let all = |charge| -> Vec<_> {
                    let members = group.members.iter();
                    members
                        .map(|member| self.degraded(member, &group, &too_dear, charge, error, now_us))
                        .collect()
                };
                let looked = all(false);
                // Here too all are charged or none; but what is the same subject twice is asked for twice.
                if charge && looked.iter().all(|verdict| verdict.allowed) { all(true) } else { looked }
            }
        }
    }

    fn group<'p: 'd, 'd>(
        &self,
        namespace: &'p Namespace,
        descriptors: impl Iterator<Item = &'d Descriptor<'p>>,
    ) -> Group<'p> {
        let mut group = Group { matches: Matches::new(), cells: SmallVec::new(), members: Vec::new() };
        for descriptor in descriptors {
            let found = descriptor.matches(namespace);
            let is_refused = found.is_err();
            let matches = found.unwrap_or_default();
            let cells = limited(&matches)
                .map(|found| group.add(found, self.key_form().cell(found, descriptor.entries), descriptor))
                .collect();
            // Only a charge has a price: the others look whether one token could be charged.
            let cost = if descriptor.kind() == Kind::Charge { descriptor.hits } else { 1 };
            group.members.push(Member { cost, matches, cells, is_refused });
        }
        group
    }

    /// What the failure modes say of one descriptor.
    fn degraded<'p>(
        &self,
        member: &Member<'p>,
        group: &Group<'p>,
        too_dear: &[bool],
        charge: bool,
        error: StoreError,
        now_us: u64,
    ) -> Verdict<'p> {
        // No failure mode admits what the store never would.
        if member.is_refused || member.cells.iter().any(|place| too_dear[*place]) {
            return Verdict { degraded: true, ..Verdict::refused(now_us) };
        }
        let own = member.cells.iter().zip(limited(&member.matches)).map(|(cell, found)| CellCheck {
            cost: member.cost.min(found.bundle.min_capacity).max(1),
            layout: &found.bundle.layout,
            ..group.cells[*cell].clone()
        });
        let check = Check { cells: own.collect(), charge, idempotency: None };
        let local = match &self.counters {
            Counters::Memory(_) => None,
            Counters::Shared { local, .. } => Some(&**local),
        };
        let verdict = degraded::verdict(local, &member.matches, &check, error, now_us);
        verdict.expect("a check without an idempotency key is always decided")
    }
}

impl<'p> Group<'p> {
    /// Adds what a descriptor asks of the cell of that key, which may be new; its place.
    fn add(&mut self, found: &Match<'p>, key: Key, descriptor: &Descriptor<'_>) -> usize {
        let charge = if descriptor.kind() == Kind::Charge { descriptor.hits } else { 0 };
        let Some(place) = self.cells.iter().position(|cell| cell.key == key) else {
            self.matches.push(*found);
            self.cells.push(CellCheck {
                key,
                layout: &found.bundle.layout,
                cost: charge.max(1),
                enforced: found.policy.enforcement == Enforcement::Enforce,
            });
            return self.cells.len() - 1;
        };
        let cell = &mut self.cells[place];
        // Those that look, look together.
        cell.cost = if charge > 0 { cell.cost.saturating_add(charge) } else { cell.cost };
        // Two that count the same by other numbers, as two plans may: by the lesser.
        if found.bundle.min_capacity < self.matches[place].bundle.min_capacity {
            cell.layout = &found.bundle.layout;
            self.matches[place] = *found;
        }
        place
    }

    /// Which enforced cells are to be charged more than they could ever hold. Every cost becomes one that can be asked for.
    fn refuse_too_dear(&mut self) -> SmallVec<[bool; 4]> {
        let cells = self.cells.iter_mut().zip(&self.matches);
        cells
            .map(|(cell, found)| {
                let is_too_dear = cell.cost > found.bundle.min_capacity;
                // A limit of nothing is looked at as one of 1.
                cell.cost = cell.cost.min(found.bundle.min_capacity).max(1);
                is_too_dear && cell.enforced
            })
            .collect()
    }
}

impl<'p> Member<'p> {
    fn without_limits(&self, now_us: u64) -> Verdict<'p> {
        if self.is_refused { Verdict::refused(now_us) } else { Verdict::unlimited(now_us) }
    }

    /// The part of a decision that is about it.
    fn decided(
        &self,
        cells: &[CellCheck<'p>],
        decision: &Decision,
        too_dear: &[bool],
        now_us: u64,
    ) -> Verdict<'p> {
        if self.is_refused {
            return Verdict::refused(now_us);
        }
        let mut own =
            Decision { admitted: true, replayed: false, key_reused: false, outcomes: SmallVec::new() };
        let mut never = None;
        for (place, found) in self.cells.iter().zip(limited(&self.matches)) {
            let begin: usize = cells[..*place].iter().map(|cell| cell.layout.rules().len()).sum();
            let outcomes = &decision.outcomes[begin..begin + cells[*place].layout.rules().len()];
            let has_room = outcomes.iter().all(|outcome| !outcome.exceeded());
            own.admitted &= has_room || !cells[*place].enforced;
            if too_dear[*place] {
                never.get_or_insert(own.outcomes.len() + found.bundle.min_capacity_limit);
            }
            own.outcomes.extend_from_slice(outcomes);
        }
        let limited: Matches<'p> = limited(&self.matches).copied().collect();
        let mut verdict = Verdict::decided(&limited, &own, now_us);
        if let Some(first) = never {
            verdict.refuse(first);
        }
        verdict
    }
}

#[cfg(test)]
mod tests;
