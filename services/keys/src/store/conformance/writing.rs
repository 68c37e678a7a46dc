//! That a write is whole, and that none overwrites what it did not see.

use futures_util::future::join_all;

use super::*;
use crate::{
    domain::{EndReason, ExternalIdentity},
    store::{Guard, Unique},
};

fn renamed(version: u64, name: &str) -> Change {
    Change::Organization(Organization { version, name: name.to_owned(), ..organization(1) })
}

pub(crate) async fn a_row_of_another_version_conflicts(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = |version| {
        [
            Change::Organization(Organization { version, ..organization(1) }),
            Change::User(User { version, ..user(1) }),
            Change::Membership(Membership { version, ..membership(1, 1, Role::User) }),
            Change::Invitation(Invitation { version, ..invitation(1, 1) }),
            Change::PasswordReset(PasswordReset { version, ..password_reset(1, 1) }),
            Change::RefreshFamily(RefreshFamily { version, ..family(1, 1, None) }),
            Change::RefreshToken(RefreshToken { version, ..refresh_token(1, 1) }),
            Change::ApiKey(ApiKey { version, ..api_key(1, 1) }),
            Change::Credits(CreditAccount { version, ..credits(1, 1) }),
            Change::ServiceToken(ServiceToken { version, ..service_token(1, None) }),
            Change::SigningKey(SigningKey { version, ..signing_key(1) }),
        ]
    };
    let refused = async |row: Change| {
        let written = store.write(&changes([row.clone()])).await;
        assert_eq!(written, Err(StoreError::Conflict), "{row:?}");
    };
    for row in rows(1).into_iter().skip(2) {
        refused(row).await;
    }
    put(store, rows(0).into_iter().skip(2)).await;
    for row in rows(2) {
        refused(row).await;
    }
    // A new user has to have another address as well, else that is what is wrong with it.
    let email = Email::parse("unheard@example.com").expect("an address");
    for row in rows(0) {
        refused(match row {
            Change::User(user) => Change::User(User { email: email.clone(), ..user }),
            Change::Invitation(row) => Change::Invitation(Invitation { token_hash: hash(99), ..row }),
            other => other,
        })
        .await;
    }
    put(store, rows(1)).await;
}

pub(crate) async fn a_write_is_all_or_nothing(store: &dyn KeysStore) {
    put_tenants(store).await;
    let lost = renamed(7, "of a version that never was");
    let whole = Write {
        changes: vec![
            renamed(1, "changed"),
            Change::ApiKey(api_key(1, 1)),
            Change::KeySecret(secret(1, 1, 1)),
        ],
        feed: vec![feed_entry(1, 2)],
        events: vec![event(1, Some(1))],
        idempotency: Some(idempotency("caller", "key")),
        ..changes([])
    };
    let mut failing = whole.clone();
    failing.changes.push(lost);
    assert_eq!(store.write(&failing).await, Err(StoreError::Conflict));
    // An event that is there already fails at the end of the rows, after everything else of them was written.
    store.write(&Write { events: vec![event(2, None)], ..changes([]) }).await.expect("written");
    let failing = Write { events: vec![event(1, Some(1)), event(2, None)], ..whole.clone() };
    assert_eq!(store.write(&failing).await, Err(StoreError::Conflict));

    let one = OrganizationId(id(1));
    assert_eq!(found(store.organization(one).await).expect("there").name, organization(1).name);
    assert_eq!(found(store.api_key(one, KeyId(id(1))).await), None);
    assert_eq!(found(store.key_by_hash(&[hash(1)]).await), None);
    assert_eq!(store.revision().await, Ok(0));
    assert_eq!(store.feed(0, 9).await.expect("asked").entries, []);
    assert_eq!(store.outbox(None, 9).await, Ok(vec![event(2, None)]));
    assert_eq!(found(store.idempotent("caller", "key", AT_US).await), None);

    assert_eq!(store.write(&whole).await, Ok(1));
    assert_eq!(found(store.organization(one).await).expect("there").name, "changed");
    assert_eq!(found(store.idempotent("caller", "key", AT_US).await), Some(idempotency("caller", "key")));
    assert_eq!(store.outbox(None, 9).await.expect("asked").len(), 2);
    assert_eq!(store.feed(0, 9).await.expect("asked").entries, [(1, feed_entry(1, 2))]);
}

pub(crate) async fn of_writers_at_one_version_one_wins(store: &dyn KeysStore) {
    put_tenants(store).await;
    let writes: Vec<_> = (0..8)
        .map(|n| Write { feed: vec![feed_entry(1, n)], ..changes([renamed(1, &format!("by {n}"))]) })
        .collect();
    let written = join_all(writes.iter().map(|write| store.write(write))).await;
    let won: Vec<_> = (0..8).filter(|n| written[*n] == Ok(1)).collect();
    let lost = written.iter().filter(|result| **result == Err(StoreError::Conflict)).count();
    assert_eq!((won.len(), lost), (1, 7), "{written:?}");
    let stored = found(store.organization(OrganizationId(id(1))).await).expect("there");
    assert_eq!((stored.name, stored.version), (format!("by {}", won[0]), 2));
    assert_eq!(store.feed(0, 9).await.expect("asked").entries, [(1, feed_entry(1, won[0] as u64))]);
}

pub(crate) async fn values_of_which_there_are_no_two_are_taken(store: &dyn KeysStore) {
    put_tenants(store).await;
    let external = Some(ExternalIdentity { issuer: "https://issuer".to_owned(), subject: "s".to_owned() });
    let first = [
        Change::User(User { version: 1, external: external.clone(), ..user(1) }),
        Change::ApiKey(api_key(1, 1)),
        Change::ApiKey(api_key(2, 2)),
        Change::KeySecret(secret(1, 1, 1)),
        Change::Credits(credits(1, 1)),
        Change::Credits(credits(2, 2)),
        Change::Ledger(ledger_entry(1, 1, 1)),
    ];
    put(store, first).await;
    let of_other = ExternalIdentity { subject: "other".to_owned(), ..external.clone().expect("set") };
    let cases = [
        (Change::User(User { email: user(1).email, ..user(9) }), Unique::Email),
        (Change::User(User { email: user(1).email, version: 1, ..user(2) }), Unique::Email),
        (Change::User(User { external, ..user(9) }), Unique::ExternalIdentity),
        (Change::KeySecret(secret(1, 2, 2)), Unique::KeyHash),
        (Change::KeySecret(secret(1, 1, 1)), Unique::KeyHash),
        (Change::Ledger(ledger_entry(1, 1, 1)), Unique::LedgerEntry),
        (Change::Ledger(ledger_entry(1, 2, 2)), Unique::LedgerEntry),
    ];
    for (row, taken) in cases {
        let written = store.write(&changes([renamed(1, "lost"), row])).await;
        assert_eq!(written, Err(StoreError::Taken(taken)));
    }
    put(store, [Change::User(User { external: Some(of_other), ..user(9) })]).await;
    assert_eq!(
        found(store.organization(OrganizationId(id(1))).await).map(|stored| stored.version),
        Some(1),
        "nothing was written"
    );
}

pub(crate) async fn an_idempotency_key_is_free_again_when_its_record_is_over(store: &dyn KeysStore) {
    let write =
        |record: IdempotencyRecord, at_us| Write { at_us, idempotency: Some(record), ..Write::default() };
    let first = idempotency("caller", "key");
    let end = first.expires_us;
    store.write(&write(first.clone(), AT_US)).await.expect("written");
    assert_eq!(found(store.idempotent("caller", "key", end - 1).await), Some(first.clone()));
    assert_eq!(found(store.idempotent("caller", "key", end).await), None);
    let second = IdempotencyRecord {
        request: hash(2),
        sealed_answer: vec![9],
        expires_us: end + DAY_US,
        ..first.clone()
    };
    let taken = Err(StoreError::Taken(Unique::IdempotencyKey));
    assert_eq!(store.write(&write(second.clone(), end - 1)).await, taken);
    assert_eq!(found(store.idempotent("caller", "key", AT_US).await), Some(first));
    assert_eq!(store.write(&write(second.clone(), end)).await, Ok(0));
    assert_eq!(found(store.idempotent("caller", "key", end).await), Some(second));
    // Those of other callers, and other keys, are others.
    for (caller, key) in [("caller2", "key"), ("caller", "key2"), ("callerk", "ey")] {
        assert_eq!(found(store.idempotent(caller, key, AT_US).await), None);
        store.write(&write(idempotency(caller, key), AT_US)).await.expect("written");
    }
}

pub(crate) async fn of_requests_with_one_idempotency_key_one_is_written(store: &dyn KeysStore) {
    // They also ask for the same address: that their twin has it is not what is wrong with them.
    let twins: Vec<_> = (1..=8)
        .map(|n| Write {
            idempotency: Some(idempotency("caller", "key")),
            ..changes([Change::User(User { email: user(1).email, ..user(n) })])
        })
        .collect();
    let written = join_all(twins.iter().map(|write| store.write(write))).await;
    let taken = Err(StoreError::Taken(Unique::IdempotencyKey));
    assert_eq!(written.iter().filter(|result| **result == Ok(0)).count(), 1, "{written:?}");
    assert_eq!(written.iter().filter(|result| **result == taken).count(), 7, "{written:?}");
}

pub(crate) async fn what_belongs_to_nothing_conflicts(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [Change::ApiKey(api_key(1, 1)), Change::Credits(credits(1, 1))]).await;
    let rows = [
        Change::Membership(membership(1, 8, Role::User)),
        Change::Membership(membership(8, 1, Role::User)),
        Change::Invitation(invitation(1, 8)),
        Change::PasswordReset(password_reset(1, 8)),
        Change::RefreshFamily(family(1, 8, None)),
        Change::RefreshFamily(family(1, 1, Some(8))),
        Change::RefreshToken(refresh_token(1, 8)),
        Change::ApiKey(api_key(2, 8)),
        Change::KeySecret(secret(1, 8, 1)),
        Change::KeySecret(secret(1, 1, 2)),
        Change::Credits(credits(2, 8)),
        Change::Ledger(ledger_entry(1, 8, 1)),
        Change::Ledger(ledger_entry(1, 1, 2)),
        Change::ServiceToken(service_token(1, Some(8))),
    ];
    for row in rows {
        assert_eq!(store.write(&changes([row.clone()])).await, Err(StoreError::Conflict), "{row:?}");
    }
}

pub(crate) async fn a_membership_ends_at_its_version(store: &dyn KeysStore) {
    put_tenants(store).await;
    put(store, [Change::Membership(membership(1, 1, Role::User))]).await;
    let ended =
        |version| changes([Change::RemoveMembership(Membership { version, ..membership(1, 1, Role::User) })]);
    for version in [0, 2] {
        assert_eq!(store.write(&ended(version)).await, Err(StoreError::Conflict));
    }
    assert_eq!(store.write(&ended(1)).await, Ok(0));
    assert_eq!(found(store.membership(OrganizationId(id(1)), UserId(id(1))).await), None);
    assert_eq!(store.write(&ended(1)).await, Err(StoreError::Conflict));
    put(store, [Change::Membership(membership(1, 1, Role::TenantAdmin))]).await;
}

pub(crate) async fn a_write_relies_on_what_it_guards(store: &dyn KeysStore) {
    put_tenants(store).await;
    let relies = |version, n| Write {
        guards: vec![Guard::User(UserId(id(1)), version)],
        ..changes([Change::RefreshFamily(family(n, 1, None))])
    };
    assert_eq!(store.write(&relies(1, 1)).await, Ok(0));
    assert_eq!(store.write(&relies(1, 2)).await, Ok(0), "it is left as it is");
    assert_eq!(store.write(&relies(2, 3)).await, Err(StoreError::Conflict));
    let changed = [Change::User(User { version: 1, ..user(1) })];
    // Whichever is first: one that comes later than the change conflicts.
    let change = changes(changed);
    let relying = relies(1, 4);
    let (changed, guarded) = futures_util::join!(store.write(&change), store.write(&relying));
    assert_eq!(changed, Ok(0));
    assert!(matches!(guarded, Ok(0) | Err(StoreError::Conflict)), "{guarded:?}");
    assert_eq!(store.write(&relies(1, 5)).await, Err(StoreError::Conflict));
    let living = store.living_families(UserId(id(1)), None).await.expect("asked").len();
    assert_eq!(living, 2 + usize::from(guarded.is_ok()));
}

pub(crate) async fn all_families_of_an_account_end_but_those_of_the_write(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [(1, 1, None), (2, 1, Some(1)), (3, 1, Some(2)), (4, 2, None)];
    put(store, rows.map(|(n, user, organization)| Change::RefreshFamily(family(n, user, organization))))
        .await;
    let write = Write {
        at_us: AT_US + 5,
        end_families: Some((UserId(id(1)), EndReason::PasswordChanged)),
        ..changes([Change::RefreshFamily(family(5, 1, Some(1)))])
    };
    assert_eq!(store.write(&write).await, Ok(0));
    for n in 1..=5 {
        let stored = found(store.refresh_family(FamilyId(id(n))).await).expect("there");
        let ended = (n <= 3).then_some((AT_US + 5, EndReason::PasswordChanged));
        assert_eq!((stored.ended, stored.version), (ended, if n <= 3 { 2 } else { 1 }), "{n}");
    }
}
