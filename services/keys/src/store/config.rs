//! The `[database]` section.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::config::{HumanDuration, Secret};
use tidegate_migrations::Dialect;

/// Settings of the database.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://` or `sqlite:`.
    #[garde(custom(a_database_url))]
    pub url: Secret,
    /// Whether the tables are brought up to date at the start.
    #[garde(skip)]
    pub migrate: bool,
    /// Connections of this replica, 1 to 100.
    #[garde(range(min = 1, max = 100))]
    pub max_connections: u32,
    /// From wanting a connection to having one, 10 ms to 1 min.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_secs(60))))]
    pub connect_timeout: HumanDuration,
    /// From asking to the answer, 10 ms to 10 min.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_secs(600))))]
    pub query_timeout: HumanDuration,
    /// How often the revision of the feed is asked, 10 ms to 500 ms.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_millis(500))))]
    pub poll_every: HumanDuration,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_database_url(url: &Secret, _: &()) -> garde::Result {
    match Dialect::of(url.expose()) {
        Ok(Dialect::Postgres | Dialect::Sqlite) => Ok(()),
        Err(_) => Err(garde::Error::new("must begin with postgres:// or sqlite:")),
    }
}

fn between(least: Duration, most: Duration) -> impl FnOnce(&HumanDuration, &()) -> garde::Result {
    move |duration, _| {
        if (least..=most).contains(&duration.get()) {
            Ok(())
        } else {
            let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
            Err(garde::Error::new(format!("must be {least} to {most}")))
        }
    }
}
