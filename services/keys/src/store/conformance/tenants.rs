//! That organizations are apart.

use super::*;
use crate::store::KeyFilter;

/// Everything of organization 2, with ids from 20 on.
async fn put_rows_of_two(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [
        Change::Membership(membership(2, 2, Role::TenantAdmin)),
        Change::Invitation(invitation(20, 2)),
        Change::RefreshFamily(family(20, 2, Some(2))),
        Change::ApiKey(api_key(20, 2)),
        Change::KeySecret(secret(20, 20, 2)),
        Change::Credits(credits(20, 2)),
        Change::Ledger(ledger_entry(20, 20, 2)),
        Change::ServiceToken(service_token(20, Some(2))),
    ];
    put(store, rows).await;
    let used = usage::used(20, 2, "2026-01-01", "allowed", 1);
    assert_eq!(store.add_usage(id(20), AT_US, &[used]).await, Ok(true));
}

pub(crate) async fn nothing_of_one_organization_is_found_in_another(store: &dyn KeysStore) {
    put_rows_of_two(store).await;
    for (asked, is_there) in [(1, false), (2, true), (3, false)] {
        let one = OrganizationId(id(asked));
        let (key, lineage, user) = (KeyId(id(20)), LineageId(id(20)), UserId(id(2)));
        assert_eq!(found(store.membership(one, user).await).is_some(), is_there);
        assert_eq!(store.members(one, None, 9).await.expect("asked").len(), usize::from(is_there));
        assert_eq!(store.count_tenant_admins(one).await, Ok(u64::from(is_there)));
        assert_eq!(found(store.invitation(one, InvitationId(id(20))).await).is_some(), is_there);
        assert_eq!(store.invitations(one, AT_US, None, 9).await.expect("asked").len(), usize::from(is_there));
        assert_eq!(store.living_families(user, Some(one)).await.expect("asked").len(), usize::from(is_there));
        assert_eq!(found(store.api_key(one, key).await).is_some(), is_there);
        for lineage in [None, Some(lineage)] {
            let filter = KeyFilter { lineage, ..KeyFilter::default() };
            let keys = store.api_keys(one, &filter, None, 9).await.expect("asked");
            assert_eq!(keys.len(), usize::from(is_there));
        }
        let usage = store.usage(one, key, "2026-01-01", "2026-12-31").await.expect("asked");
        assert_eq!(usage.len(), usize::from(is_there));
        assert_eq!(found(store.credits(one, lineage).await).is_some(), is_there);
        assert_eq!(found(store.ledger_entry(one, id(20)).await).is_some(), is_there);
        let movements = store.ledger(one, lineage, None, 9).await.expect("asked");
        assert_eq!(movements.len(), usize::from(is_there));
        let tokens = store.service_tokens(Some(one), None, 9).await.expect("asked");
        assert_eq!(tokens.len(), usize::from(is_there));
    }
}

pub(crate) async fn nothing_of_one_is_changed_as_another(store: &dyn KeysStore) {
    put_rows_of_two(store).await;
    let rows = [
        Change::Membership(Membership { version: 1, ..membership(1, 2, Role::User) }),
        Change::RemoveMembership(Membership { version: 1, ..membership(1, 2, Role::User) }),
        Change::Invitation(Invitation { version: 1, ..invitation(20, 1) }),
        Change::RefreshFamily(RefreshFamily { version: 1, ..family(20, 2, Some(1)) }),
        Change::RefreshFamily(RefreshFamily { version: 1, ..family(20, 2, None) }),
        Change::ServiceToken(ServiceToken { version: 1, ..service_token(20, Some(1)) }),
        Change::ServiceToken(ServiceToken { version: 1, ..service_token(20, None) }),
        Change::ApiKey(ApiKey { version: 1, ..api_key(20, 1) }),
        Change::KeySecret(secret(21, 20, 1)),
        Change::Credits(CreditAccount { version: 1, ..credits(20, 1) }),
        Change::Ledger(ledger_entry(21, 20, 1)),
    ];
    for row in rows {
        assert_eq!(store.write(&changes([row.clone()])).await, Err(StoreError::Conflict), "{row:?}");
    }
}
