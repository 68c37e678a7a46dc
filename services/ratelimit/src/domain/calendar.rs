//! Calendar-aligned windows in UTC.

/// Microseconds in a day; UTC has no leap seconds in Unix time.
const DAY_US: u64 = 86_400_000_000;

/// 1970-01-01 was a Thursday; weeks start on Monday, 1970-01-05.
const FIRST_MONDAY_US: u64 = 4 * DAY_US;

/// How time is cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// Windows of equal length in microseconds, aligned to the Unix epoch: a day starts at
    /// midnight UTC, an hour on the hour.
    Every(u64),
    /// ISO weeks: from Monday, midnight UTC.
    Week,
    /// Calendar months: from the first, midnight UTC, with their own lengths.
    Month,
}

/// One window `[start_us, end_us)`, in Unix microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First microsecond of the window.
    pub start_us: u64,
    /// First microsecond after it.
    pub end_us: u64,
}

impl Calendar {
    /// The window that holds `now_us`.
    pub fn window_at(self, now_us: u64) -> Window {
        match self {
            Self::Every(length) => {
                let start_us = now_us - now_us % length;
                Window { start_us, end_us: start_us + length }
            }
            Self::Week => {
                let length = 7 * DAY_US;
                // Before the first Monday lies the tail of the week that began in 1969.
                let Some(since) = now_us.checked_sub(FIRST_MONDAY_US) else {
                    return Window { start_us: 0, end_us: FIRST_MONDAY_US };
                };
                let start_us = now_us - since % length;
                Window { start_us, end_us: start_us + length }
            }
            Self::Month => {
                let (year, month) = year_and_month(now_us / DAY_US);
                let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                Window {
                    start_us: days_to_first(year, month) * DAY_US,
                    end_us: days_to_first(next_year, next_month) * DAY_US,
                }
            }
        }
    }
}

/// The date of a moment in UTC, as "2026-11-29".
pub fn date(at_us: u64) -> String {
    let days = at_us / DAY_US;
    let (year, month) = year_and_month(days);
    format!("{year:04}-{month:02}-{:02}", days - days_to_first(year, month) + 1)
}

/// Gregorian year and month (1 to 12) of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn year_and_month(days: u64) -> (u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153; // 0 is March
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month)
}

/// Days from 1970-01-01 to the first of a month. Source: as above, `days_from_civil`.
fn days_to_first(year: u64, month: u64) -> u64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let era = march_year / 400;
    let year_of_era = march_year % 400;
    let day_of_year = (153 * march_month + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_their_own_lengths_and_leap_years_their_day() {
        let february_2024 = Calendar::Month.window_at(1_709_164_800_000_000); // 2024-02-29
        assert_eq!(february_2024.start_us, 1_706_745_600_000_000);
        assert_eq!(february_2024.end_us, 1_709_251_200_000_000);
        let december_2026 = Calendar::Month.window_at(1_798_761_599_999_999); // last µs of 2026
        assert_eq!(december_2026.end_us, 1_798_761_600_000_000);
    }

    #[test]
    fn every_day_of_130_years_lies_in_exactly_one_month() {
        let mut expected_start = 0;
        for day in 0..47_500_u64 {
            let window = Calendar::Month.window_at(day * DAY_US + 5);
            if window.start_us != expected_start {
                assert_eq!(window.start_us, day * DAY_US, "a month starts where the last ended");
                expected_start = window.start_us;
            }
            let length = (window.end_us - window.start_us) / DAY_US;
            assert!((28..=31).contains(&length), "{length} days");
            assert!(window.end_us > day * DAY_US);
        }
    }

    #[test]
    fn dates_are_written_as_people_write_them() {
        let dates = [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_796_083_199, "2026-11-30")];
        for (at_s, expected) in dates {
            assert_eq!(date(at_s * 1_000_000), expected);
        }
    }

    #[test]
    fn weeks_start_on_monday() {
        let window = Calendar::Week.window_at(1_763_596_800_000_000); // Thursday, 2025-11-20
        assert_eq!(window.start_us, 1_763_337_600_000_000); // Monday, 2025-11-17
        assert_eq!(window.end_us - window.start_us, 7 * DAY_US);
    }
}
