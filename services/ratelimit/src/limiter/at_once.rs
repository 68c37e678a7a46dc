//! Decisions that wait for nothing.

use super::{ByKey, CheckError, Limiter, Question, Verdict, asked::Asked};
use crate::{
    domain::{Attributes, PolicySet},
    store::MemoryStore,
};

/// A [`Limiter`] that waits for nothing, at the moment at which it was asked for.
#[derive(Clone, Copy)]
pub struct AtOnce<'l> {
    pub(super) limiter: &'l Limiter,
    pub(super) store: &'l MemoryStore,
    pub(super) now_us: u64,
}

impl AtOnce<'_> {
    /// At which moment, in Unix microseconds.
    #[inline]
    pub fn at_us(self) -> u64 {
        self.now_us
    }

    /// The same, at this moment.
    #[must_use]
    pub fn now(self) -> Self {
        Self { now_us: self.limiter.clock.now_us(), ..self }
    }

    /// As [`Limiter::check`].
    ///
    /// # Errors
    ///
    /// As [`Limiter::check`].
    #[inline]
    pub fn check<'p, A>(
        self,
        policies: &'p PolicySet,
        question: &Question<'_, A>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        self.check_by(policies, question, None)
    }

    /// As [`Limiter::check_by`]. Whoever asks has made sure that the key is of now: counters in memory know no fences.
    ///
    /// # Errors
    ///
    /// As [`Limiter::check`].
    #[inline]
    pub fn check_by<'p, A>(
        self,
        policies: &'p PolicySet,
        question: &Question<'_, A>,
        key: Option<ByKey<'p>>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        let mut asked = Asked::new(question);
        self.limiter.find(policies, question, &mut asked)?;
        if let Some(key) = key {
            self.limiter.add_limits(key.limits, question, &mut asked.matches)?;
        }
        let mut check = self.limiter.store_check(&asked, question);
        self.limiter.take_lease(&asked.matches, &mut check, None)?;
        if check.cells.is_empty() {
            return Ok(Verdict::unlimited(self.now_us));
        }
        let answer = self.store.decide_at(&check, self.now_us);
        let verdict = self.limiter.verdict(&asked.matches, &check, answer, self.now_us)?;
        self.limiter.tell(&asked.matches, &asked.attributes, check.charge, &verdict);
        Ok(verdict)
    }
}
