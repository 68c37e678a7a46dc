//! The ledger of credits of the keys service that tests talk to: a reservation that was made is told again, and one that finds nothing
//! leaves no trace.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use tidegate_proto::keys::v1::{ReserveCreditsRequest, ReserveCreditsResponse};
use tonic::Status;

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Accounts>);

#[derive(Default)]
pub(crate) struct Accounts {
    pub(crate) balances: HashMap<String, u64>,
    pub(crate) next_refill_at_ms: u64,
    /// What was granted, by reservation.
    pub(crate) reservations: HashMap<String, u64>,
    /// The ids that were asked for, in order.
    pub(crate) asked: Vec<String>,
    /// So many answers are lost after the ledger was written.
    pub(crate) loses: usize,
}

impl Ledger {
    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap()
    }

    pub(super) fn reserve(&self, request: ReserveCreditsRequest) -> Result<ReserveCreditsResponse, Status> {
        let mut accounts = self.accounts();
        accounts.asked.push(request.reservation_id.clone());
        let balance = accounts.balances.get(&request.lineage_id).copied();
        let balance = balance.ok_or_else(|| Status::failed_precondition("no account"))?;
        let known = accounts.reservations.get(&request.reservation_id).copied();
        let granted = known.unwrap_or_else(|| request.amount.min(balance));
        let left = if known.is_some() { balance } else { balance - granted };
        if granted > 0 {
            accounts.reservations.insert(request.reservation_id, granted);
        }
        accounts.balances.insert(request.lineage_id, left);
        if accounts.loses > 0 {
            accounts.loses -= 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(ReserveCreditsResponse { granted, balance: left, next_refill_at_ms: accounts.next_refill_at_ms })
    }
}
