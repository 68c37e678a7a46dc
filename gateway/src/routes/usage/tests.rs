use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{
    CheckCounts, KeyAttribute, ListPolicyStatsResponse, ListTopKeysResponse, PolicyStats, PolicyStatsOrder,
    ReplicaView, TopKey,
};

use super::merge;
use crate::fixture::{LOCAL, NOBODY, REMOTE, ask, config_with, edge, request};

fn replica(number: u8) -> Option<ReplicaView> {
    Some(ReplicaView {
        instance_id: vec![number; 16].into(),
        at_ms: 1_735_689_600_000,
        ..ReplicaView::default()
    })
}

fn key(user: &str, count: u64, overcount: u64, standard_error: u64) -> TopKey {
    let attribute = KeyAttribute { name: "user".to_owned(), value: user.to_owned(), cut: false };
    TopKey {
        namespace: "shop".to_owned(),
        policy: "each".to_owned(),
        attributes: vec![attribute],
        count,
        overcount,
        standard_error,
        share: 0.0,
    }
}

fn keys(number: u8, keys: Vec<TopKey>, total: u64, unlisted_at_most: u64) -> ListTopKeysResponse {
    ListTopKeysResponse { replica: replica(number), keys, total, unlisted_at_most }
}

fn stats(number: u8, policies: &[(&str, u64, u64)], others: u64) -> ListPolicyStatsResponse {
    let counts = |checks, denied| Some(CheckCounts { checks, denied, ..CheckCounts::default() });
    let of = |name: &str, checks: u64, denied| PolicyStats {
        namespace: "shop".to_owned(),
        policy: name.to_owned(),
        since_start: counts(2 * checks, denied),
        in_window: counts(checks, denied),
    };
    ListPolicyStatsResponse {
        replica: replica(number),
        policies: policies.iter().map(|(name, checks, denied)| of(name, *checks, *denied)).collect(),
        others: Some(of("", others, 0)),
        total_policies: 0,
    }
}

#[test]
fn keys_of_replicas_are_added_up_with_their_errors() {
    let answers = vec![
        keys(1, vec![key("ada", 100, 10, 3), key("bob", 30, 0, 0)], 1_000, 20),
        keys(2, vec![key("ada", 50, 5, 4), key("eve", 40, 0, 0)], 500, 7),
        // The first one again, by another address.
        keys(1, vec![key("ada", 101, 10, 3)], 1_001, 20),
    ];
    let merged = serde_json::to_value(merge::top_keys(answers, 2, 1)).unwrap();
    let rows: Vec<_> = merged["keys"].as_array().unwrap().iter().collect();
    let row = |index: usize| {
        let row = rows[index];
        (&row["attributes"][0]["value"], &row["count"], &row["overcount"], &row["standard_error"])
    };
    assert_eq!(row(0), (&json!("ada"), &json!(150), &json!(15), &json!(5)));
    // The first replica saw eve at most 20 times, the second one bob at most 7 times.
    assert_eq!(row(1), (&json!("eve"), &json!(60), &json!(20), &json!(0)));
    assert_eq!(rows[0]["share"], json!(0.1));
    assert_eq!(rows.len(), 2);
    assert_eq!((&merged["total"], &merged["unlisted_at_most"]), (&json!(1_500), &json!(37)));
    assert_eq!(
        (merged["replicas"].as_array().unwrap().len(), &merged["unreachable_replicas"]),
        (2, &json!(1))
    );
    assert_eq!(merged["replicas"][0]["at"], "2025-01-01T00:00:00Z");
}

#[test]
fn policies_of_replicas_are_added_up_and_ranked_as_asked() {
    let answers = || vec![stats(1, &[("a", 10, 1), ("b", 30, 0)], 5), stats(2, &[("a", 25, 2)], 6)];
    let ranked = |order| {
        let merged = serde_json::to_value(merge::policies(answers(), order, 10, 0)).unwrap();
        let names = merged["policies"].as_array().unwrap().iter().map(|policy| policy["policy"].clone());
        (names.collect::<Vec<_>>(), merged)
    };
    let (names, merged) = ranked(PolicyStatsOrder::Checks);
    assert_eq!(names, ["a", "b"]);
    assert_eq!(merged["policies"][0]["in_window"]["checks"], 35);
    assert_eq!(merged["policies"][0]["since_start"]["denied"], 3);
    assert_eq!(merged["others"]["since_start"]["checks"], 22);
    let (names, _) = ranked(PolicyStatsOrder::NearLimit);
    assert_eq!(names, ["a", "b"], "equals by name");
}

#[rstest]
#[case("/v1/usage/top-keys?kind=cold&window=week&limit=0&namespace=a%20b&order_by=checks&limit=5",
    &["window", "namespace", "limit", "limit", "kind", "order_by"])]
#[case("/v1/usage/policies?kind=hot&order_by=size&limit=1001&page_size=3", &["limit", "order_by", "kind", "page_size"])]
#[tokio::test]
async fn every_wrong_parameter_is_named(#[case] target: &str, #[case] fields: &[&str]) {
    let edge = edge(config_with(NOBODY, "")).await;
    let answer = ask(&edge, LOCAL, request("GET", target, "")).await;
    assert_eq!((answer.status, &answer.json["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_argument")));
    let violations = answer.json["violations"].as_array().unwrap();
    let named: Vec<_> = violations.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
    assert_eq!(named, fields);
}

#[rstest]
#[case("/v1/usage/top-keys")]
#[case("/v1/usage/policies")]
#[tokio::test]
async fn without_a_replica_there_is_no_view_and_none_for_callers_from_elsewhere(#[case] target: &str) {
    let edge = edge(config_with(NOBODY, "[anonymous]\nenabled = false")).await;
    let error = async |peer: &str| -> (StatusCode, Value) {
        let answer = ask(&edge, peer, request("GET", target, "")).await;
        (answer.status, answer.json["error"].clone())
    };
    assert_eq!(error(LOCAL).await, (StatusCode::SERVICE_UNAVAILABLE, json!("service_unavailable")));
    assert_eq!(error(REMOTE).await, (StatusCode::UNAUTHORIZED, json!("unauthenticated")));
}
