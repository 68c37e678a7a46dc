//! Everything is tried with ids of another organization, over the service as it runs.

use std::{collections::BTreeSet, time::Duration};

use tidegate_chassis::auth::{Access, Role};
use tidegate_proto::keys::v1::{self as pb, keys_service_client::KeysServiceClient};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::Channel,
};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{ACCESS, Running, internal, start, start_with, token};
use crate::fence::tests::RateLimit;

type Client = KeysServiceClient<InterceptedService<Channel, Token>>;

/// A token of this role, for this organization.
#[derive(Clone)]
struct Token(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

fn client(running: &Running, role: Role, organization: Option<&str>) -> Client {
    let organization = organization.map(|id| id.parse().expect("an id"));
    let token = Token(token(role, organization).parse().expect("ASCII"));
    KeysServiceClient::with_interceptor(running.channel.clone(), token)
}

fn reason<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => match status.get_error_details().error_info() {
            Some(info) => info.reason.clone(),
            None => format!("{status:?}"),
        },
    }
}

macro_rules! reasons {
    ($client:expr; $($method:ident $request:expr),+ $(,)?) => {
        vec![$((stringify!($method), reason($client.clone().$method($request).await))),+]
    };
}

/// An organization with a key.
struct Tenant {
    organization: String,
    key: String,
    value: String,
    lineage: String,
}

async fn tenant(admin: &Client) -> Tenant {
    let mut admin = admin.clone();
    let wanted = pb::CreateOrganizationRequest { name: "Acme".to_owned(), plan: String::new() };
    let made = admin.create_organization(wanted).await.expect("made").into_inner();
    let organization = made.organization.expect("it").id;
    let wanted = pb::CreateApiKeyRequest {
        organization_id: organization.clone(),
        name: "Key".to_owned(),
        ..pb::CreateApiKeyRequest::default()
    };
    let made = admin.create_api_key(wanted).await.expect("made").into_inner();
    let key = made.key.expect("it");
    Tenant { organization, key: key.id, value: made.key_value, lineage: key.lineage_id }
}

#[tokio::test]
#[expect(clippy::needless_update, reason = "some messages have no more fields than those that are named")]
async fn nothing_is_done_to_another_organization_and_nothing_is_told_of_it() {
    let running = start().await;
    let admin = client(&running, Role::Admin, None);
    let (own, other) = (tenant(&admin).await, tenant(&admin).await);
    let mut invite = client(&running, Role::Admin, None);
    let invitation = invite.create_invitation(pb::CreateInvitationRequest {
        organization_id: other.organization.clone(),
        email: "ada@example.com".to_owned(),
        role: pb::Role::User.into(),
    });
    let invitation_id = invitation.await.expect("invited").into_inner().invitation.expect("it").id;
    let token = invite.create_service_token(pb::CreateServiceTokenRequest {
        name: "backend".to_owned(),
        organization_id: other.organization.clone(),
        expires_at_ms: None,
    });
    let service_token_id = token.await.expect("made").into_inner().service_token.expect("it").id;
    let caller = client(&running, Role::TenantAdmin, Some(&own.organization));
    let user_id = Uuid::from_u128(7).to_string();
    let mut tried = BTreeSet::new();

    // Named by its organization.
    let (organization_id, api_key_id) = (other.organization.clone(), other.key.clone());
    macro_rules! of_other {
        ($($field:ident $(: $value:expr)?),* ; $type:ident) => {
            pb::$type { organization_id: organization_id.clone(), $($field $(: $value)?,)* ..pb::$type::default() }
        };
    }
    let (name, key) = ("Name".to_owned(), || api_key_id.clone());
    let email = "eve@example.com".to_owned();
    let role = pb::Role::User.into();
    let imported =
        pb::ImportedKey { key_sha256: vec![1; 32].into(), name: name.clone(), ..Default::default() };
    let answers = reasons![caller;
        get_organization of_other!(; GetOrganizationRequest),
        update_organization of_other!(name: Some(name.clone()); UpdateOrganizationRequest),
        list_members of_other!(; ListMembersRequest),
        update_member of_other!(user_id: user_id.clone(), role; UpdateMemberRequest),
        remove_member of_other!(user_id: user_id.clone(); RemoveMemberRequest),
        create_invitation of_other!(email, role; CreateInvitationRequest),
        list_invitations of_other!(; ListInvitationsRequest),
        delete_invitation of_other!(invitation_id: invitation_id.clone(); DeleteInvitationRequest),
        create_password_reset of_other!(user_id: user_id.clone(); CreatePasswordResetRequest),
        create_api_key of_other!(name: name.clone(); CreateApiKeyRequest),
        import_api_keys of_other!(keys: vec![imported]; ImportApiKeysRequest),
        get_api_key of_other!(api_key_id: key(); GetApiKeyRequest),
        list_api_keys of_other!(; ListApiKeysRequest),
        update_api_key of_other!(api_key_id: key(); UpdateApiKeyRequest),
        rotate_api_key of_other!(api_key_id: key(); RotateApiKeyRequest),
        revoke_api_key of_other!(api_key_id: key(); RevokeApiKeyRequest),
        get_api_key_usage of_other!(api_key_id: key(); GetApiKeyUsageRequest),
        grant_credits of_other!(api_key_id: key(), amount: 1; GrantCreditsRequest),
        get_credits of_other!(api_key_id: key(); GetCreditsRequest),
        create_service_token of_other!(name: name.clone(); CreateServiceTokenRequest),
        list_service_tokens of_other!(; ListServiceTokensRequest),
    ];
    for (method, reason) in answers {
        assert_eq!(reason, "ORGANIZATION_NOT_FOUND", "{method}");
        tried.insert(method);
    }

    // Named by an id within the caller's own organization.
    let answers = reasons![caller;
        get_api_key pb::GetApiKeyRequest { api_key_id: key(), ..Default::default() },
        update_api_key pb::UpdateApiKeyRequest { api_key_id: key(), ..Default::default() },
        rotate_api_key pb::RotateApiKeyRequest { api_key_id: key(), ..Default::default() },
        revoke_api_key pb::RevokeApiKeyRequest { api_key_id: key(), ..Default::default() },
        get_api_key_usage pb::GetApiKeyUsageRequest { api_key_id: key(), ..Default::default() },
        grant_credits pb::GrantCreditsRequest { api_key_id: key(), amount: 1, ..Default::default() },
        get_credits pb::GetCreditsRequest { api_key_id: key(), ..Default::default() },
    ];
    for (method, reason) in answers {
        assert_eq!(reason, "KEY_NOT_FOUND", "{method}");
    }
    let answers = reasons![caller;
        delete_invitation pb::DeleteInvitationRequest { invitation_id, ..Default::default() },
        revoke_service_token pb::RevokeServiceTokenRequest { service_token_id },
    ];
    let reasons_told: Vec<_> = answers.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons_told, ["INVITATION_NOT_FOUND", "SERVICE_TOKEN_NOT_FOUND"]);
    tried.extend(answers.iter().map(|(method, _)| *method));

    // For callers that are for all organizations.
    let report = pb::ReportKeyUsageRequest { report_id: user_id, ..Default::default() };
    let reserve = pb::ReserveCreditsRequest {
        lineage_id: other.lineage.clone(),
        organization_id: other.organization.clone(),
        amount: 1,
        reservation_id: Uuid::from_u128(8).to_string(),
    };
    let resolve =
        pb::ResolveKeyRequest { key_sha256: tidegate_credentials::key_hash(&other.value).to_vec().into() };
    let plan = pb::UpdateOrganizationRequest { plan: Some("enterprise".to_owned()), ..Default::default() };
    let of_operators = reasons![caller;
        create_organization pb::CreateOrganizationRequest::default(),
        list_organizations pb::ListOrganizationsRequest::default(),
        resolve_key resolve.clone(),
        watch_keys pb::WatchKeysRequest::default(),
        report_key_usage report.clone(),
        reserve_credits reserve.clone(),
        update_organization plan,
    ];
    let backend = client(&running, Role::Service, Some(&own.organization));
    let of_backends = reasons![backend;
        resolve_key resolve,
        watch_keys pb::WatchKeysRequest::default(),
        report_key_usage report,
        reserve_credits reserve,
    ];
    for (method, reason) in of_operators.into_iter().chain(of_backends) {
        assert_eq!(reason, "ROLE_MISSING", "{method}");
        tried.insert(method);
    }

    // By the value of a key.
    for (value, code) in [(&other.value, "key_not_found"), (&own.value, "ok")] {
        for mut caller in [caller.clone(), backend.clone()] {
            let request = pb::VerifyKeyRequest { api_key: value.clone(), ..Default::default() };
            let answer = caller.verify_key(request).await.expect("answered").into_inner();
            assert_eq!((answer.code.as_str(), answer.key.is_some()), (code, code == "ok"));
        }
    }
    tried.insert("verify_key");

    let all = ACCESS
        .iter()
        .filter(|(path, access)| path.contains("KeysService") && !matches!(access, Access::Public));
    let all: BTreeSet<String> =
        all.map(|(path, _)| snake(path.rsplit('/').next().expect("a name"))).collect();
    let tried: BTreeSet<String> = tried.into_iter().map(str::to_owned).collect();
    assert_eq!(tried, all, "every method was tried");
    let wanted = pb::GetApiKeyRequest { organization_id: other.organization, api_key_id: other.key };
    let key = admin.clone().get_api_key(wanted).await.expect("there").into_inner().key.expect("it");
    assert_eq!(key.etag, "1", "it was not touched");
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[tokio::test]
async fn the_story_of_a_key_is_told_over_the_feed_and_the_same_request_is_done_once() {
    let running = start().await;
    let admin = client(&running, Role::Admin, None);
    let internal = Token(internal().parse().expect("ASCII"));
    let mut replica = KeysServiceClient::with_interceptor(running.channel.clone(), internal);
    let mut watched = replica.watch_keys(pb::WatchKeysRequest::default()).await.expect("opened").into_inner();
    let first = watched.message().await.expect("a message").expect("one");
    assert_eq!((first.changes.len(), first.reset), (0, false));
    let tenant = tenant(&admin).await;
    let rotate = || {
        let mut request = tonic::Request::new(pb::RotateApiKeyRequest {
            organization_id: tenant.organization.clone(),
            api_key_id: tenant.key.clone(),
            grace_period_s: 0,
        });
        request.metadata_mut().insert("idempotency-key", "once".parse().expect("ASCII"));
        request
    };
    let rotated = admin.clone().rotate_api_key(rotate()).await.expect("rotated").into_inner();
    let again = admin.clone().rotate_api_key(rotate()).await.expect("answered again").into_inner();
    assert_eq!(rotated, again);
    let mut changes = Vec::new();
    let mut revision = first.revision;
    while changes.len() < 2 {
        let message = tokio::time::timeout(Duration::from_secs(30), watched.message()).await;
        let message = message.expect("in time").expect("a message").expect("one");
        assert!(message.revision >= revision && !message.reset);
        revision = message.revision;
        changes.extend(message.changes);
    }
    let told: Vec<_> = changes.iter().map(|change| (change.api_key_id.as_str(), change.generation)).collect();
    assert_eq!(told, [(tenant.key.as_str(), 0), (tenant.key.as_str(), 1)]);
    for (value, code) in [(&tenant.value, "key_revoked"), (&rotated.key_value, "ok")] {
        let request = pb::VerifyKeyRequest { api_key: value.clone(), ..Default::default() };
        let answer = admin.clone().verify_key(request).await.expect("answered").into_inner();
        assert_eq!(answer.code, code);
    }
    let report = pb::ReportLeakedKeyRequest { api_key: rotated.key_value.clone(), ..Default::default() };
    let anybody = || KeysServiceClient::new(running.channel.clone());
    anybody().report_leaked_key(report).await.expect("reported");
    let request = pb::VerifyKeyRequest { api_key: rotated.key_value, ..Default::default() };
    let answer = admin.clone().verify_key(request).await.expect("answered").into_inner();
    assert_eq!(
        (answer.code.as_str(), answer.key.expect("it").revoke_reason.as_str()),
        ("key_revoked", "leaked")
    );
    let nobody = pb::ReportLeakedKeyRequest { key_sha256: vec![9; 32].into(), ..Default::default() };
    anybody().report_leaked_key(nobody).await.expect("it is not told whether there was such a key");
}

#[tokio::test]
async fn a_change_that_is_answered_again_is_told_again_first() {
    let (service, url) = RateLimit::start(0).await;
    let running = start_with(|config| config.ratelimit.urls = vec![url]).await;
    let admin = client(&running, Role::Admin, None);
    let tenant = tenant(&admin).await;
    macro_rules! twice {
        ($($method:ident $request:expr),+ $(,)?) => {$(
            for told in 1..=2 {
                let before = service.told().len();
                let mut request = tonic::Request::new($request);
                request.metadata_mut().insert("idempotency-key", stringify!($method).parse().expect("ASCII"));
                admin.clone().$method(request).await.expect("answered");
                assert_eq!(service.told().len(), before + 1, "{} {told}", stringify!($method));
            }
        )+};
    }
    let (organization_id, api_key_id) = (tenant.organization.clone(), tenant.key.clone());
    let (id, key) = (|| organization_id.clone(), || api_key_id.clone());
    let off = pb::UpdateApiKeyRequest {
        organization_id: id(),
        api_key_id: key(),
        enabled: Some(false),
        ..Default::default()
    };
    twice![
        update_api_key off.clone(),
        grant_credits pb::GrantCreditsRequest {
            organization_id: id(), api_key_id: key(), amount: 1, ..Default::default()
        },
        rotate_api_key pb::RotateApiKeyRequest {
            organization_id: id(), api_key_id: key(), grace_period_s: 60
        },
        revoke_api_key pb::RevokeApiKeyRequest { organization_id: id(), api_key_id: key() },
        update_organization pb::UpdateOrganizationRequest {
            organization_id: id(), name: Some("Other".to_owned()), ..Default::default()
        },
    ];
    let told = service.told();
    assert_eq!(told.last(), Some(&(organization_id, 5)), "{told:?}");
}

#[tokio::test]
async fn a_replica_that_begins_to_listen_is_told_what_was_revoked_before() {
    let running = start().await;
    let mut admin = client(&running, Role::Admin, None);
    let request = pb::CreateServiceTokenRequest { name: "old".to_owned(), ..Default::default() };
    let made = admin.create_service_token(request).await.expect("made").into_inner();
    let id = made.service_token.expect("a token").id;
    let request = pb::RevokeServiceTokenRequest { service_token_id: id.clone() };
    admin.revoke_service_token(request).await.expect("revoked");

    let internal = Token(internal().parse().expect("ASCII"));
    let mut replica = KeysServiceClient::with_interceptor(running.channel.clone(), internal);
    let mut watched = replica.watch_keys(pb::WatchKeysRequest::default()).await.expect("opened").into_inner();
    let first = watched.message().await.expect("a message").expect("one");
    let told: Vec<_> = first.changes.iter().map(|change| &change.revoked_service_token_id).collect();
    assert_eq!(told, [&id]);

    let mut backend = client(&running, Role::Service, None);
    let refused = backend.watch_keys(pb::WatchKeysRequest::default()).await.map(drop);
    assert_eq!(reason(refused), "ROLE_MISSING");
}
