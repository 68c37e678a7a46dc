//! Several descriptors of one request, as Envoy's protocol has them.

mod group;

use std::{borrow::Cow, sync::Arc};

use futures_util::{FutureExt, future::join_all};
use smallvec::SmallVec;

use self::group::{Group, Member};
use super::{AtOnce, Counters, Limiter, Matches, RequestLimit, Verdict, degraded, limited};
use crate::{
    domain::{CellCheck, Check, Decision, LimitError, Namespace, Period, PolicySet, UnknownPlan},
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

    #[inline]
    fn matches(&self, namespace: &'a Namespace) -> Result<Matches<'a>, UnknownPlan> {
        let mut matches = Matches::new();
        match self.limit {
            Some(limit) => matches.push(limit.found()),
            None => namespace.matching_descriptor(self.entries, self.hits.max(1), &mut matches)?,
        }
        Ok(matches)
    }
}

impl Limiter {
    /// The limit `tokens` per `period`, called `name`, that comes with a descriptor of these keys; nothing where no policy is
    /// declared in the namespace, since there it limits nothing. Those asked for lately are kept ready.
    ///
    /// # Errors
    ///
    /// What is wrong with the limit.
    pub fn request_limit(
        &self,
        policies: &PolicySet,
        namespace: &str,
        keys: &[&str],
        (name, tokens, period): (&str, u64, Period),
    ) -> Result<Option<Arc<RequestLimit>>, Vec<LimitError>> {
        if policies.namespace(namespace).is_none() {
            return Ok(None);
        }
        self.request_limits.get(namespace, keys, name, tokens, period).map(Some)
    }

    /// Decides the descriptors of one request, and answers each in its order.
    ///
    /// All of them are charged or none, unless the namespace is compatible with the reference service: then each is charged that
    /// has room, whatever the others have, and one that asks for more than is left uses that up. One that only looks is looked at first, and is no part of the same moment. Where no
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
        match self.single(namespace, descriptors, self.clock.now_us()) {
            Single::Answered(verdict) => return vec![verdict],
            Single::Asks { matches, check } => {
                let answer = self.ask(&check).await;
                return vec![self.single_verdict(descriptors, &matches, &check, answer, self.clock.now_us())];
            }
            Single::No => {}
        }
        let mut members = group::members(namespace, descriptors);
        let verdicts = self.decide_members(namespace, descriptors, &mut members).await;
        for (member, verdict) in members.iter().zip(&verdicts) {
            let is_charge = member.kind == Kind::Charge;
            self.tell(&member.matches, member.descriptor.entries, is_charge, verdict);
        }
        verdicts
    }

    async fn decide_members<'d, 'p>(
        &self,
        namespace: &'p Namespace,
        descriptors: &'d [Descriptor<'p>],
        members: &mut [Member<'d, 'p>],
    ) -> Vec<Verdict<'p>> {
        let given_back = self.give_back(members).await;
        if let Err(error) = given_back {
            tracing::warn!(%error, "hits were not given back");
        }
        let refunded = |verdict: &mut Verdict<'_>| {
            verdict.admit();
            verdict.degraded |= given_back.is_err();
        };
        if namespace.settings().envoy_compatible {
            let mut verdicts = join_all(members.iter_mut().map(|member| self.decide_alone(member))).await;
            let refunds = descriptors.iter().zip(&mut verdicts);
            refunds.filter(|(of, _)| of.kind() == Kind::Refund).for_each(|(_, verdict)| refunded(verdict));
            return verdicts;
        }
        let mut refunds = self.decide_group(of(members, Kind::Refund), false).await;
        refunds.iter_mut().for_each(refunded);
        let looks = self.decide_group(of(members, Kind::Look), false).await;
        let charge = looks.iter().all(|verdict| verdict.allowed);
        let charges = self.decide_group(of(members, Kind::Charge), charge).await;
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
    async fn give_back(&self, members: &[Member<'_, '_>]) -> Result<(), StoreError> {
        let refunds = members.iter().filter(|member| member.kind == Kind::Refund);
        let cells = refunds.flat_map(|member| {
            limited(&member.matches).map(|found| CellRefund {
                key: self.key_form().cell(found, member.descriptor.entries),
                layout: Arc::clone(&found.bundle.layout),
                tokens: member.descriptor.hits,
            })
        });
        let cells: Vec<_> = cells.collect();
        if cells.is_empty() { Ok(()) } else { self.store().refund(&cells).get().await }
    }

    /// Decides one as the reference service does.
    async fn decide_alone<'p>(&self, member: &mut Member<'_, 'p>) -> Verdict<'p> {
        let is_charge = member.kind == Kind::Charge;
        let mut verdicts = self.decide_group(std::iter::once(&mut *member), is_charge).await;
        let mut verdict = verdicts.pop().expect("one was decided");
        if is_charge && !verdict.degraded {
            self.use_up(member, &mut verdict).await;
        }
        verdict
    }

    /// Charges what is left to limits that had not enough.
    async fn use_up<'p>(&self, member: &Member<'_, 'p>, verdict: &mut Verdict<'p>) {
        // What was admitted is charged already, but for shadows that it did not fit.
        let verdict_allowed = verdict.allowed;
        let mut limits = verdict.limits.iter_mut();
        let mut cells = SmallVec::<[CellCheck<'p>; 2]>::new();
        for found in limited(&member.matches) {
            let own: SmallVec<[_; 4]> = limits.by_ref().take(found.bundle.limits.len()).collect();
            let least = own.iter().map(|limit| limit.outcome.remaining).min().unwrap_or(0);
            let had_not_enough = match verdict_allowed {
                true => own.iter().any(|limit| limit.outcome.exceeded()),
                false => member.cost > least,
            };
            if had_not_enough && least > 0 {
                own.into_iter().for_each(|limit| limit.outcome.remaining -= least);
                cells.push(CellCheck {
                    key: self.key_form().cell(found, member.descriptor.entries),
                    layout: &found.bundle.layout,
                    cost: least,
                    enforced: true,
                });
            }
        }
        if cells.is_empty() {
            return;
        }
        // What another request took in between is used up as well.
        if let Err(error) =
            self.ask(&Check { cells, charge: true, idempotency: None, lease: None, fence: None }).await
        {
            tracing::debug!(%error, "what was left of a limit was not used up");
        }
    }

    async fn ask(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        match &self.counters {
            Counters::Memory(store) => store.decide_at(check, self.clock.now_us()),
            Counters::Shared { store, .. } => store.decide(check).get().await,
        }
    }

    async fn decide_group<'m, 'd: 'm, 'p: 'd>(
        &self,
        members: impl Iterator<Item = &'m mut Member<'d, 'p>>,
        charge: bool,
    ) -> Vec<Verdict<'p>> {
        let mut group = Group::of(self.key_form(), members);
        if group.cells.is_empty() {
            let now_us = self.clock.now_us();
            return group.members.iter().map(|member| member.without_limits(now_us)).collect();
        }
        let too_dear = group.refuse_too_dear();
        let charge =
            charge && !too_dear.contains(&true) && group.members.iter().all(|member| !member.is_refused);
        let distrust = self.distrust(false, group.matches.iter().zip(&group.cells));
        let charge = charge && distrust.is_none();
        let check = Check { cells: group.cells.clone(), charge, idempotency: None, lease: None, fence: None };
        let answer = self.ask(&check).await;
        let now_us = self.clock.now_us();
        match answer {
            Ok(decision) => {
                let members = group.members.iter();
                let decided = members.map(|member| {
                    let verdict = member.decided(&group.cells, &decision, &too_dear, now_us);
                    let cells = member.cells.iter().map(|place| &group.cells[*place]);
                    self.after_loss(verdict, limited(&member.matches).zip(cells))
                });
                decided.collect()
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

    /// What the failure modes say of one descriptor.
    fn degraded<'p>(
        &self,
        member: &Member<'_, 'p>,
        group: &Group<'_, '_, 'p>,
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
        let check = Check { cells: own.collect(), charge, idempotency: None, lease: None, fence: None };
        let local = match &self.counters {
            Counters::Memory(_) => None,
            Counters::Shared { local, .. } => Some(&**local),
        };
        let verdict = degraded::verdict(local, &member.matches, &check, error, now_us);
        verdict.expect("a check without an idempotency key is always decided")
    }
}

/// What a request asks that has one descriptor, which is to be charged, and nothing seldom about it.
#[expect(clippy::large_enum_variant, reason = "it lives for one decision, and a box would be an allocation")]
enum Single<'p> {
    /// Nothing: it is answered.
    Answered(Verdict<'p>),
    /// This of the store.
    Asks { matches: Matches<'p>, check: Check<'p> },
    /// It is not one of those.
    No,
}

impl Limiter {
    #[inline]
    fn single<'p>(
        &self,
        namespace: &'p Namespace,
        descriptors: &[Descriptor<'p>],
        now_us: u64,
    ) -> Single<'p> {
        let [descriptor] = descriptors else { return Single::No };
        if descriptor.kind() != Kind::Charge || namespace.settings().envoy_compatible {
            return Single::No;
        }
        let Ok(matches) = descriptor.matches(namespace) else { return Single::No };
        if namespace.has_replacements() && matches.iter().any(|found| !found.policy.replaces.is_empty()) {
            return Single::No;
        }
        let mut cells = SmallVec::<[CellCheck<'p>; 2]>::new();
        for found in limited(&matches) {
            if descriptor.hits > found.bundle.min_capacity {
                return Single::No;
            }
            cells.push(group::cell(found, self.key_form(), descriptor));
        }
        if cells.is_empty() {
            return Single::Answered(Verdict { exempt: !matches.is_empty(), ..Verdict::unlimited(now_us) });
        }
        Single::Asks {
            matches,
            check: Check { cells, charge: true, idempotency: None, lease: None, fence: None },
        }
    }

    /// What the store, or the failure modes in its place, said to the only descriptor of a request.
    #[inline]
    fn single_verdict<'p>(
        &self,
        descriptors: &[Descriptor<'p>],
        matches: &Matches<'p>,
        check: &Check<'p>,
        answer: Result<Decision, StoreError>,
        now_us: u64,
    ) -> Verdict<'p> {
        let verdict = self.verdict(matches, check, answer, now_us);
        let verdict = verdict.expect("a check without an idempotency key is always decided");
        self.tell(matches, descriptors[0].entries, check.charge, &verdict);
        verdict
    }
}

impl AtOnce<'_> {
    /// As [`Limiter::check_descriptors`].
    pub fn check_descriptors<'p>(
        self,
        policies: &'p PolicySet,
        namespace: &str,
        descriptors: &[Descriptor<'p>],
    ) -> SmallVec<[Verdict<'p>; 1]> {
        let mut verdicts = SmallVec::new();
        let found = policies.namespace(namespace).filter(|_| self.limiter.settings.enabled);
        let single = found.map_or(Single::No, |found| self.limiter.single(found, descriptors, self.now_us));
        match single {
            Single::Answered(verdict) => verdicts.push(verdict),
            Single::Asks { matches, check } => {
                let answer = self.store.decide_at(&check, self.now_us);
                let verdict = self.limiter.single_verdict(descriptors, &matches, &check, answer, self.now_us);
                verdicts.push(verdict);
            }
            Single::No => {
                let decided = self.limiter.check_descriptors(policies, namespace, descriptors).now_or_never();
                verdicts.extend(decided.expect("counters in memory are asked without waiting"));
            }
        }
        verdicts
    }
}

/// Those of one kind.
fn of<'m, 'd, 'p>(
    members: &'m mut [Member<'d, 'p>],
    kind: Kind,
) -> impl Iterator<Item = &'m mut Member<'d, 'p>> {
    members.iter_mut().filter(move |member| member.kind == kind)
}

#[cfg(test)]
mod tests;
