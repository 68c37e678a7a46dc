//! A sliding window in parts. The oldest part counts in full as long as any of it lies in the window, so no interval of the
//! period ever holds more than the limit. Pure: the time comes in.

use std::time::Duration;

/// Parts of a period; one more is kept, which is partly over.
const PARTS: u32 = 8;
const KEPT: usize = PARTS as usize + 1;

/// Tokens of one subject.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// By number of the part, modulo [`KEPT`].
    spent: [u64; KEPT],
    /// Number of the newest part.
    newest: u64,
}

/// No room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) remaining: u64,
    pub(super) retry_after: Duration,
}

impl Window {
    /// Spends `tokens` at the time `now` if there is room, and answers how many are left; only looks if told so.
    pub(super) fn take(
        &mut self,
        limit: u64,
        period: Duration,
        tokens: u64,
        only_look: bool,
        now: Duration,
    ) -> Result<u64, Denial> {
        self.advance(part(period, now));
        let remaining = limit.saturating_sub(self.sum());
        if tokens > remaining {
            return Err(Denial { remaining, retry_after: self.room_after(limit, period, tokens, now) });
        }
        if only_look {
            return Ok(remaining);
        }
        let index = self.index(self.newest);
        self.spent[index] += tokens;
        Ok(remaining - tokens)
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_unused(&self, period: Duration, now: Duration) -> bool {
        let mut then = *self;
        then.advance(part(period, now));
        then.sum() == 0
    }

    fn advance(&mut self, to: u64) {
        if to.saturating_sub(self.newest) >= KEPT as u64 {
            *self = Self { spent: [0; KEPT], newest: to };
        }
        while self.newest < to {
            self.newest += 1;
            let index = self.index(self.newest);
            self.spent[index] = 0;
        }
    }

    /// When so many parts have left the window that there is room; a period if there never is.
    fn room_after(&self, limit: u64, period: Duration, tokens: u64, now: Duration) -> Duration {
        let mut then = *self;
        for _ in 0..KEPT {
            then.advance(then.newest + 1);
            if then.sum().saturating_add(tokens) <= limit {
                return (start(period, then.newest)).saturating_sub(now).max(Duration::from_millis(1));
            }
        }
        period
    }

    fn sum(&self) -> u64 {
        self.spent.iter().sum()
    }

    fn index(&self, part: u64) -> usize {
        usize::try_from(part % KEPT as u64).expect("less than the number of parts")
    }
}

fn part(period: Duration, now: Duration) -> u64 {
    let number = now.as_nanos() / (period.as_nanos() / u128::from(PARTS)).max(1);
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn start(period: Duration, part: u64) -> Duration {
    let nanos = u128::from(part) * (period.as_nanos() / u128::from(PARTS)).max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(8);

    fn take(window: &mut Window, tokens: u64, at_ms: u64) -> Result<u64, Denial> {
        window.take(10, PERIOD, tokens, false, Duration::from_millis(at_ms))
    }

    #[test]
    fn no_interval_of_the_period_holds_more_than_the_limit() {
        // As greedy as it can be, every 100 ms for five periods.
        let (mut window, mut admitted) = (Window::default(), Vec::new());
        for at in (0..40_000).step_by(100) {
            if take(&mut window, 1, at).is_ok() {
                admitted.push(at);
            }
        }
        for (index, from) in admitted.iter().enumerate() {
            let within = admitted[index..].iter().take_while(|at| **at < from + 8000).count();
            assert!(within <= 10, "{within} from {from}");
        }
        assert!(admitted.len() >= 40, "and it is not much stricter: {}", admitted.len());
    }

    #[test]
    fn a_denial_spends_nothing_and_says_when_there_is_room() {
        let mut window = Window::default();
        assert_eq!(take(&mut window, 9, 100), Ok(1));
        let denial = take(&mut window, 2, 200).unwrap_err();
        assert_eq!(denial, Denial { remaining: 1, retry_after: Duration::from_millis(8800) });
        assert!(take(&mut window, 2, 8999).is_err());
        assert_eq!(take(&mut window, 2, 9000), Ok(8));
    }

    #[test]
    fn a_look_spends_nothing() {
        let mut window = Window::default();
        assert_eq!(window.take(10, PERIOD, 10, true, Duration::ZERO), Ok(10));
        assert_eq!(take(&mut window, 10, 0), Ok(0));
    }

    #[test]
    fn what_was_never_used_or_is_over_is_unused() {
        let mut window = Window::default();
        assert!(window.is_unused(PERIOD, Duration::ZERO));
        take(&mut window, 1, 0).unwrap();
        assert!(!window.is_unused(PERIOD, PERIOD));
        assert!(window.is_unused(PERIOD, 2 * PERIOD));
    }
}
