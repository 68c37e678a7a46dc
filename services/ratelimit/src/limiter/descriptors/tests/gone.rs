//! A store that is gone.

use crate::{
    domain::{Check, Decision, Fence},
    store::{Answer, CellLease, CellRefund, CellReset, CounterStore, StoreError},
};

/// Answers nothing.
pub(super) struct Gone;

impl CounterStore for Gone {
    fn decide(&self, _: &Check<'_>) -> Answer<'static, Decision> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn reset<'a>(&'a self, _: &'a [CellReset]) -> Answer<'a, ()> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn refund<'a>(&'a self, _: &'a [CellRefund]) -> Answer<'a, ()> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn renew<'a>(&'a self, _: &'a [CellLease], _: u64) -> Answer<'a, bool> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn release<'a>(&'a self, _: &'a [CellLease]) -> Answer<'a, bool> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn fence(&self, _: Fence) -> Answer<'_, bool> {
        Answer::Ready(Err(StoreError::Disconnected))
    }

    fn complete_for_us(&self, _: &[u8]) -> u64 {
        0
    }
}
