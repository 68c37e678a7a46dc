//! What lists have in them, in which order, and where they go on.

use super::*;
use crate::{
    domain::{EndReason, ExternalIdentity, RevokeReason},
    store::{KeyFilter, KeyStatus},
};

fn numbered(number: u32) -> OrganizationId {
    OrganizationId(id(number))
}

pub(crate) async fn organizations_are_listed_by_name(store: &dyn KeysStore) {
    let names = ["b", "a", "B", "ä", "b", "a b"];
    let rows =
        (1..).zip(names).map(|(number, name)| Organization { name: name.to_owned(), ..organization(number) });
    put(store, rows.map(Change::Organization)).await;
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.organizations("", after, 2).await.expect("asked");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some((last.name.clone(), last.id));
        listed.extend(page.into_iter().map(|one| (one.name, one.id)));
    }
    // Byte by byte, and those of one name by id.
    let expected = [("B", 3), ("a", 2), ("a b", 6), ("b", 1), ("b", 5), ("ä", 4)];
    assert_eq!(listed, expected.map(|(name, number)| (name.to_owned(), numbered(number))));
}

pub(crate) async fn organizations_are_searched_without_regard_to_ascii_case(store: &dyn KeysStore) {
    let names = ["100% Ümlaut", "100 umlaut", "under_score", "underXscore", r"back\slash", "K\u{212a}"];
    let rows =
        (1..).zip(names).map(|(number, name)| Organization { name: name.to_owned(), ..organization(number) });
    put(store, rows.map(Change::Organization)).await;
    let cases: [(&str, &[u32]); 12] = [
        ("", &[1, 2, 3, 4, 5, 6]),
        ("UMLAUT", &[2]),
        ("MLaut", &[1, 2]),
        ("Ümlaut", &[1]),
        ("ümlaut", &[]),
        ("%", &[1]),
        ("_", &[3]),
        ("R_S", &[3]),
        (r"\", &[5]),
        (r"\S", &[5]),
        ("kk", &[]),
        ("\0", &[]),
    ];
    for (search, expected) in cases {
        let mut ids: Vec<_> =
            store.organizations(search, None, 9).await.expect("asked").iter().map(|one| one.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected.iter().map(|number| numbered(*number)).collect::<Vec<_>>(), "{search:?}");
    }
}

pub(crate) async fn members_are_listed_in_the_order_of_joining(store: &dyn KeysStore) {
    put_tenants(store).await;
    let joined = |organization, user, joined_us, role| Membership {
        joined_us,
        ..membership(organization, user, role)
    };
    let rows = [
        joined(1, 3, 5, Role::User),
        joined(1, 1, 9, Role::TenantAdmin),
        joined(1, 2, 5, Role::TenantAdmin),
        joined(2, 1, 0, Role::TenantAdmin),
    ];
    put(store, rows.map(Change::Membership)).await;
    let one = numbered(1);
    let listed = async |after, limit| -> Vec<_> {
        let members = store.members(one, after, limit).await.expect("asked");
        members
            .into_iter()
            .map(|(member, user)| {
                assert_eq!(member.user_id, user.id);
                (member.joined_us, member.user_id)
            })
            .collect()
    };
    let all = [(5, UserId(id(2))), (5, UserId(id(3))), (9, UserId(id(1)))];
    assert_eq!(listed(None, 9).await, all);
    assert_eq!(listed(None, 1).await, all[..1]);
    assert_eq!(listed(Some(all[0]), 9).await, all[1..]);
    assert_eq!(listed(Some(all[2]), 9).await, Vec::new());
    assert_eq!(store.count_tenant_admins(one).await, Ok(2));
    assert_eq!(store.count_tenant_admins(numbered(9)).await, Ok(0));

    let of_one = store.memberships_of(UserId(id(1))).await.expect("asked");
    let of_one: Vec<_> = of_one.iter().map(|(member, one)| (member.organization_id, one.id)).collect();
    assert_eq!(of_one, [(numbered(2), numbered(2)), (one, one)]);

    assert_eq!(store.has_admin().await, Ok(false), "a tenant_admin is none");
    put(store, [Change::User(User { is_admin: true, version: 1, ..user(3) })]).await;
    assert_eq!(store.has_admin().await, Ok(true));
    let unknown = ExternalIdentity { issuer: "https://issuer".to_owned(), subject: "nobody".to_owned() };
    assert_eq!(found(store.user_by_external(&unknown).await), None);
}

pub(crate) async fn open_invitations_are_listed(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [
        invitation(4, 1),
        invitation(3, 1),
        Invitation { ended_us: Some(AT_US), ..invitation(5, 1) },
        Invitation { expires_us: AT_US, ..invitation(6, 1) },
        Invitation { expires_us: AT_US + 1, ..invitation(7, 1) },
        invitation(8, 2),
    ];
    put(store, rows.map(Change::Invitation)).await;
    let listed = async |after: Option<u32>, limit| -> Vec<_> {
        let after = after.map(|number| InvitationId(id(number)));
        let open = store.invitations(numbered(1), AT_US, after, limit).await.expect("asked");
        open.iter().map(|invitation| invitation.id.0).collect()
    };
    assert_eq!(listed(None, 9).await, [3, 4, 7].map(id));
    assert_eq!(listed(None, 2).await, [3, 4].map(id));
    assert_eq!(listed(Some(4), 9).await, [id(7)]);
}

pub(crate) async fn living_families_are_listed(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [
        family(1, 1, Some(1)),
        family(2, 1, Some(2)),
        family(3, 1, None),
        RefreshFamily { ended: Some((AT_US, EndReason::LoggedOut)), ..family(4, 1, Some(1)) },
        family(5, 2, Some(1)),
    ];
    put(store, rows.map(Change::RefreshFamily)).await;
    let listed = async |organization: Option<u32>| -> Vec<_> {
        let living = store.living_families(UserId(id(1)), organization.map(numbered)).await.expect("asked");
        let mut ids: Vec<_> = living.iter().map(|family| family.id.0).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(listed(None).await, [1, 2, 3].map(id));
    assert_eq!(listed(Some(1)).await, [id(1)]);
}

async fn keys(store: &dyn KeysStore, filter: &KeyFilter, after: Option<u32>, limit: u32) -> Vec<Uuid> {
    let after = after.map(|number| KeyId(id(number)));
    store
        .api_keys(numbered(1), filter, after, limit)
        .await
        .expect("asked")
        .iter()
        .map(|key| key.id.0)
        .collect()
}

pub(crate) async fn keys_are_listed_from_the_newest_on(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [2, 4, 1, 3].map(|number| Change::ApiKey(api_key(number, 1)))).await;
    put(store, [Change::ApiKey(api_key(5, 2))]).await;
    let all = KeyFilter::default();
    assert_eq!(keys(store, &all, None, 9).await, [4, 3, 2, 1].map(id));
    assert_eq!(keys(store, &all, None, 2).await, [4, 3].map(id));
    assert_eq!(keys(store, &all, Some(3), 9).await, [2, 1].map(id));
    assert_eq!(keys(store, &all, Some(1), 9).await, Vec::<Uuid>::new());
}

pub(crate) async fn keys_are_filtered(store: &dyn KeysStore) {
    put_tenants(store).await;
    let at = |us: u64| AT_US + us;
    let rows = [
        ApiKey { name: "Backend 100%".to_owned(), ..api_key(1, 1) },
        ApiKey { disabled_us: Some(at(50)), key_prefix: "tk_TEST_abc".to_owned(), ..api_key(2, 1) },
        ApiKey {
            expires_us: Some(at(10)),
            disabled_us: Some(at(0)),
            lineage_id: LineageId(id(1)),
            ..api_key(3, 1)
        },
        ApiKey {
            revoked: Some((at(20), RevokeReason::Rotated)),
            expires_us: Some(at(20)),
            lineage_id: LineageId(id(1)),
            ..api_key(4, 1)
        },
    ];
    put(store, rows.map(Change::ApiKey)).await;
    let with = async |status: KeyStatus, at_us: u64| {
        let filter = KeyFilter { status: Some((status, at_us)), ..KeyFilter::default() };
        keys(store, &filter, None, 9).await
    };
    assert_eq!(with(KeyStatus::Active, at(9)).await, [4, 1].map(id));
    assert_eq!(with(KeyStatus::Disabled, at(9)).await, [3, 2].map(id));
    assert_eq!(with(KeyStatus::Expired, at(9)).await, Vec::<Uuid>::new());
    assert_eq!(with(KeyStatus::Expired, at(10)).await, [id(3)]);
    assert_eq!(with(KeyStatus::Revoked, at(19)).await, Vec::<Uuid>::new());
    assert_eq!(with(KeyStatus::Revoked, at(20)).await, [id(4)]);
    assert_eq!(with(KeyStatus::Active, at(20)).await, [id(1)]);

    let searched = async |search: &str| {
        keys(store, &KeyFilter { search: search.to_owned(), ..KeyFilter::default() }, None, 9).await
    };
    assert_eq!(searched("bACKEND").await, [id(1)]);
    assert_eq!(searched("%").await, [id(1)]);
    assert_eq!(searched("Test_A").await, [id(2)]);
    assert_eq!(searched("tk_").await, [4, 3, 2, 1].map(id));
    assert_eq!(searched("tkX").await, Vec::<Uuid>::new());
    assert_eq!(searched("\0").await, Vec::<Uuid>::new());

    let lineage = KeyFilter { lineage: Some(LineageId(id(1))), ..KeyFilter::default() };
    assert_eq!(keys(store, &lineage, None, 9).await, [4, 3, 1].map(id));
    assert_eq!(keys(store, &lineage, Some(4), 1).await, [id(3)]);
    let every = KeyFilter { search: "KEY".to_owned(), status: Some((KeyStatus::Expired, at(15))), ..lineage };
    assert_eq!(keys(store, &every, None, 9).await, [id(3)]);
}

pub(crate) async fn keys_are_found_by_their_hashes(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [Change::ApiKey(api_key(1, 1)), Change::ApiKey(api_key(2, 2))]).await;
    // One key may have been stored under two peppers.
    put(store, [secret(1, 1, 1), secret(2, 2, 2), secret(3, 2, 2)].map(Change::KeySecret)).await;
    let by = async |numbers: &[u32]| {
        let hashes: Vec<_> = numbers.iter().map(|number| hash(*number)).collect();
        found(store.key_by_hash(&hashes).await).map(|(key, organization)| {
            assert_eq!(key.organization_id, organization.id);
            key.id.0
        })
    };
    assert_eq!(by(&[1]).await, Some(id(1)));
    assert_eq!(by(&[2, 9]).await, Some(id(2)));
    assert_eq!(by(&[9, 3]).await, Some(id(2)));
    assert_eq!(by(&[7, 8, 9, 3]).await, Some(id(2)));
    assert_eq!(by(&[7, 8, 9]).await, None);
    // Two keys of one value, under two peppers: the first that is asked for is the one.
    assert_eq!((by(&[1, 2]).await, by(&[2, 1]).await), (Some(id(1)), Some(id(2))));
    let (key, organization) = found(store.key_by_hash(&[hash(1)]).await).expect("there");
    assert_eq!((key.version, organization.version), (1, 1));
    assert_eq!(key.name, api_key(1, 1).name);
    assert_eq!(organization.name, super::organization(1).name);
}

pub(crate) async fn hashes_are_listed_in_their_order(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [Change::ApiKey(api_key(1, 1)), Change::ApiKey(api_key(2, 2))]).await;
    let numbers = [0xffff_ffff, 0, 0x8000_0000, 0x7fff_ffff, 1];
    let rows = numbers.map(|number| Change::KeySecret(secret(number, 1 + number % 2, 1 + number % 2)));
    put(store, rows).await;
    let mut sorted = numbers.map(hash);
    sorted.sort_unstable();
    assert_eq!(store.key_hashes(None, 9).await, Ok(sorted.to_vec()));
    assert_eq!(store.key_hashes(None, 2).await, Ok(sorted[..2].to_vec()));
    assert_eq!(store.key_hashes(Some(sorted[1]), 2).await, Ok(sorted[2..4].to_vec()));
    assert_eq!(store.key_hashes(Some(sorted[4]), 2).await, Ok(Vec::new()));
}

pub(crate) async fn keys_that_expire_are_found(store: &dyn KeysStore) {
    put_tenants(store).await;
    let expires = |number, organization, us: u64| ApiKey {
        expires_us: Some(AT_US + us),
        ..api_key(number, organization)
    };
    let rows = [
        expires(1, 1, 30),
        expires(2, 2, 20),
        expires(3, 1, 100),
        expires(4, 1, 0),
        api_key(5, 1),
        ApiKey { expiry_announced_us: Some(AT_US), ..expires(6, 1, 20) },
        ApiKey { revoked: Some((AT_US, RevokeReason::Revoked)), ..expires(7, 1, 20) },
        ApiKey { revoked: Some((AT_US + 1, RevokeReason::Rotated)), ..expires(8, 1, 40) },
        ApiKey { disabled_us: Some(AT_US), ..expires(9, 1, 50) },
    ];
    put(store, rows.map(Change::ApiKey)).await;
    let expiring = async |limit| -> Vec<_> {
        let keys = store.expiring_keys(AT_US, AT_US + 100, limit).await.expect("asked");
        keys.iter().map(|key| key.id.0).collect()
    };
    assert_eq!(expiring(9).await, [2, 1, 8, 9].map(id));
    assert_eq!(expiring(1).await, [id(2)]);
}

pub(crate) async fn service_tokens_are_listed(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [
        service_token(1, Some(1)),
        service_token(2, None),
        ServiceToken { revoked_us: Some(AT_US), ..service_token(3, Some(2)) },
        ServiceToken { revoked_us: Some(AT_US), ..service_token(4, Some(1)) },
        ServiceToken { revoked_us: Some(AT_US), expires_us: AT_US + 1, ..service_token(5, None) },
    ];
    put(store, rows.map(Change::ServiceToken)).await;
    let listed = async |organization: Option<u32>, after: Option<u32>, limit| -> Vec<_> {
        let after = after.map(|number| ServiceTokenId(id(number)));
        let tokens = store.service_tokens(organization.map(numbered), after, limit).await.expect("asked");
        tokens.iter().map(|token| token.id.0).collect()
    };
    assert_eq!(listed(None, None, 9).await, [5, 4, 3, 2, 1].map(id));
    assert_eq!(listed(None, Some(4), 2).await, [3, 2].map(id));
    assert_eq!(listed(Some(1), None, 9).await, [4, 1].map(id));
    assert_eq!(listed(Some(1), Some(4), 9).await, [id(1)]);
    let revoked = async |now_us| -> Vec<_> {
        store.revoked_service_tokens(now_us).await.expect("asked").iter().map(|token| token.0).collect()
    };
    assert_eq!(revoked(AT_US).await, [3, 4, 5].map(id));
    assert_eq!(revoked(AT_US + 1).await, [3, 4].map(id));
}

pub(crate) async fn the_newest_key_that_signs_is_the_first(store: &dyn KeysStore) {
    put(store, [2, 3, 1].map(|number| Change::SigningKey(signing_key(number)))).await;
    let kids: Vec<_> = store.signing_keys().await.expect("asked").into_iter().map(|key| key.kid).collect();
    assert_eq!(kids, ["kid-3", "kid-2", "kid-1"]);
}

pub(crate) async fn movements_are_listed_in_the_order_of_time(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [Change::Credits(credits(1, 1)), Change::Credits(credits(2, 1))]).await;
    let at = |number, us: u64| Change::Ledger(LedgerEntry { at_us: us, ..ledger_entry(number, 1, 1) });
    put(store, [at(1, 9), at(4, 5), at(3, 5), at(2, 7), Change::Ledger(ledger_entry(8, 2, 1))]).await;
    let listed = async |after: Option<(u64, u32)>, limit| -> Vec<_> {
        let after = after.map(|(at_us, number)| (at_us, id(number)));
        let movements = store.ledger(numbered(1), LineageId(id(1)), after, limit).await.expect("asked");
        movements.iter().map(|movement| movement.id).collect()
    };
    assert_eq!(listed(None, 9).await, [3, 4, 2, 1].map(id));
    assert_eq!(listed(Some((5, 3)), 2).await, [4, 2].map(id));
    assert_eq!(listed(Some((9, 1)), 2).await, Vec::<Uuid>::new());
}
