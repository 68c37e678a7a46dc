//! The last line of `cargo xtask test` and `cargo xtask ci`.

use std::{fmt, ops::Add};

/// How much passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Total {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };

    /// Whether nothing failed.
    pub(crate) fn good(self) -> bool {
        self.failed == 0
    }
}

impl Add for Total {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_its_fixed_form() {
        let total = Total::PASSED + Total::FAILED + Total::PASSED;
        assert_eq!(total.to_string(), "2 passed, 1 failed");
        assert!(!total.good());
    }
}
