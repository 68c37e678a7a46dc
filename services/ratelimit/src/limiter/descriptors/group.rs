//! Descriptors that are decided together.

use smallvec::SmallVec;

use super::{Descriptor, Kind};
use crate::{
    domain::{CellCheck, Decision, Enforcement, Match, Namespace},
    key::KeyForm,
    limiter::{Matches, Verdict, limited},
};

/// Descriptors that are decided together, each with what applies to it.
pub(super) struct Group<'m, 'd, 'p> {
    /// What applies to any of them, each subject once.
    pub matches: Matches<'p>,
    pub cells: SmallVec<[CellCheck<'p>; 2]>,
    pub members: Vec<&'m Member<'d, 'p>>,
}

/// A descriptor with what applies to it.
pub(super) struct Member<'d, 'p> {
    pub descriptor: &'d Descriptor<'p>,
    pub kind: Kind,
    pub cost: u64,
    pub matches: Matches<'p>,
    /// Places of its limited matches among those of the group.
    pub cells: SmallVec<[usize; 4]>,
    /// Whether it cannot be told what applies: then it is denied.
    pub is_refused: bool,
}

/// The descriptors with what applies to each of them.
pub(super) fn members<'d, 'p>(
    namespace: &'p Namespace,
    descriptors: &'d [Descriptor<'p>],
) -> Vec<Member<'d, 'p>> {
    let only_first = namespace.settings().first_descriptor_only;
    let members = descriptors.iter().enumerate().map(|(index, descriptor)| {
        let found = match only_first && index > 0 {
            true => Ok(Matches::new()),
            false => descriptor.matches(namespace),
        };
        let kind = descriptor.kind();
        Member {
            descriptor,
            kind,
            // Only a charge has a price: the others look whether one token could be charged.
            cost: if kind == Kind::Charge { descriptor.hits } else { 1 },
            cells: SmallVec::new(),
            is_refused: found.is_err(),
            matches: found.unwrap_or_default(),
        }
    });
    let mut members: Vec<_> = members.collect();
    if namespace.has_replacements() {
        replace(&mut members);
    }
    members
}

/// Takes away what others of the same request are in the place of. One in shadow takes the place of others in shadow only: it denies
/// nothing, so what is enforced would be without a limit.
fn replace(members: &mut [Member<'_, '_>]) {
    let found = members.iter().flat_map(|member| &member.matches);
    let replaced: SmallVec<[(&str, Enforcement); 8]> = found
        .flat_map(|found| found.policy.replaces.iter().map(|name| (&**name, found.policy.enforcement)))
        .collect();
    for member in members {
        member.matches.retain(|found| {
            let policy = found.policy;
            let is_replaced = replaced.iter().any(|(name, by)| {
                *name == &*policy.name && (*by == Enforcement::Enforce || *by == policy.enforcement)
            });
            !is_replaced || policy.descriptor.is_none() || policy.came_with_request()
        });
    }
}

/// What a descriptor asks of the cell of a match.
#[inline]
pub(super) fn cell<'p>(found: &Match<'p>, form: KeyForm, descriptor: &Descriptor<'_>) -> CellCheck<'p> {
    CellCheck {
        key: form.cell(found, descriptor.entries),
        layout: &found.bundle.layout,
        cost: descriptor.hits,
        enforced: found.policy.enforcement == Enforcement::Enforce,
    }
}

impl<'m, 'd, 'p> Group<'m, 'd, 'p> {
    /// Puts descriptors together whose cells have keys of that form.
    pub(super) fn of(form: KeyForm, members: impl Iterator<Item = &'m mut Member<'d, 'p>>) -> Self {
        let mut group = Self { matches: Matches::new(), cells: SmallVec::new(), members: Vec::new() };
        for member in members {
            member.cells = limited(&member.matches)
                .map(|found| group.add(found, cell(found, form, member.descriptor), member.kind))
                .collect();
            group.members.push(member);
        }
        group
    }

    /// Adds what a descriptor of that kind asks of a cell, which may be there already; its place.
    fn add(&mut self, found: &Match<'p>, asked: CellCheck<'p>, kind: Kind) -> usize {
        let charge = if kind == Kind::Charge { asked.cost } else { 0 };
        let Some(place) = self.cells.iter().position(|cell| cell.key == asked.key) else {
            self.matches.push(*found);
            self.cells.push(CellCheck { cost: charge.max(1), ..asked });
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
    pub(super) fn refuse_too_dear(&mut self) -> SmallVec<[bool; 4]> {
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

impl<'p> Member<'_, 'p> {
    pub(super) fn without_limits(&self, now_us: u64) -> Verdict<'p> {
        if self.is_refused {
            return Verdict::refused(now_us);
        }
        Verdict { exempt: !self.matches.is_empty(), ..Verdict::unlimited(now_us) }
    }

    /// The part of a decision that is about it.
    pub(super) fn decided(
        &self,
        cells: &[CellCheck<'p>],
        decision: &Decision,
        too_dear: &[bool],
        now_us: u64,
    ) -> Verdict<'p> {
        if self.is_refused || self.cells.is_empty() {
            return self.without_limits(now_us);
        }
        let mut own = Decision {
            admitted: true,
            replayed: false,
            key_reused: false,
            stale: false,
            outcomes: SmallVec::new(),
            lease: None,
        };
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
        // A limit of nothing was looked at as one of 1.
        for limit in verdict.limits.iter_mut().filter(|limit| limit.limit.limit.limit == 0) {
            limit.outcome.remaining = 0;
        }
        verdict
    }
}
