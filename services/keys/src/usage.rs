//! How keys are used, by day and outcome.

use std::time::Duration;

use tidegate_chassis::error::Violations;
use time::{Date, OffsetDateTime, macros::format_description};
use uuid::Uuid;

use crate::{
    api_keys::ApiKeys,
    changes::Changes,
    domain::{KeyId, OrganizationId},
    error::KeysError,
    store::{Usage, UsageEntry},
};

/// The most days that are told at a time.
pub const MAX_DAYS: i64 = 366;
/// Days that are told if it is not said since when.
const DEFAULT_DAYS: i64 = 30;

/// What is done with the use of keys. Clones are the same.
#[derive(Clone)]
pub struct KeyUsage {
    changes: Changes,
    keys: ApiKeys,
}

impl KeyUsage {
    /// Works on what `changes` writes, of keys that `keys` finds.
    #[must_use]
    pub fn new(changes: Changes, keys: ApiKeys) -> Self {
        Self { changes, keys }
    }

    /// How a key was used from one day (`YYYY-MM-DD`, UTC) to another, both included. The last day is today if it is empty, the first
    /// 29 days before.
    ///
    /// # Errors
    ///
    /// There is no such organization or key; the days are none, in the wrong order, or too many.
    pub async fn of_key(
        &self,
        organization: OrganizationId,
        key: KeyId,
        from_day: &str,
        to_day: &str,
    ) -> Result<Vec<Usage>, KeysError> {
        let (from, to) = days(from_day, to_day, self.changes.now_us())?;
        self.keys.get(organization, key).await?;
        Ok(self.changes.store().usage(organization, key, &from.to_string(), &to.to_string()).await?)
    }

    /// Takes in what a replica counted, once for each report.
    ///
    /// # Errors
    ///
    /// What the store says; then the same report may be sent again.
    pub async fn report(&self, report: Uuid, entries: &[UsageEntry]) -> Result<(), KeysError> {
        self.changes.store().add_usage(report, self.changes.now_us(), entries).await?;
        Ok(())
    }
}

/// Whether a text is a day, as `2026-11-29`.
#[must_use]
pub fn is_day(text: &str) -> bool {
    day(text).is_some()
}

fn day(text: &str) -> Option<Date> {
    let format = format_description!("[year]-[month]-[day]");
    Date::parse(text, format).ok().filter(|day| day.to_string() == text)
}

fn days(from_day: &str, to_day: &str, now_us: u64) -> Result<(Date, Date), KeysError> {
    let mut violations = Violations::default();
    let mut read = |field: &str, text: &str, default: Date| match text {
        "" => default,
        text => day(text).unwrap_or_else(|| {
            violations.add(field, "must be a day as 2026-11-29");
            default
        }),
    };
    let today = (OffsetDateTime::UNIX_EPOCH + Duration::from_micros(now_us)).date();
    let to = read("to_day", to_day, today);
    let first = to.checked_sub(time::Duration::days(DEFAULT_DAYS - 1)).unwrap_or(Date::MIN);
    let from = read("from_day", from_day, first);
    if violations.is_empty() && from > to {
        violations.add("from_day", "must not be later than the last day");
    }
    if violations.is_empty() && (to - from).whole_days() >= MAX_DAYS {
        violations.add("from_day", format!("must be at most {MAX_DAYS} days before"));
    }
    if violations.is_empty() { Ok((from, to)) } else { Err(KeysError::Invalid(violations)) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// 2026-11-29, a little before midnight.
    const NOW_US: u64 = 1_795_996_799_000_000;

    #[rstest]
    #[case::by_default("", "", "2026-10-31", "2026-11-29")]
    #[case::one_day("2026-11-29", "2026-11-29", "2026-11-29", "2026-11-29")]
    #[case::until_a_day("", "2024-02-29", "2024-01-31", "2024-02-29")]
    #[case::the_most("2025-11-29", "2026-11-29", "2025-11-29", "2026-11-29")]
    fn days_are_read(#[case] from: &str, #[case] to: &str, #[case] first: &str, #[case] last: &str) {
        let (from, to) = days(from, to, NOW_US).expect("days");
        assert_eq!((from.to_string(), to.to_string()), (first.to_owned(), last.to_owned()));
    }

    #[rstest]
    #[case::no_days("x", "2026-02-30", &["to_day", "from_day"])]
    #[case::another_form("20261129", "2026-1-1", &["to_day", "from_day"])]
    #[case::in_the_wrong_order("2026-11-29", "2026-11-28", &["from_day"])]
    #[case::too_many("2025-11-28", "2026-11-29", &["from_day"])]
    fn what_are_no_days_is_refused(#[case] from: &str, #[case] to: &str, #[case] fields: &[&str]) {
        let Err(KeysError::Invalid(violations)) = days(from, to, NOW_US) else { panic!("days") };
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, fields);
    }
}
