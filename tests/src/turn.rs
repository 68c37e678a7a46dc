//! Who runs at the same time as whom: tests that load the machine run alone, the others together.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held by a test that loads the machine or measures time: nothing else runs meanwhile.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Held by every other test.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}
