//! Credits: a ledger from which replicas are given what they hand out.

use uuid::Uuid;

use super::{LineageId, OrganizationId};

/// The account of a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditAccount {
    /// The lineage.
    pub lineage_id: LineageId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// What is left to be handed out.
    pub balance: u64,
    /// What each refill sets the balance to, at least; 0 for no refill.
    pub refill_amount: u64,
    /// Days between refills; 0 for no refill.
    pub refill_every_days: u32,
    /// When the next refill is due.
    pub next_refill_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}

/// Microseconds in a day.
const DAY_US: u64 = 86_400_000_000;

impl CreditAccount {
    /// An account without credits and refills, that is not stored yet.
    #[must_use]
    pub fn empty(organization_id: OrganizationId, lineage_id: LineageId) -> Self {
        Self {
            lineage_id,
            organization_id,
            balance: 0,
            refill_amount: 0,
            refill_every_days: 0,
            next_refill_us: None,
            version: 0,
        }
    }

    /// The account once what was due at `now_us` is done, and how many credits came; none if nothing was due. However many
    /// refills were missed, the balance is set once, and the next one is due at the first of their times that is to come.
    #[must_use]
    pub fn refilled(&self, now_us: u64) -> Option<(Self, u64)> {
        let due_us = self.next_refill_us.filter(|due_us| *due_us <= now_us)?;
        let every_us = u64::from(self.refill_every_days) * DAY_US;
        let next_refill_us = (now_us - due_us)
            .checked_div(every_us)
            .and_then(|missed| (missed + 1).checked_mul(every_us)?.checked_add(due_us));
        let balance = self.balance.max(self.refill_amount);
        Some((Self { balance, next_refill_us, ..self.clone() }, balance - self.balance))
    }

    /// Changes what is refilled when; what is absent stays. If that is another than before, the next refill is a whole time
    /// away; what was due by now has to be done before.
    pub fn set_refill(&mut self, amount: Option<u64>, every_days: Option<u32>, now_us: u64) {
        let before = (self.refill_amount, self.refill_every_days);
        let after = (amount.unwrap_or(before.0), every_days.unwrap_or(before.1));
        (self.refill_amount, self.refill_every_days) = after;
        if after.0 == 0 || after.1 == 0 {
            self.next_refill_us = None;
        } else if before.1 != after.1 || self.next_refill_us.is_none() {
            self.next_refill_us = now_us.checked_add(u64::from(after.1) * DAY_US);
        }
    }
}

/// One movement on an account. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Told once: of a reservation the id that the replica gave it, else a new one.
    pub id: Uuid,
    /// The account.
    pub lineage_id: LineageId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// What it was.
    pub kind: LedgerKind,
    /// How many credits came or went.
    pub amount: u64,
    /// What was left then.
    pub balance_after: u64,
    /// When.
    pub at_us: u64,
}

/// What a movement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerKind {
    /// Credits came: somebody gave them.
    Grant,
    /// Credits came: a refill was due.
    Refill,
    /// Credits went: a replica hands them out.
    Reservation,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn account(
        balance: u64,
        refill_amount: u64,
        every_days: u32,
        next_refill_us: Option<u64>,
    ) -> CreditAccount {
        let empty = CreditAccount::empty(OrganizationId(Uuid::nil()), LineageId(Uuid::nil()));
        CreditAccount { balance, refill_amount, refill_every_days: every_days, next_refill_us, ..empty }
    }

    #[test]
    fn a_refill_sets_the_balance_when_it_is_due_and_the_next_one_is_a_time_later() {
        let before = account(3, 10, 30, Some(1_000));
        assert_eq!(before.refilled(999), None);
        assert_eq!(before.refilled(1_000), Some((account(10, 10, 30, Some(1_000 + 30 * DAY_US)), 7)));
    }

    #[test]
    fn a_refill_takes_nothing_away() {
        let before = account(30, 10, 30, Some(1_000));
        assert_eq!(before.refilled(1_000), Some((account(30, 10, 30, Some(1_000 + 30 * DAY_US)), 0)));
    }

    #[test]
    fn without_a_refill_nothing_is_ever_due() {
        let mut account = account(3, 10, 30, Some(1_000));
        account.set_refill(Some(0), None, 500);
        assert_eq!((account.refilled(u64::MAX), account.next_refill_us), (None, None));
    }

    #[test]
    fn another_amount_leaves_the_time_as_it_was_and_another_time_begins_anew() {
        let mut account = account(3, 10, 30, Some(1_000));
        account.set_refill(Some(20), None, 500);
        assert_eq!(account.next_refill_us, Some(1_000));
        account.set_refill(None, Some(1), 500);
        assert_eq!(account.next_refill_us, Some(500 + DAY_US));
    }

    proptest! {
        #[test]
        fn however_late_it_is_done_a_refill_is_done_once(
            balance in 0..100_u64, amount in 1..100_u64, every_days in 1..367_u32,
            due_us in 0..u64::MAX / 4, late_us in 0..u64::MAX / 4,
        ) {
            let now_us = due_us + late_us;
            let (after, added) = account(balance, amount, every_days, Some(due_us)).refilled(now_us).expect("due");
            let next_us = after.next_refill_us.expect("there is a next one");
            prop_assert_eq!(after.balance, balance.max(amount));
            prop_assert_eq!(added, after.balance - balance);
            prop_assert!(now_us < next_us && next_us - now_us <= u64::from(every_days) * DAY_US);
            prop_assert_eq!((next_us - due_us) % (u64::from(every_days) * DAY_US), 0);
            prop_assert_eq!(after.refilled(now_us), None);
        }
    }
}
