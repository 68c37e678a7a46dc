//! Organizations, their members, invitations and service tokens: whole calls against a small gRPC server in the place of the
//! keys service.

use prost::Message;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_chassis::error::status;
use tidegate_proto::keys::v1::{
    CreateInvitationRequest, CreateInvitationResponse, CreateOrganizationRequest, CreatePasswordResetRequest,
    CreatePasswordResetResponse, CreateServiceTokenRequest, CreateServiceTokenResponse,
    DeleteInvitationRequest, GetOrganizationResponse, Invitation, ListInvitationsRequest,
    ListInvitationsResponse, ListMembersRequest, ListMembersResponse, ListOrganizationsRequest,
    ListOrganizationsResponse, ListServiceTokensRequest, ListServiceTokensResponse, Member, Organization,
    OrganizationStatus, RemoveMemberRequest, RevokeServiceTokenRequest, RevokeServiceTokenResponse, Role,
    ServiceToken, UpdateMemberRequest, UpdateMemberResponse, UpdateOrganizationRequest,
};
use tonic::{Code, Status};

use crate::fixture::{
    self, Answer, Call, Keys, NOBODY, REMOTE, ask, by_operator, config_with_keys, with_header,
};

const NOW_MS: u64 = 1_735_689_600_000;
const NOW: &str = "2025-01-01T00:00:00Z";

fn organization() -> Organization {
    Organization {
        id: "o-1".to_owned(),
        name: "Acme".to_owned(),
        plan: "startup".to_owned(),
        status: OrganizationStatus::Suspended.into(),
        monthly_quota: 5,
        created_at_ms: NOW_MS,
        updated_at_ms: NOW_MS,
        etag: "1f".to_owned(),
    }
}

fn member() -> Member {
    Member {
        user_id: "u-1".to_owned(),
        email: "ada@example.com".to_owned(),
        role: Role::User.into(),
        joined_at_ms: NOW_MS,
    }
}

fn invitation() -> Invitation {
    Invitation {
        id: "i-1".to_owned(),
        email: "grace@example.com".to_owned(),
        role: Role::TenantAdmin.into(),
        created_at_ms: NOW_MS,
        expires_at_ms: NOW_MS,
    }
}

fn service_token() -> ServiceToken {
    ServiceToken {
        id: "s-1".to_owned(),
        name: "checkout".to_owned(),
        organization_id: String::new(),
        created_at_ms: NOW_MS,
        expires_at_ms: NOW_MS,
        revoked_at_ms: 0,
    }
}

fn answer(call: &Call) -> Result<Vec<u8>, Status> {
    let (token, next_page_token) = ("once".to_owned(), "next".to_owned());
    Ok(match &*call.method {
        "GetOrganization" => {
            return Err(status(Code::NotFound, "ORGANIZATION_NOT_FOUND", "no such organization", None));
        }
        "CreateOrganization" | "UpdateOrganization" => {
            GetOrganizationResponse { organization: Some(organization()) }.encode_to_vec()
        }
        "ListOrganizations" => {
            ListOrganizationsResponse { organizations: vec![organization()], next_page_token }.encode_to_vec()
        }
        "ListMembers" => ListMembersResponse { members: vec![member()], next_page_token }.encode_to_vec(),
        "UpdateMember" => UpdateMemberResponse { member: Some(member()) }.encode_to_vec(),
        "RemoveMember" => return Err(status(Code::FailedPrecondition, "LAST_ADMINISTRATOR", "words", None)),
        "CreatePasswordReset" => CreatePasswordResetResponse { token, expires_at_ms: NOW_MS }.encode_to_vec(),
        "CreateInvitation" => {
            CreateInvitationResponse { invitation: Some(invitation()), token }.encode_to_vec()
        }
        "ListInvitations" => {
            ListInvitationsResponse { invitations: vec![invitation()], next_page_token }.encode_to_vec()
        }
        "CreateServiceToken" => {
            CreateServiceTokenResponse { service_token: Some(service_token()), token }.encode_to_vec()
        }
        "ListServiceTokens" => {
            ListServiceTokensResponse { service_tokens: vec![service_token()], next_page_token }
                .encode_to_vec()
        }
        "RevokeServiceToken" => {
            let revoked =
                ServiceToken { organization_id: "o-1".to_owned(), revoked_at_ms: NOW_MS, ..service_token() };
            RevokeServiceTokenResponse { service_token: Some(revoked) }.encode_to_vec()
        }
        _ => Vec::new(),
    })
}

async fn asked(request: axum::extract::Request) -> (Answer, Vec<Call>) {
    let keys = Keys::start(answer);
    let edge = fixture::edge(config_with_keys(NOBODY, &keys, "[anonymous]\nenabled = false")).await;
    (ask(&edge, REMOTE, request).await, keys.seen())
}

async fn call(method: &str, target: &str, body: Value) -> (u16, Value, Call) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (answer, mut seen) = asked(by_operator(method, target, &body)).await;
    assert_eq!(seen.len(), 1, "{answer:?}");
    assert_eq!(seen[0].metadata("authorization"), fixture::OPERATOR);
    (answer.status.as_u16(), answer.json, seen.remove(0))
}

fn shown() -> Value {
    json!({
        "id": "o-1", "name": "Acme", "plan": "startup", "status": "suspended", "monthly_quota": 5, "created_at": NOW,
        "updated_at": NOW, "etag": "1f",
    })
}

#[tokio::test]
async fn organizations_are_listed_and_made() {
    let (status, answer, asked) = call("GET", "/v1/organizations?search=ac&page_size=7", Value::Null).await;
    assert_eq!((status, answer), (200, json!({"organizations": [shown()], "next_page_token": "next"})));
    let asked: ListOrganizationsRequest = asked.message();
    assert_eq!((&*asked.search, asked.page_size), ("ac", 7));

    let (status, answer, asked) =
        call("POST", "/v1/organizations", json!({"name": "Acme", "plan": "startup"})).await;
    assert_eq!((status, answer), (201, shown()));
    let expected = CreateOrganizationRequest { name: "Acme".to_owned(), plan: "startup".to_owned() };
    assert_eq!(asked.message::<CreateOrganizationRequest>(), expected);
}

#[tokio::test]
async fn an_organization_of_somebody_else_is_not_there() {
    let (status, answer, _) = call("GET", "/v1/organizations/o-2", Value::Null).await;
    assert_eq!(
        (status, &answer["error"], &answer["detail"]),
        (404, &json!("not_found"), &json!("no such organization"))
    );
}

#[tokio::test]
async fn a_change_of_an_organization_leaves_what_it_does_not_name() {
    let body = json!({"plan": "startup", "status": "suspended", "monthly_quota": 0}).to_string();
    let request = with_header(by_operator("PATCH", "/v1/organizations/o-1", &body), "if-match", "\"1f\"");
    let (answer, seen) = asked(request).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag"), &answer.json), (200, "\"1f\"", &shown()));
    let expected = UpdateOrganizationRequest {
        organization_id: "o-1".to_owned(),
        name: None,
        plan: Some("startup".to_owned()),
        status: Some(OrganizationStatus::Suspended.into()),
        monthly_quota: Some(0),
        etag: "1f".to_owned(),
    };
    assert_eq!(seen[0].message::<UpdateOrganizationRequest>(), expected);
}

#[tokio::test]
async fn members_are_listed_changed_and_removed() {
    let ada = json!({"user_id": "u-1", "email": "ada@example.com", "role": "user", "joined_at": NOW});
    let (status, answer, asked) =
        call("GET", "/v1/organizations/o-1/members?page_token=t", Value::Null).await;
    assert_eq!((status, answer), (200, json!({"members": [ada], "next_page_token": "next"})));
    let asked: ListMembersRequest = asked.message();
    assert_eq!((&*asked.organization_id, &*asked.page_token), ("o-1", "t"));

    let (status, answer, asked) =
        call("PATCH", "/v1/organizations/o-1/members/u-1", json!({"role": "tenant_admin"})).await;
    assert_eq!((status, answer), (200, ada));
    let asked: UpdateMemberRequest = asked.message();
    assert_eq!((&*asked.organization_id, &*asked.user_id, asked.role()), ("o-1", "u-1", Role::TenantAdmin));

    let (status, answer, asked) = call("DELETE", "/v1/organizations/o-1/members/u-1", Value::Null).await;
    assert_eq!((status, &answer["error"]), (409, &json!("last_administrator")));
    let expected = RemoveMemberRequest { organization_id: "o-1".to_owned(), user_id: "u-1".to_owned() };
    assert_eq!(asked.message::<RemoveMemberRequest>(), expected);
}

#[tokio::test]
async fn a_token_for_a_new_password_is_shown_once() {
    let target = "/v1/organizations/o-1/members/u-1/password-reset";
    let (status, answer, asked) = call("POST", target, Value::Null).await;
    assert_eq!((status, answer), (201, json!({"token": "once", "expires_at": NOW})));
    let expected =
        CreatePasswordResetRequest { organization_id: "o-1".to_owned(), user_id: "u-1".to_owned() };
    assert_eq!(asked.message::<CreatePasswordResetRequest>(), expected);
}

#[rstest]
#[case("/v1/organizations/o-1/invitations")]
#[case("/v1/organizations/o-1/members")]
#[tokio::test]
async fn somebody_is_invited_by_a_token_that_is_shown_once(#[case] target: &str) {
    let body = json!({"email": "grace@example.com", "role": "tenant_admin"});
    let (status, answer, asked) = call("POST", target, body).await;
    let expected = json!({
        "id": "i-1", "email": "grace@example.com", "role": "tenant_admin", "created_at": NOW, "expires_at": NOW, "token": "once",
    });
    assert_eq!((status, answer), (201, expected));
    let asked: CreateInvitationRequest = asked.message();
    assert_eq!((&*asked.organization_id, asked.role()), ("o-1", Role::TenantAdmin));
}

#[tokio::test]
async fn invitations_are_listed_without_their_tokens_and_taken_back() {
    let target = "/v1/organizations/o-1/invitations";
    let (status, answer, asked) = call("GET", target, Value::Null).await;
    assert_eq!((status, &answer["next_page_token"]), (200, &json!("next")));
    assert!(!answer.to_string().contains("once"), "{answer}");
    assert_eq!(asked.message::<ListInvitationsRequest>().organization_id, "o-1");

    let (status, _, asked) = call("DELETE", &format!("{target}/i-1"), Value::Null).await;
    let expected =
        DeleteInvitationRequest { organization_id: "o-1".to_owned(), invitation_id: "i-1".to_owned() };
    assert_eq!((status, asked.message::<DeleteInvitationRequest>()), (204, expected));
}

#[tokio::test]
async fn a_service_token_is_shown_once_listed_and_revoked() {
    let listed = json!({
        "id": "s-1", "name": "checkout", "organization_id": null, "created_at": NOW, "expires_at": NOW, "revoked_at": null,
    });
    let mut made = listed.clone();
    made["token"] = json!("once");
    let body = json!({"name": "checkout", "organization_id": "o-1", "expires_at": NOW});
    let (status, answer, asked) = call("POST", "/v1/auth/service-tokens", body).await;
    assert_eq!((status, answer), (201, made));
    let asked: CreateServiceTokenRequest = asked.message();
    assert_eq!((&*asked.organization_id, asked.expires_at_ms), ("o-1", Some(NOW_MS)));

    let (status, answer, asked) =
        call("GET", "/v1/auth/service-tokens?organization_id=o-1", Value::Null).await;
    assert_eq!((status, &answer["service_tokens"]), (200, &json!([listed])));
    assert_eq!(asked.message::<ListServiceTokensRequest>().organization_id, "o-1");

    let (status, answer, asked) = call("DELETE", "/v1/auth/service-tokens/s-1", Value::Null).await;
    assert_eq!(
        (status, &answer["revoked_at"], &answer["organization_id"]),
        (200, &json!(NOW), &json!("o-1"))
    );
    assert_eq!(asked.message::<RevokeServiceTokenRequest>().service_token_id, "s-1");
}

#[rstest]
#[case::role("POST", "/v1/organizations/o-1/invitations", json!({"email": "a@b.example", "role": "admin"}), "role")]
#[case::status("PATCH", "/v1/organizations/o-1", json!({"status": "gone"}), "status")]
#[case::never("POST", "/v1/auth/service-tokens", json!({"name": "x", "expires_at": "never"}), "expires_at")]
#[tokio::test]
async fn a_word_that_is_none_is_refused(
    #[case] method: &str,
    #[case] target: &str,
    #[case] body: Value,
    #[case] field: &str,
) {
    let (answer, seen) = asked(by_operator(method, target, &body.to_string())).await;
    assert_eq!((answer.status.as_u16(), seen.len()), (400, 0));
    assert_eq!(answer.json["violations"][0]["field"], field, "{answer:?}");
}
