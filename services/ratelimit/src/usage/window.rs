//! The stretches of time that are looked back on.

/// How far back a view of use looks. What is counted is kept by two generations of one length, and the older one is dropped when the
/// younger is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The last one to two minutes.
    Recent,
    /// The last 30 to 60 minutes.
    Hour,
}

impl Window {
    /// Each.
    pub(crate) const ALL: [Self; 2] = [Self::Recent, Self::Hour];

    /// Length of one generation, in microseconds.
    pub(super) fn generation_us(self) -> u64 {
        match self {
            Self::Recent => 60_000_000,
            Self::Hour => 1_800_000_000,
        }
    }
}

/// When the generations of one window began, in Unix microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Began {
    pub(super) previous_us: u64,
    pub(super) current_us: u64,
}

impl Began {
    pub(super) fn at(now_us: u64) -> Self {
        Self { previous_us: now_us, current_us: now_us }
    }

    /// How many new generations are due at `now_us`, 0 to 2; they have begun then.
    pub(super) fn turn(&mut self, window: Window, now_us: u64) -> usize {
        let length = window.generation_us();
        if now_us < self.current_us {
            // The clock stepped back: what was counted is as of now.
            self.current_us = now_us;
            self.previous_us = self.previous_us.min(now_us);
            return 0;
        }
        match now_us - self.current_us {
            past if past < length => 0,
            past if past < 2 * length => {
                *self = Self { previous_us: self.current_us, current_us: now_us };
                1
            }
            _ => {
                *self = Self::at(now_us);
                2
            }
        }
    }
}

/// What is counted now, and what was before.
#[derive(Debug)]
pub(super) struct Generations<T> {
    pub(super) previous: T,
    pub(super) current: T,
}

impl<T> Generations<T> {
    /// The older one becomes the younger one, as `renew` makes it.
    pub(super) fn turn(&mut self, renew: impl FnOnce(&mut T)) {
        std::mem::swap(&mut self.previous, &mut self.current);
        renew(&mut self.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: u64 = 60_000_000;

    #[test]
    fn generations_turn_when_they_are_full_and_both_after_a_long_time() {
        let mut began = Began::at(10 * MINUTE_US);
        assert_eq!(began.turn(Window::Recent, 11 * MINUTE_US - 1), 0);
        assert_eq!(began.turn(Window::Recent, 11 * MINUTE_US + 5), 1);
        assert_eq!(began, Began { previous_us: 10 * MINUTE_US, current_us: 11 * MINUTE_US + 5 });
        assert_eq!(began.turn(Window::Recent, 20 * MINUTE_US), 2);
        assert_eq!(began, Began::at(20 * MINUTE_US));
        assert_eq!(began.turn(Window::Recent, 19 * MINUTE_US), 0);
        assert_eq!(began, Began::at(19 * MINUTE_US));
        assert_eq!(began.turn(Window::Recent, 20 * MINUTE_US), 1, "it goes on from there");
    }

    #[test]
    fn turned_generations_keep_the_younger_one() {
        let mut generations = Generations { previous: vec![1], current: vec![2, 3] };
        generations.turn(Vec::clear);
        assert_eq!((generations.previous, generations.current), (vec![2, 3], vec![]));
    }
}
