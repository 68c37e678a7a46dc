//! A breaker for each node: one that is gone must not make checks of the others fail.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tidegate_chassis::breaker::{Breaker, BreakerConfig, BreakerState};

/// The breakers of all nodes that there are links to, each shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Breakers {
    config: BreakerConfig,
    /// By name of the node.
    breakers: Arc<Mutex<BTreeMap<Arc<str>, Weak<Breaker>>>>,
}

impl Breakers {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, breakers: Arc::default() }
    }

    /// The breaker of a node, a new one if there is no other link to it.
    pub(super) fn of(&self, node: &Arc<str>) -> Arc<Breaker> {
        let mut breakers = self.lock();
        breakers.retain(|_, breaker| breaker.strong_count() > 0);
        if let Some(breaker) = breakers.get(node).and_then(Weak::upgrade) {
            return breaker;
        }
        let breaker = Arc::new(Breaker::new(self.config.clone()));
        breakers.insert(Arc::clone(node), Arc::downgrade(&breaker));
        breaker
    }

    /// The state of each.
    pub(super) fn states(&self) -> Vec<BreakerState> {
        self.lock().values().filter_map(Weak::upgrade).map(|breaker| breaker.state()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<Breaker>>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
