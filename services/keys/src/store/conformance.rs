//! What every store has to do. Both backends run every case.

pub(crate) mod feed;
pub(crate) mod lists;
pub(crate) mod rows;
pub(crate) mod tenants;
pub(crate) mod usage;
pub(crate) mod writing;

use std::time::Duration;

use tidegate_chassis::{auth::Role, config::Secret};
use uuid::Uuid;

use super::{Change, DatabaseConfig, FeedEntry, IdempotencyRecord, KeysStore, StoreError, Write};
use crate::domain::{
    Action, ActorType, ApiKey, CreditAccount, Email, Environment, Event, FamilyId, Invitation, InvitationId,
    KeyId, KeyLimit, KeySecret, LedgerEntry, LedgerKind, LineageId, Membership, Organization, OrganizationId,
    OrganizationStatus, Outcome, PasswordReset, RefreshFamily, RefreshToken, ResourceType, ServiceToken,
    ServiceTokenId, SigningKey, User, UserId,
};

/// Settings for the database at `url`, patient, since the machine that runs the tests may be busy.
pub(crate) fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig {
        url: Secret::new(url),
        migrate: true,
        max_connections: 4,
        connect_timeout: Duration::from_secs(30).into(),
        query_timeout: Duration::from_secs(30).into(),
        poll_every: Duration::from_millis(100).into(),
    }
}

/// Declares a test for each case, on a new store that `$store` gives with what keeps it alive.
macro_rules! keys_store_conformance {
    ($store:expr) => {
        $crate::store::conformance::keys_store_conformance!(
            $store,
            rows: a_new_store_is_empty, every_row_is_read_back_as_it_was_written,
            every_row_is_replaced_at_its_version, the_largest_numbers_and_strange_texts_are_read_back;
            writing: a_row_of_another_version_conflicts, a_write_is_all_or_nothing,
            of_writers_at_one_version_one_wins, values_of_which_there_are_no_two_are_taken,
            an_idempotency_key_is_free_again_when_its_record_is_over,
            of_requests_with_one_idempotency_key_one_is_written, what_belongs_to_nothing_conflicts,
            a_membership_ends_at_its_version, a_write_relies_on_what_it_guards,
            all_families_of_an_account_end_but_those_of_the_write;
            lists: organizations_are_listed_by_name, organizations_are_searched_without_regard_to_ascii_case,
            members_are_listed_in_the_order_of_joining, open_invitations_are_listed, living_families_are_listed,
            keys_are_listed_from_the_newest_on, keys_are_filtered, keys_are_found_by_their_hashes,
            hashes_are_listed_in_their_order, keys_that_expire_are_found, service_tokens_are_listed,
            the_newest_key_that_signs_is_the_first, movements_are_listed_in_the_order_of_time;
            tenants: nothing_of_one_organization_is_found_in_another, nothing_of_one_is_changed_as_another;
            usage: uses_add_up, a_report_is_counted_once, uses_of_keys_that_are_not_there_are_left_out,
            the_last_use_only_grows_and_is_no_change, reports_at_the_same_time_are_all_counted,
            many_uses_are_one_report, days_are_kept_for_more_than_a_year;
            feed: the_feed_tells_in_the_order_of_revisions, entries_of_one_revision_are_told_together,
            no_reader_of_the_feed_misses_a_revision, events_stay_until_they_are_taken_away,
            what_is_over_is_forgotten, the_feed_is_complete_after_what_was_forgotten;
        );
    };
    ($store:expr, $($module:ident: $($case:ident),+;)+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                let (store, _alive) = $store;
                $crate::store::conformance::$module::$case(&store).await;
            }
        )+)+
    };
}
pub(crate) use keys_store_conformance;

/// When writes of the cases happen: 2026-01-01.
pub(crate) const AT_US: u64 = 1_767_225_600_000_000;
pub(crate) const DAY_US: u64 = 86_400_000_000;

pub(crate) fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

pub(crate) fn organization(number: u32) -> Organization {
    Organization {
        id: OrganizationId(id(number)),
        name: format!("Organization {number:03}"),
        plan: "FREE".to_owned(),
        status: OrganizationStatus::Active,
        monthly_quota: 1_000,
        generation: 1,
        created_us: AT_US,
        changed_us: AT_US,
        version: 0,
    }
}

pub(crate) fn user(number: u32) -> User {
    User {
        id: UserId(id(number)),
        email: Email::parse(&format!("user{number}@example.com")).expect("an address"),
        password_hash: Some("$argon2id$".to_owned()),
        is_admin: false,
        external: None,
        created_us: AT_US,
        changed_us: AT_US,
        version: 0,
    }
}

pub(crate) fn membership(organization: u32, user: u32, role: Role) -> Membership {
    Membership {
        organization_id: OrganizationId(id(organization)),
        user_id: UserId(id(user)),
        role,
        joined_us: AT_US,
        version: 0,
    }
}

/// Hashes are in the order of their numbers.
pub(crate) fn hash(number: u32) -> [u8; 32] {
    let mut hash = [0xff; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    hash
}

pub(crate) fn invitation(number: u32, organization: u32) -> Invitation {
    Invitation {
        id: InvitationId(id(number)),
        organization_id: OrganizationId(id(organization)),
        email: Email::parse("new@example.com").expect("an address"),
        role: Role::User,
        token_hash: hash(number),
        created_us: AT_US,
        expires_us: AT_US + DAY_US,
        ended_us: None,
        version: 0,
    }
}

pub(crate) fn password_reset(number: u32, user: u32) -> PasswordReset {
    PasswordReset {
        token_hash: hash(number),
        user_id: UserId(id(user)),
        created_us: AT_US,
        expires_us: AT_US + DAY_US,
        used_us: None,
        version: 0,
    }
}

pub(crate) fn family(number: u32, user: u32, organization: Option<u32>) -> RefreshFamily {
    RefreshFamily {
        id: FamilyId(id(number)),
        user_id: UserId(id(user)),
        organization_id: organization.map(|number| OrganizationId(id(number))),
        created_us: AT_US,
        ended: None,
        version: 0,
    }
}

pub(crate) fn refresh_token(number: u32, family: u32) -> RefreshToken {
    RefreshToken {
        token_hash: hash(number),
        family_id: FamilyId(id(family)),
        issued_us: AT_US,
        expires_us: AT_US + DAY_US,
        used_us: None,
        version: 0,
    }
}

pub(crate) fn api_key(number: u32, organization: u32) -> ApiKey {
    ApiKey {
        id: KeyId(id(number)),
        organization_id: OrganizationId(id(organization)),
        lineage_id: LineageId(id(number)),
        name: format!("Key {number:03}"),
        key_prefix: format!("tk_live_{number:04}"),
        environment: Environment::Live,
        scopes: vec!["read".to_owned(), "write:all".to_owned()],
        allowed_cidrs: vec!["10.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")],
        metadata: [("team".to_owned(), "\"quoted\" \\ é 漢 \u{0}".to_owned())].into(),
        limits: vec![KeyLimit { name: "minute".to_owned(), limit: 10, period_s: 60 }],
        created_us: AT_US,
        created_by: None,
        expires_us: None,
        disabled_us: None,
        revoked: None,
        replaced_by: None,
        has_credits: false,
        last_used_us: None,
        expiry_announced_us: None,
        changed_us: AT_US,
        version: 0,
    }
}

pub(crate) fn secret(number: u32, key: u32, organization: u32) -> KeySecret {
    KeySecret {
        hash: hash(number),
        pepper_version: 1,
        api_key_id: KeyId(id(key)),
        organization_id: OrganizationId(id(organization)),
    }
}

pub(crate) fn credits(lineage: u32, organization: u32) -> CreditAccount {
    CreditAccount {
        lineage_id: LineageId(id(lineage)),
        organization_id: OrganizationId(id(organization)),
        balance: 100,
        refill_amount: 0,
        refill_every_days: 0,
        next_refill_us: None,
        version: 0,
    }
}

pub(crate) fn ledger_entry(number: u32, lineage: u32, organization: u32) -> LedgerEntry {
    LedgerEntry {
        id: id(number),
        lineage_id: LineageId(id(lineage)),
        organization_id: OrganizationId(id(organization)),
        kind: LedgerKind::Grant,
        amount: 100,
        balance_after: 200,
        at_us: AT_US,
    }
}

pub(crate) fn service_token(number: u32, organization: Option<u32>) -> ServiceToken {
    ServiceToken {
        id: ServiceTokenId(id(number)),
        name: format!("Backend {number}"),
        organization_id: organization.map(|number| OrganizationId(id(number))),
        created_us: AT_US,
        created_by: None,
        expires_us: AT_US + DAY_US,
        revoked_us: None,
        version: 0,
    }
}

pub(crate) fn signing_key(number: u32) -> SigningKey {
    SigningKey {
        kid: format!("kid-{number}"),
        public_key: hash(number),
        sealed_private_key: vec![0, 1, 2, 255],
        created_us: AT_US + u64::from(number),
        retired_us: None,
        version: 0,
    }
}

pub(crate) fn event(number: u32, organization: Option<u32>) -> Event {
    Event {
        id: id(number),
        organization_id: organization.map(|number| OrganizationId(id(number))),
        action: Action::ApiKeyCreate,
        outcome: Outcome::Success,
        actor: id(9).to_string(),
        actor_type: ActorType::User,
        resource_type: ResourceType::ApiKey,
        resource_id: id(number).to_string(),
        ip_address: None,
        user_agent: None,
        request_id: None,
        details: serde_json::Map::new(),
        at_us: AT_US,
    }
}

pub(crate) fn feed_entry(organization: u32, generation: u64) -> FeedEntry {
    FeedEntry {
        organization: Some(OrganizationId(id(organization))),
        generation,
        key: None,
        new_hashes: Vec::new(),
        imported: false,
        revoked_service_token: None,
    }
}

pub(crate) fn idempotency(caller: &str, key: &str) -> IdempotencyRecord {
    IdempotencyRecord {
        caller: caller.to_owned(),
        key: key.to_owned(),
        request: hash(1),
        sealed_answer: vec![1, 2, 3],
        expires_us: AT_US + DAY_US,
    }
}

/// A write of rows and nothing else.
pub(crate) fn changes(changes: impl IntoIterator<Item = Change>) -> Write {
    Write { at_us: AT_US, changes: changes.into_iter().collect(), ..Write::default() }
}

/// Writes rows and nothing else.
pub(crate) async fn put(store: &dyn KeysStore, rows: impl IntoIterator<Item = Change>) {
    store.write(&changes(rows)).await.expect("written");
}

/// Writes organizations 1 and 2, and users 1, 2 and 3.
pub(crate) async fn put_tenants(store: &dyn KeysStore) {
    let organizations = [1, 2].map(|number| Change::Organization(organization(number)));
    let users = [1, 2, 3].map(|number| Change::User(user(number)));
    put(store, organizations.into_iter().chain(users)).await;
}

/// What says that nothing was found, or what was.
pub(crate) fn found<T>(result: Result<Option<T>, StoreError>) -> Option<T> {
    result.expect("asked")
}
