//! The picture.

use owo_colors::OwoColorize;
use tidegate_proto::ratelimit::v1::{
    CheckCounts, ListPolicyStatsResponse, ListTopKeysResponse, PolicyStats, ReplicaView, TopKey,
};
use uuid::Uuid;

use crate::{check::human, table};

/// Width of the bar of a key that is everything.
const BAR: usize = 24;

/// Who speaks, the policies, and the keys.
pub(super) fn draw(keys: &ListTopKeysResponse, policies: &ListPolicyStatsResponse, title: &str) -> String {
    let replica = keys.replica.clone().unwrap_or_default();
    let heading = format!("Keys {title}");
    let total = format!(
        "{} in all; one that is not listed at most {}",
        digits(keys.total),
        digits(keys.unlisted_at_most)
    );
    format!(
        "{}\n\n{}\n\n{}  {total}\n{}",
        head(&replica),
        of_policies(&policies.policies),
        heading.bold(),
        of_keys(&keys.keys)
    )
}

fn head(replica: &ReplicaView) -> String {
    let id = Uuid::from_slice(&replica.instance_id).unwrap_or_default();
    let since = |ms: u64| human(replica.at_ms.saturating_sub(ms).next_multiple_of(1_000));
    let (up, window) = (since(replica.started_at_ms), since(replica.window_start_ms));
    format!("{} replica {id}, up {up}, looking back {window}", "tidegate top".bold())
}

fn of_policies(policies: &[PolicyStats]) -> String {
    let header = ["policy", "checks", "admitted", "denied", "near a limit", "denied in shadow"];
    let mut table = table::new(&header, 1..=5);
    for policy in policies {
        let CheckCounts { checks, admitted, denied, near_limit, shadow_denied } =
            policy.in_window.unwrap_or_default();
        let mut row = vec![format!("{}/{}", policy.namespace, policy.policy)];
        row.extend([checks, admitted, denied, near_limit, shadow_denied].map(digits));
        table.add_row(row);
    }
    if policies.is_empty() { "No policy was in use yet.".to_owned() } else { table.to_string() }
}

fn of_keys(keys: &[TopKey]) -> String {
    if keys.is_empty() {
        return "None.".to_owned();
    }
    let mut table = table::new(&["", "key", "policy", "count", "likely", "share", ""], [0, 3, 4, 5]);
    for (rank, key) in keys.iter().enumerate() {
        table.add_row([
            (rank + 1).to_string(),
            subject(key),
            key.policy.clone(),
            digits(key.count),
            likely(key),
            format!("{:.1} %", key.share * 100.0),
            bar(key.share),
        ]);
    }
    table.to_string()
}

/// Whom a key counts. What a terminal would not show as itself is written as in source code.
fn subject(key: &TopKey) -> String {
    let attributes = key.attributes.iter().map(|of| {
        let more = if of.cut { "…" } else { "" };
        format!("{}={}{more}", of.name.escape_debug(), of.value.escape_debug())
    });
    let attributes: Vec<_> = attributes.collect();
    if attributes.is_empty() { format!("all of {}", key.namespace) } else { attributes.join(" ") }
}

/// The range in which the true number lies in 19 of 20 cases.
fn likely(key: &TopKey) -> String {
    let sampling = key.standard_error.saturating_mul(2);
    let least = key.count.saturating_sub(key.overcount).saturating_sub(sampling);
    let most = key.count.saturating_add(sampling);
    if least == most { "exact".to_owned() } else { format!("{}–{}", digits(least), digits(most)) }
}

#[expect(clippy::cast_possible_truncation, reason = "a share is 0 to 1")]
#[expect(clippy::cast_sign_loss, reason = "a share is 0 to 1")]
#[expect(clippy::cast_precision_loss, reason = "a bar is short")]
fn bar(share: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * PARTS.len()) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / PARTS.len()), PARTS[eighths % PARTS.len()])
}

/// A number with its thousands apart.
fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut apart = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use tidegate_proto::ratelimit::v1::KeyAttribute;

    use super::*;

    fn key(value: &str, count: u64, overcount: u64, standard_error: u64) -> TopKey {
        let attribute = KeyAttribute { name: "user".to_owned(), value: value.to_owned(), cut: false };
        TopKey {
            namespace: "shop".to_owned(),
            policy: "each".to_owned(),
            attributes: vec![attribute],
            count,
            overcount,
            standard_error,
            share: 0.5,
        }
    }

    #[test]
    fn picture_shows_keys_with_their_error_and_policies() {
        let keys = ListTopKeysResponse {
            replica: Some(ReplicaView { at_ms: 125_400, window_start_ms: 60_000, ..ReplicaView::default() }),
            keys: vec![key("ada", 1_234_567, 0, 0), key("bob", 5_000, 100, 50)],
            total: 2_000_000,
            unlisted_at_most: 77,
        };
        let counts = CheckCounts { checks: 12_345, admitted: 12_000, denied: 345, ..CheckCounts::default() };
        let policy = PolicyStats {
            namespace: "shop".to_owned(),
            policy: "each".to_owned(),
            since_start: None,
            in_window: Some(counts),
        };
        let policies =
            ListPolicyStatsResponse { policies: vec![policy], ..ListPolicyStatsResponse::default() };
        let picture = draw(&keys, &policies, "denied");
        // Columns are as wide as what is in them.
        let picture = picture.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "up 2m6s, looking back 1m6s",
            "shop/each 12,345 12,000 345 0 0",
            "2,000,000 in all; one that is not listed at most 77",
            "1 user=ada each 1,234,567 exact 50.0 % ████████████ 2",
            "2 user=bob each 5,000 4,800–5,100 50.0 %",
        ] {
            assert!(picture.contains(part), "{part}\n{picture}");
        }
    }

    #[test]
    fn values_cannot_command_the_terminal() {
        let picture = of_keys(&[key("\u{1b}[2J\nmallory", 1, 0, 0)]);
        assert!(!picture.contains('\u{1b}'), "{picture:?}");
        assert!(picture.contains("user=\\u{1b}[2J\\nmallory"), "{picture}");
    }

    #[test]
    fn bars_are_as_long_as_the_share() {
        assert_eq!((bar(0.0), bar(1.0), bar(0.5)), (String::new(), "█".repeat(24), "█".repeat(12)));
        assert_eq!(bar(1.0 / 24.0 / 8.0), "▏");
        assert_eq!(bar(7.0), "█".repeat(24));
    }
}
