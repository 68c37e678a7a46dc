//! A decision as it is shown: as JSON, or for people.

use comfy_table::Table;
use owo_colors::OwoColorize;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{self as pb, Algorithm, CheckResponse, Code, LimitStatus};
use uuid::Uuid;

use super::key::Identity;
use crate::table;

/// What `--json` prints; names and units are those of the contract.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    code: String,
    limits: Vec<Limit>,
    binding_limit: Option<u32>,
    degraded: bool,
    replayed: bool,
    retry_after_ms: u64,
    decision_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Identity>,
}

/// A lease that was taken.
#[derive(Debug, Serialize)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) expires_after_ms: u64,
}

#[derive(Debug, Serialize)]
struct Limit {
    name: String,
    algorithm: String,
    limit: u64,
    remaining: u64,
    reset_after_ms: u64,
    retry_after_ms: u64,
    period_ms: u64,
    exceeded: bool,
    shadow: bool,
}

impl From<CheckResponse> for Answer {
    fn from(response: CheckResponse) -> Self {
        Self {
            allowed: response.allowed,
            code: word(response.code().as_str_name(), Code::Unspecified.as_str_name()),
            decision_id: Uuid::from_slice(&response.decision_id).ok(),
            limits: response.limits.into_iter().map(Limit::from).collect(),
            binding_limit: response.binding_limit,
            degraded: response.degraded,
            replayed: response.replayed,
            retry_after_ms: response.retry_after_ms,
            lease: response.lease.map(Lease::from),
            key: response.key.map(Identity::from),
        }
    }
}

impl From<pb::Lease> for Lease {
    fn from(lease: pb::Lease) -> Self {
        Self { id: lease.id, expires_after_ms: lease.expires_after_ms }
    }
}

impl From<LimitStatus> for Limit {
    fn from(status: LimitStatus) -> Self {
        Self {
            algorithm: word(status.algorithm().as_str_name(), Algorithm::Unspecified.as_str_name()),
            name: status.name,
            limit: status.limit,
            remaining: status.remaining,
            reset_after_ms: status.reset_after_ms,
            retry_after_ms: status.retry_after_ms,
            period_ms: status.period_ms,
            exceeded: status.exceeded,
            shadow: status.shadow,
        }
    }
}

/// `ALGORITHM_SLIDING_WINDOW` without the prefix that its enum's zero value shows, in lower case.
fn word(name: &str, unspecified: &str) -> String {
    let prefix = unspecified.trim_end_matches("UNSPECIFIED");
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

impl Answer {
    /// Prints it for people.
    pub(crate) fn print(&self) {
        if self.allowed {
            anstream::println!("{}{}", "allowed".green().bold(), self.remarks());
        } else {
            let wait = match self.retry_after_ms {
                0 => format!(" ({})", self.code),
                after => format!(" ({}), retry after {}", self.code, human(after)),
            };
            anstream::println!("{}{wait}{}", "denied".red().bold(), self.remarks());
        }
        if let Some(key) = &self.key {
            anstream::println!("{key}");
        }
        if self.limits.is_empty() {
            if self.allowed {
                anstream::println!("no limit applies");
            }
        } else {
            anstream::println!("{}", self.table());
        }
        if let Some(Lease { id, expires_after_ms }) = &self.lease {
            let left = human(*expires_after_ms);
            anstream::println!("it holds a lease, which expires in {left} unless it is renewed: {id}");
        }
    }

    /// Why not, in one line.
    pub(crate) fn denial(&self) -> String {
        let exceeded: Vec<_> = self.limits.iter().filter(|limit| limit.exceeded && !limit.shadow).collect();
        let mut text = format!("denied ({}), retry after {}", self.code, human(self.retry_after_ms));
        for Limit { name, algorithm, limit, remaining, period_ms, .. } in exceeded {
            let of = match &**algorithm {
                "concurrency" => format!("{limit} at once"),
                _ => format!("{limit} per {}", human(*period_ms)),
            };
            text.push_str(&format!("; {name} has {remaining} left of {of}"));
        }
        text + &self.remarks()
    }

    fn remarks(&self) -> String {
        let mut remarks = String::new();
        if self.degraded {
            remarks.push_str(", degraded: the store could not be asked");
        }
        if self.replayed {
            remarks.push_str(", replayed: the idempotency key was charged before");
        }
        remarks
    }

    fn table(&self) -> Table {
        let header = ["", "limit", "algorithm", "remaining", "of", "per", "unused again in", ""];
        let mut table = table::new(&header, 3..=6);
        for (index, limit) in self.limits.iter().enumerate() {
            let binds = self.binding_limit.is_some_and(|binding| binding as usize == index);
            let mut notes = Vec::new();
            if limit.exceeded {
                notes.push(format!("exceeded, free in {}", human(limit.retry_after_ms)));
            }
            if limit.shadow {
                notes.push("shadow".to_owned());
            }
            table.add_row([
                if binds { "→" } else { "" }.to_owned(),
                limit.name.clone(),
                limit.algorithm.clone(),
                limit.remaining.to_string(),
                limit.limit.to_string(),
                human(limit.period_ms),
                human(limit.reset_after_ms),
                notes.join(", "),
            ]);
        }
        table
    }
}

/// Milliseconds in the two largest units that matter, rounded up: who waits that long has waited enough.
pub(crate) fn human(millis: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let largest = |millis: u64| UNITS.iter().position(|(_, unit)| millis >= *unit);
    let Some(first) = largest(millis) else { return "0s".to_owned() };
    let (_, smallest) = UNITS.get(first + 1).unwrap_or(&UNITS[first]);
    let mut rest = millis.next_multiple_of(*smallest);
    let mut text = String::new();
    for (name, unit) in UNITS.iter().skip(largest(rest).unwrap_or(first)).take(2) {
        if rest >= *unit {
            text.push_str(&format!("{}{name}", rest / unit));
        }
        rest %= unit;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well_and_are_never_too_short() {
        let cases = [
            (0, "0s"),
            (999, "999ms"),
            (42_000, "42s"),
            (42_500, "42s500ms"),
            (60_000, "1m"),
            (60_447, "1m1s"),
            (3_599_001, "1h"),
            (3_661_000, "1h2m"),
            (86_400_000, "1d"),
        ];
        for (millis, text) in cases {
            assert_eq!(human(millis), text);
        }
    }

    #[test]
    fn enum_names_lose_their_prefix() {
        let answer = Answer::from(CheckResponse {
            code: Code::RateLimited.into(),
            limits: vec![LimitStatus {
                algorithm: Algorithm::SlidingWindow.into(),
                ..LimitStatus::default()
            }],
            ..CheckResponse::default()
        });
        assert_eq!(answer.code, "rate_limited");
        assert_eq!(answer.limits[0].algorithm, "sliding_window");
    }
}
