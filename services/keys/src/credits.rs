//! Credits: given, refilled when that is due, and reserved by replicas that hand them out.
//!
//! An account is debited before anybody can spend what was taken off it. What is lost on the way is spent: too little is admitted
//! then, never too much.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    api_keys::ApiKeys,
    changes::{By, Changes, Turn, feed_entry, raise_generation},
    domain::{
        Action, ApiKey, CreditAccount, KeyId, LedgerEntry, LedgerKind, LineageId, Organization,
        OrganizationId, ResourceType,
    },
    error::{KeysError, until_written},
    idempotency::Keep,
    store::{Change, KeyFilter, StoreError, Unique, Write},
};

/// The most that an account can have.
pub const MAX_BALANCE: u64 = 1_000_000_000_000_000;
/// Keys of a lineage that are read at a time.
const PAGE: u32 = 1_000;

/// What is done with credits. Clones are the same.
#[derive(Clone)]
pub struct Credits {
    changes: Changes,
    keys: ApiKeys,
}

/// What is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grant {
    /// Credits to add.
    pub amount: u64,
    /// What each refill sets the balance to, at least; 0 for no refill; absent stays.
    pub refill_amount: Option<u64>,
    /// Days between refills; 0 for no refill; absent stays.
    pub refill_every_days: Option<u32>,
}

/// Credits that were taken off an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// How many.
    pub granted: u64,
    /// What is left.
    pub balance: u64,
    /// When the account is refilled.
    pub next_refill_us: Option<u64>,
}

impl Credits {
    /// Works on what `changes` writes, of keys that `keys` finds.
    #[must_use]
    pub fn new(changes: Changes, keys: ApiKeys) -> Self {
        Self { changes, keys }
    }

    /// Gives the lineage of a key credits. It has an account from then on, and is denied when that is empty.
    ///
    /// # Errors
    ///
    /// There is no such organization or key, or the account would have more than [`MAX_BALANCE`].
    pub async fn grant(
        &self,
        by: &By,
        organization: OrganizationId,
        key: KeyId,
        grant: Grant,
        keep: Keep<CreditAccount>,
    ) -> Result<CreditAccount, KeysError> {
        let turn = self.changes.turn(organization).await;
        until_written(|| self.try_grant(by, &turn, key, grant, &keep)).await
    }

    async fn try_grant(
        &self,
        by: &By,
        turn: &Turn,
        key: KeyId,
        grant: Grant,
        keep: &Keep<CreditAccount>,
    ) -> Result<CreditAccount, KeysError> {
        let organization = turn.organization;
        let mut tenant = self.changes.organization(organization).await?;
        let key = self.keys.get(organization, key).await?;
        let now_us = self.changes.now_us();
        let account = self.changes.store().credits(organization, key.lineage_id).await?;
        let is_first = account.is_none();
        let account = account.unwrap_or_else(|| CreditAccount::empty(organization, key.lineage_id));
        let mut write = Write { at_us: now_us, ..Write::default() };
        let mut account = self.refill(&mut write, account, now_us);
        account.set_refill(grant.refill_amount, grant.refill_every_days, now_us);
        account.balance = account
            .balance
            .checked_add(grant.amount)
            .filter(|balance| *balance <= MAX_BALANCE)
            .ok_or_else(|| KeysError::field("amount", "would be more than an account can have"))?;
        if grant.amount > 0 {
            let id = self.changes.id(now_us);
            write.changes.push(movement(&account, id, LedgerKind::Grant, grant.amount, now_us));
        }
        let generation = if is_first { self.enable(&mut write, &mut tenant, &key).await? } else { None };
        let details = [
            ("amount", Value::from(grant.amount)),
            ("refill_amount", Value::from(account.refill_amount)),
            ("refill_every_days", Value::from(account.refill_every_days)),
        ];
        let resource = (Action::CreditsGrant, ResourceType::Credits, key.lineage_id.0);
        write.events.push(self.changes.event(by, now_us, organization, resource, details));
        let granted = put(&mut write, account);
        write.idempotency = keep.record(&granted, now_us);
        self.changes.commit_in(turn, write, generation).await?;
        Ok(granted)
    }

    /// The credits of a key's lineage as of now.
    ///
    /// # Errors
    ///
    /// There is no such organization or key, or it has no account.
    pub async fn get(&self, organization: OrganizationId, key: KeyId) -> Result<CreditAccount, KeysError> {
        let key = self.keys.get(organization, key).await?;
        let account = self.changes.store().credits(organization, key.lineage_id).await?;
        let account = account.ok_or(KeysError::CreditsNotEnabled)?;
        Ok(account.refilled(self.changes.now_us()).map_or(account, |(account, _)| account))
    }

    /// Takes up to `amount` credits off an account. With the id of a reservation that was made it takes nothing, and tells again what was
    /// taken then. One that finds nothing to take leaves no trace.
    ///
    /// # Errors
    ///
    /// There is no account; or the id is that of another movement, or of one that is not the organization's.
    pub async fn reserve(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
        amount: u64,
        id: Uuid,
    ) -> Result<Reserved, KeysError> {
        let _turn = self.changes.turn(organization).await;
        until_written(|| async {
            match self.try_reserve(organization, lineage, amount, id).await {
                // The same reservation was made at the same time, over another replica: it is there now, or it is not this
                // organization's.
                Err(KeysError::Store(StoreError::Taken(Unique::LedgerEntry))) => {
                    match self.try_reserve(organization, lineage, amount, id).await {
                        Err(KeysError::Store(StoreError::Taken(Unique::LedgerEntry))) => {
                            Err(KeysError::ReservationNotFound)
                        }
                        other => other,
                    }
                }
                other => other,
            }
        })
        .await
    }

    async fn try_reserve(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
        amount: u64,
        id: Uuid,
    ) -> Result<Reserved, KeysError> {
        let store = self.changes.store();
        let now_us = self.changes.now_us();
        let account = store.credits(organization, lineage).await?.ok_or(KeysError::CreditsNotEnabled)?;
        if let Some(entry) = store.ledger_entry(organization, id).await? {
            if entry.lineage_id != lineage || entry.kind != LedgerKind::Reservation {
                return Err(KeysError::field("reservation_id", "is that of something else"));
            }
            return Ok(reserved(entry.amount, &account));
        }
        let mut write = Write { at_us: now_us, ..Write::default() };
        let mut account = self.refill(&mut write, account, now_us);
        let granted = amount.min(account.balance);
        account.balance -= granted;
        if granted > 0 {
            write.changes.push(movement(&account, id, LedgerKind::Reservation, granted, now_us));
        }
        if write.changes.is_empty() {
            return Ok(reserved(0, &account));
        }
        let account = put(&mut write, account);
        self.changes.commit(write, None).await?;
        Ok(reserved(granted, &account))
    }

    /// The account as it is at a time, and what comes to the write by it.
    fn refill(&self, write: &mut Write, account: CreditAccount, now_us: u64) -> CreditAccount {
        let Some((account, added)) = account.refilled(now_us) else { return account };
        let id = self.changes.id(now_us);
        write.changes.push(movement(&account, id, LedgerKind::Refill, added, now_us));
        account
    }

    /// Tells every key of the lineage that there is an account now, and the generation from which on replicas know it.
    async fn enable(
        &self,
        write: &mut Write,
        tenant: &mut Organization,
        key: &ApiKey,
    ) -> Result<Option<u64>, KeysError> {
        let filter = KeyFilter { lineage: Some(key.lineage_id), ..KeyFilter::default() };
        let mut after = None;
        loop {
            let page = self.changes.store().api_keys(tenant.id, &filter, after, PAGE).await?;
            after = page.last().map(|key| key.id);
            let is_last = page.len() < PAGE as usize;
            let without = page.into_iter().filter(|key| !key.has_credits);
            write.changes.extend(without.map(|key| Change::ApiKey(ApiKey { has_credits: true, ..key })));
            if is_last {
                break;
            }
        }
        raise_generation(write, tenant, feed_entry(tenant.id));
        Ok(Some(tenant.generation))
    }
}

fn movement(account: &CreditAccount, id: Uuid, kind: LedgerKind, amount: u64, at_us: u64) -> Change {
    Change::Ledger(LedgerEntry {
        id,
        lineage_id: account.lineage_id,
        organization_id: account.organization_id,
        kind,
        amount,
        balance_after: account.balance,
        at_us,
    })
}

/// Puts the account before its movements, which refer to it, and gives it as it is then.
fn put(write: &mut Write, account: CreditAccount) -> CreditAccount {
    let put = CreditAccount { version: account.version + 1, ..account.clone() };
    write.changes.insert(0, Change::Credits(account));
    put
}

fn reserved(granted: u64, account: &CreditAccount) -> Reserved {
    Reserved { granted, balance: account.balance, next_refill_us: account.next_refill_us }
}
