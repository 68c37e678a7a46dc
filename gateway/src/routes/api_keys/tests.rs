//! Whole calls against a small gRPC server in the place of the keys service.

use prost::Message;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_chassis::error::{self, status};
use tidegate_proto::keys::v1::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, Credits, GetApiKeyResponse, GetApiKeyUsageRequest,
    GetApiKeyUsageResponse, GetCreditsResponse, GrantCreditsRequest, ImportApiKeysRequest,
    ImportApiKeysResponse, KeyEnvironment, KeyLimit, KeyStatus, KeyUsage, ListApiKeysRequest,
    ListApiKeysResponse, RotateApiKeyRequest, RotateApiKeyResponse, UpdateApiKeyRequest, api_key,
};
use tonic::{Code, Status};

use crate::fixture::{
    self, Answer, Call, Keys, NOBODY, REMOTE, ask, by_operator, config_with_keys, with_header,
};

/// 2024-01-15T10:30:00Z.
const THEN_MS: u64 = 1_705_314_600_000;

fn key() -> ApiKey {
    ApiKey {
        id: "k-1".to_owned(),
        organization_id: "o-1".to_owned(),
        lineage_id: "k-0".to_owned(),
        name: "Production API Key".to_owned(),
        key_prefix: "tk_live_abc123".to_owned(),
        environment: KeyEnvironment::Live.into(),
        scopes: vec!["invoices:read".to_owned()],
        allowed_cidrs: vec!["203.0.113.0/24".to_owned()],
        metadata: vec![api_key::MetadataEntry { key: "team".to_owned(), value: "billing".to_owned() }],
        limits: vec![KeyLimit { name: "minute".to_owned(), limit: 100, period_s: 60 }],
        status: KeyStatus::Active.into(),
        created_at_ms: THEN_MS,
        created_by: "u-1".to_owned(),
        expires_at_ms: 0,
        last_used_at_ms: THEN_MS + 250,
        revoked_at_ms: 0,
        revoke_reason: String::new(),
        replaced_by: String::new(),
        has_credits: false,
        etag: "1f".to_owned(),
    }
}

fn revoked() -> ApiKey {
    ApiKey {
        status: KeyStatus::Revoked.into(),
        revoked_at_ms: THEN_MS,
        revoke_reason: "rotated".to_owned(),
        ..key()
    }
}

fn rotated() -> RotateApiKeyResponse {
    let new_key = ApiKey {
        id: "k-2".to_owned(),
        name: "Production API Key (Rotated)".to_owned(),
        key_prefix: "tk_live_xyz789".to_owned(),
        ..key()
    };
    RotateApiKeyResponse {
        old_key: Some(revoked()),
        new_key: Some(new_key),
        key_value: "tk_live_xyz789rest".to_owned(),
    }
}

fn answer(call: &Call) -> Result<Vec<u8>, Status> {
    Ok(match &*call.method {
        "CreateApiKey" if call.message::<CreateApiKeyRequest>().name.is_empty() => {
            let mut violations = error::Violations::default();
            violations.add("name", "must be 1 to 128 characters");
            violations.add("expires_at_ms", "must be later than now");
            violations.add("limits[0].period_s", "must be 1 to 31622400");
            return Err(violations.into_status("INVALID_REQUEST"));
        }
        "CreateApiKey" => {
            CreateApiKeyResponse { key: Some(key()), key_value: "tk_live_abc123rest".to_owned() }
                .encode_to_vec()
        }
        "ListApiKeys" => {
            ListApiKeysResponse { keys: vec![key()], next_page_token: "next".to_owned() }.encode_to_vec()
        }
        "RotateApiKey" => rotated().encode_to_vec(),
        "RevokeApiKey" => GetApiKeyResponse { key: Some(revoked()) }.encode_to_vec(),
        "GetApiKeyUsage" => {
            let usage = KeyUsage { day: "2026-11-29".to_owned(), outcome: "ok".to_owned(), count: 7 };
            GetApiKeyUsageResponse { usage: vec![usage] }.encode_to_vec()
        }
        "GetCredits" => return Err(status(Code::FailedPrecondition, "CREDITS_NOT_ENABLED", "words", None)),
        "GrantCredits" => {
            let credits = Credits {
                balance: 50,
                refill_amount: 100,
                refill_every_days: 30,
                next_refill_at_ms: THEN_MS,
            };
            GetCreditsResponse { credits: Some(credits) }.encode_to_vec()
        }
        "ImportApiKeys" => ImportApiKeysResponse { keys: vec![key()] }.encode_to_vec(),
        // Of another organization, and without the role.
        "GetApiKey" => return Err(status(Code::NotFound, "KEY_NOT_FOUND", "no such key", None)),
        "ReportLeakedKey" => Vec::new(),
        "CreateServiceToken" => return Err(status(Code::PermissionDenied, "ROLE_MISSING", "words", None)),
        _ => GetApiKeyResponse { key: Some(key()) }.encode_to_vec(),
    })
}

async fn asked(request: axum::extract::Request) -> (Answer, Vec<Call>) {
    let keys = Keys::start(answer);
    let edge = fixture::edge(config_with_keys(NOBODY, &keys, "[anonymous]\nenabled = false")).await;
    let answer = ask(&edge, REMOTE, request).await;
    (answer, keys.seen())
}

async fn call(method: &str, target: &str, body: Value) -> (Answer, Call) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (answer, mut seen) = asked(by_operator(method, target, &body)).await;
    assert_eq!(seen.len(), 1, "{answer:?}");
    (answer, seen.remove(0))
}

#[tokio::test]
async fn a_key_is_made_of_every_field_and_its_value_is_shown() {
    let body = json!({
        "name": "Production API Key", "environment": "test", "scopes": ["a:read", "b"],
        "expires_at": "2027-01-01T01:00:00+01:00", "allowed_cidrs": ["10.0.0.0/8"], "metadata": {"team": "billing"},
        "limits": [{"name": "minute", "limit": 100, "period_seconds": 60}],
    });
    let (answer, asked) = call("POST", "/v1/auth/api-keys?organization_id=o-1", body).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (201, "\"1f\""));
    insta::assert_json_snapshot!(answer.json);
    insta::assert_debug_snapshot!(asked.message::<CreateApiKeyRequest>());
}

#[rstest]
#[case::absent(json!({"name": "x"}), None)]
#[case::never(json!({"name": "x", "expires_at": null}), Some(0))]
#[tokio::test]
async fn a_key_expires_in_a_year_or_never(#[case] body: Value, #[case] expires_at_ms: Option<u64>) {
    let (_, asked) = call("POST", "/v1/auth/api-keys", body).await;
    assert_eq!(asked.message::<CreateApiKeyRequest>().expires_at_ms, expires_at_ms);
}

#[tokio::test]
async fn what_the_service_finds_wrong_has_the_names_of_here() {
    let (answer, _) = call("POST", "/v1/auth/api-keys", json!({})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (400, &json!("invalid_argument")));
    let fields = ["name", "expires_at", "limits[0].period_seconds"];
    let named: Vec<_> = answer.json["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["field"].as_str().unwrap())
        .collect();
    assert_eq!(named, fields);
}

#[rstest]
#[case::types(
    "POST", "/v1/auth/api-keys",
    json!({"name": 1, "environment": "prod", "scopes": ["a", 2], "expires_at": "soon", "allowed_cidrs": "any", "metadata": {"a": 1},
        "limits": [{"name": "x", "period": 60}, 7]}),
    &["metadata[a]", "name", "environment", "scopes[1]", "expires_at", "allowed_cidrs", "limits[0].period", "limits[1]"]
)]
#[case::null("PATCH", "/v1/auth/api-keys/k-1", json!({"name": null, "enabled": "no", "is_active": true}), &["name", "enabled", "is_active"])]
#[case::parameters("GET", "/v1/auth/api-keys?status=gone&page_size=-1&sort=name", Value::Null, &["page_size", "status", "sort"])]
#[case::of_a_rotation("POST", "/v1/auth/api-keys/k-1/rotate", json!({"grace_period": 1}), &["grace_period"])]
#[case::hashes(
    "POST", "/v1/auth/api-keys:import",
    json!({"keys": [{"key_sha256": "abc"}, {"key_sha256": "g".repeat(64)}, {"key_sha256": "é".repeat(32)}]}),
    &["keys[0].key_sha256", "keys[1].key_sha256", "keys[2].key_sha256"]
)]
#[tokio::test]
async fn every_wrong_field_is_named_and_nothing_is_asked(
    #[case] method: &str,
    #[case] target: &str,
    #[case] body: Value,
    #[case] fields: &[&str],
) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (answer, seen) = asked(by_operator(method, target, &body)).await;
    assert_eq!((answer.status.as_u16(), seen.len()), (400, 0), "{answer:?}");
    let named: Vec<_> = answer.json["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["field"].as_str().unwrap())
        .collect();
    assert_eq!(named, fields);
}

#[tokio::test]
async fn a_list_has_pages_and_never_a_value() {
    let target = "/v1/auth/api-keys?search=prod&status=revoked&lineage_id=k-0&page_size=500&page_token=t";
    let (answer, asked) = call("GET", target, Value::Null).await;
    assert_eq!((answer.status.as_u16(), &answer.json["next_page_token"]), (200, &json!("next")));
    assert_eq!(answer.json["api_keys"][0]["last_used_at"], "2024-01-15T10:30:00.25Z");
    assert!(!answer.json.to_string().contains("key_value"), "{answer:?}");
    let expected = ListApiKeysRequest {
        organization_id: String::new(),
        page_size: 100,
        page_token: "t".to_owned(),
        search: "prod".to_owned(),
        status: KeyStatus::Revoked.into(),
        lineage_id: "k-0".to_owned(),
    };
    assert_eq!(asked.message::<ListApiKeysRequest>(), expected);
}

#[rstest]
#[case::without_a_body(Value::Null, 0)]
#[case::with_an_empty_one(json!({}), 0)]
#[case::with_a_grace_period(json!({"grace_period_seconds": 3600}), 3600)]
#[tokio::test]
async fn a_rotation_tells_of_both_keys_what_was_promised(#[case] body: Value, #[case] grace_period_s: u64) {
    let (answer, asked) = call("POST", "/v1/auth/api-keys/k-1/rotate", body).await;
    let expected = json!({
        "old_key": {"id": "k-1", "name": "Production API Key", "key_prefix": "tk_live_abc123", "is_active": false,
            "revoked_at": "2024-01-15T10:30:00Z"},
        "new_key": {"id": "k-2", "name": "Production API Key (Rotated)", "key_value": "tk_live_xyz789rest",
            "key_prefix": "tk_live_xyz789", "is_active": true, "created_at": "2024-01-15T10:30:00Z"},
        "message": "API key rotated successfully. Update your application with the new key.",
    });
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
    let asked: RotateApiKeyRequest = asked.message();
    assert_eq!((&*asked.api_key_id, asked.grace_period_s), ("k-1", grace_period_s));
}

#[rstest]
#[case("POST", "/v1/auth/api-keys/k-1/revoke")]
#[case("DELETE", "/v1/auth/api-keys/k-1")]
#[tokio::test]
async fn a_revoked_key_is_shown_as_it_is(#[case] method: &str, #[case] target: &str) {
    let (answer, asked) = call(method, target, Value::Null).await;
    assert_eq!((answer.status.as_u16(), &*asked.method), (200, "RevokeApiKey"));
    let shown = ["is_active", "status", "revoke_reason", "revoked_at"].map(|name| &answer.json[name]);
    assert_eq!(shown, [&json!(false), &json!("revoked"), &json!("rotated"), &json!("2024-01-15T10:30:00Z")]);
}

#[tokio::test]
async fn a_change_names_what_changes_and_the_etag() {
    let body = json!({
        "scopes": [], "enabled": false, "expires_at": null, "metadata": {}, "allowed_cidrs": ["::1"],
        "limits": [{"name": "day", "limit": 5, "period_seconds": 86_400}],
    });
    let request =
        with_header(by_operator("PATCH", "/v1/auth/api-keys/k-1", &body.to_string()), "if-match", "\"1f\"");
    let (answer, seen) = asked(request).await;
    assert_eq!(answer.status, 200);
    insta::assert_debug_snapshot!(seen[0].message::<UpdateApiKeyRequest>());
}

#[tokio::test]
async fn use_is_shown_by_day_and_outcome() {
    let (answer, asked) =
        call("GET", "/v1/auth/api-keys/k-1/usage?from=2026-11-01&to=2026-11-29", Value::Null).await;
    let expected = json!({"id": "k-1", "usage": [{"day": "2026-11-29", "outcome": "ok", "count": 7}]});
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
    let asked: GetApiKeyUsageRequest = asked.message();
    assert_eq!((&*asked.from_day, &*asked.to_day), ("2026-11-01", "2026-11-29"));
}

#[tokio::test]
async fn credits_are_given_and_shown() {
    let body = json!({"amount": 50, "refill_amount": 100, "refill_every_days": 5_000_000_000_u64});
    let (answer, asked) = call("POST", "/v1/auth/api-keys/k-1/credits", body).await;
    let expected = json!({
        "balance": 50, "refill_amount": 100, "refill_every_days": 30, "next_refill_at": "2024-01-15T10:30:00Z",
    });
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
    let asked: GrantCreditsRequest = asked.message();
    assert_eq!((asked.amount, asked.refill_every_days), (50, Some(u32::MAX)), "for the service to refuse");
    let (none, _) = call("GET", "/v1/auth/api-keys/k-1/credits", Value::Null).await;
    assert_eq!((none.status.as_u16(), &none.json["error"]), (409, &json!("credits_not_enabled")));
}

#[tokio::test]
async fn keys_of_another_system_come_by_their_hashes() {
    let body = json!({"keys": [
        {"key_sha256": "0A".repeat(32), "name": "old", "key_prefix": "sk_", "environment": "test", "scopes": ["a"],
            "expires_at": "2027-01-01T00:00:00Z", "metadata": {"from": "elsewhere"}},
        {"key_sha256": "ff".repeat(32), "name": "older"},
    ]});
    let (answer, asked) = call("POST", "/v1/auth/api-keys:import", body).await;
    assert_eq!((answer.status.as_u16(), &answer.json["api_keys"][0]["id"]), (201, &json!("k-1")));
    let asked: ImportApiKeysRequest = asked.message();
    assert_eq!(asked.keys[0].key_sha256, vec![0x0a; 32]);
    assert_eq!((&*asked.keys[0].key_prefix, asked.keys[0].expires_at_ms), ("sk_", Some(1_798_761_600_000)));
    assert_eq!((&*asked.keys[1].key_sha256, asked.keys[1].expires_at_ms), (&[0xff; 32][..], None));
}

#[tokio::test]
async fn what_belongs_to_another_is_not_there_and_a_role_that_is_missing_is_told() {
    let (hidden, _) = call("GET", "/v1/auth/api-keys/k-9", Value::Null).await;
    assert_eq!((hidden.status.as_u16(), &hidden.json["error"]), (404, &json!("not_found")));
    let (refused, _) = call("POST", "/v1/auth/service-tokens", json!({"name": "checkout"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json["error"]), (403, &json!("permission_denied")));
}

#[tokio::test]
async fn whoever_finds_a_key_may_report_it_and_learns_nothing() {
    let body = json!({"api_key": "tk_live_x", "source": "scanner"}).to_string();
    let (answer, seen) = asked(fixture::request("POST", "/v1/keys:leaked", &body)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json, &*seen[0].method),
        (204, Value::Null, "ReportLeakedKey")
    );
}
