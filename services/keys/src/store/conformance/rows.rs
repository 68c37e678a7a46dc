//! That every row is what it was.

use super::*;
use crate::domain::{EndReason, ExternalIdentity, RevokeReason};

pub(crate) async fn a_new_store_is_empty(store: &dyn KeysStore) {
    assert_eq!(store.revision().await, Ok(0));
    assert_eq!(store.feed(0, 10).await, Ok(super::super::Feed::default()));
    assert_eq!(store.organizations("", None, 10).await, Ok(Vec::new()));
    assert_eq!(store.key_hashes(None, 10).await, Ok(Vec::new()));
    assert_eq!(store.outbox(None, 10).await, Ok(Vec::new()));
    assert_eq!(store.signing_keys().await, Ok(Vec::new()));
    assert_eq!(store.has_admin().await, Ok(false));
    assert_eq!(store.key_by_hash(&[]).await, Ok(None));
    assert_eq!(store.ping().await, Ok(()));
}

/// One of every kind, with everything that may be absent if `full`, in the version of which there is none yet.
struct Rows {
    organization: Organization,
    user: User,
    membership: Membership,
    invitation: Invitation,
    reset: PasswordReset,
    family: RefreshFamily,
    token: RefreshToken,
    key: ApiKey,
    credits: CreditAccount,
    service_token: ServiceToken,
    signing_key: SigningKey,
}

impl Rows {
    fn sparse() -> Self {
        Self {
            organization: organization(1),
            user: User { password_hash: None, ..user(1) },
            membership: membership(1, 1, Role::TenantAdmin),
            invitation: invitation(1, 1),
            reset: password_reset(1, 1),
            family: family(1, 1, None),
            token: refresh_token(1, 1),
            key: ApiKey {
                scopes: Vec::new(),
                allowed_cidrs: Vec::new(),
                metadata: [].into(),
                limits: Vec::new(),
                ..api_key(1, 1)
            },
            credits: credits(1, 1),
            service_token: service_token(1, None),
            signing_key: signing_key(1),
        }
    }

    /// The same rows, with everything else in each that may be another. Numbers are all different.
    fn full(version: u64) -> Self {
        Self {
            organization: Organization {
                name: "Renamed".to_owned(),
                plan: "PRO".to_owned(),
                status: OrganizationStatus::Suspended,
                monthly_quota: 101,
                generation: 102,
                created_us: 103,
                version,
                ..organization(1)
            },
            user: User {
                email: Email::parse("other@example.com").expect("an address"),
                password_hash: Some("$argon2id$other".to_owned()),
                is_admin: true,
                external: Some(ExternalIdentity { issuer: "https://i".to_owned(), subject: "s".to_owned() }),
                created_us: 104,
                version,
                ..user(1)
            },
            membership: Membership {
                role: Role::User,
                joined_us: 105,
                version,
                ..membership(1, 1, Role::User)
            },
            invitation: Invitation {
                email: Email::parse("third@example.com").expect("an address"),
                role: Role::TenantAdmin,
                token_hash: hash(106),
                created_us: 107,
                expires_us: 108,
                ended_us: Some(109),
                version,
                ..invitation(1, 1)
            },
            reset: PasswordReset {
                created_us: 110,
                expires_us: 111,
                used_us: Some(112),
                version,
                ..password_reset(1, 1)
            },
            family: RefreshFamily {
                created_us: 113,
                ended: Some((114, EndReason::Reused)),
                version,
                ..family(1, 1, None)
            },
            token: RefreshToken {
                issued_us: 115,
                expires_us: 116,
                used_us: Some(117),
                version,
                ..refresh_token(1, 1)
            },
            key: ApiKey {
                lineage_id: LineageId(id(118)),
                name: "Renamed".to_owned(),
                key_prefix: "tk_test_x".to_owned(),
                environment: Environment::Test,
                created_us: 119,
                created_by: Some(UserId(id(120))),
                expires_us: Some(121),
                disabled_us: Some(122),
                revoked: Some((123, RevokeReason::Leaked)),
                replaced_by: Some(KeyId(id(124))),
                has_credits: true,
                expiry_announced_us: Some(125),
                version,
                ..api_key(1, 1)
            },
            credits: CreditAccount {
                balance: 126,
                refill_amount: 127,
                refill_every_days: 128,
                next_refill_us: Some(129),
                version,
                ..credits(1, 1)
            },
            service_token: ServiceToken {
                name: "Renamed".to_owned(),
                created_us: 130,
                created_by: Some(UserId(id(131))),
                expires_us: 132,
                revoked_us: Some(133),
                version,
                ..service_token(1, None)
            },
            signing_key: SigningKey {
                public_key: hash(134),
                sealed_private_key: Vec::new(),
                created_us: 135,
                retired_us: Some(136),
                version,
                ..signing_key(1)
            },
        }
    }

    fn changes(&self) -> Vec<Change> {
        vec![
            Change::Organization(self.organization.clone()),
            Change::User(self.user.clone()),
            Change::Membership(self.membership.clone()),
            Change::Invitation(self.invitation.clone()),
            Change::PasswordReset(self.reset.clone()),
            Change::RefreshFamily(self.family.clone()),
            Change::RefreshToken(self.token.clone()),
            Change::ApiKey(self.key.clone()),
            Change::Credits(self.credits.clone()),
            Change::ServiceToken(self.service_token.clone()),
            Change::SigningKey(self.signing_key.clone()),
        ]
    }

    /// That the store has these, in the version after theirs, changed at `at_us`.
    async fn are_in(&self, store: &dyn KeysStore, at_us: u64) {
        macro_rules! next {
            ($row:expr $(, $field:ident: $value:expr)?) => {{
                let row = $row.clone();
                Some({
                    let mut next = row;
                    next.version += 1;
                    $(next.$field = $value;)?
                    next
                })
            }};
        }
        let (one, account) = (self.organization.id, self.user.id);
        assert_eq!(found(store.organization(one).await), next!(self.organization, changed_us: at_us));
        assert_eq!(found(store.user(account).await), next!(self.user, changed_us: at_us));
        assert_eq!(found(store.user_by_email(&self.user.email).await), next!(self.user, changed_us: at_us));
        if let Some(external) = &self.user.external {
            assert_eq!(found(store.user_by_external(external).await), next!(self.user, changed_us: at_us));
        }
        assert_eq!(found(store.membership(one, account).await), next!(self.membership));
        assert_eq!(found(store.invitation(one, self.invitation.id).await), next!(self.invitation));
        let by_token = store.invitation_by_token(&self.invitation.token_hash).await;
        assert_eq!(found(by_token), next!(self.invitation));
        assert_eq!(found(store.password_reset(&self.reset.token_hash).await), next!(self.reset));
        assert_eq!(found(store.refresh_family(self.family.id).await), next!(self.family));
        let token = found(store.refresh_token(&self.token.token_hash).await);
        assert_eq!(token, next!(self.token).zip(next!(self.family)));
        assert_eq!(found(store.api_key(one, self.key.id).await), next!(self.key, changed_us: at_us));
        assert_eq!(found(store.credits(one, self.credits.lineage_id).await), next!(self.credits));
        assert_eq!(found(store.service_token(self.service_token.id).await), next!(self.service_token));
        assert_eq!(store.signing_keys().await.expect("asked").pop(), next!(self.signing_key));
    }
}

pub(crate) async fn every_row_is_read_back_as_it_was_written(store: &dyn KeysStore) {
    let rows = Rows::sparse();
    put(store, rows.changes()).await;
    rows.are_in(store, AT_US).await;
    let movement = LedgerEntry { kind: LedgerKind::Reservation, ..ledger_entry(140, 1, 1) };
    put(store, [Change::Ledger(movement.clone()), Change::KeySecret(secret(3, 1, 1))]).await;
    assert_eq!(found(store.ledger_entry(OrganizationId(id(1)), id(140)).await), Some(movement));
    assert_eq!(store.key_hashes(None, 9).await, Ok(vec![hash(3)]));
}

pub(crate) async fn every_row_is_replaced_at_its_version(store: &dyn KeysStore) {
    put(store, Rows::sparse().changes()).await;
    let rows = Rows::full(1);
    // Whatever rows say, they were changed when they were written.
    store.write(&Write { at_us: AT_US + 7, ..changes(rows.changes()) }).await.expect("written");
    rows.are_in(store, AT_US + 7).await;
    let rows =
        Rows { organization: Organization { version: 2, ..Rows::sparse().organization }, ..Rows::full(2) };
    put(store, rows.changes()).await;
    rows.are_in(store, AT_US).await;
}

pub(crate) async fn the_largest_numbers_and_strange_texts_are_read_back(store: &dyn KeysStore) {
    let text = "' \" \\ ; -- é 漢 🌊 a\u{308} %_";
    let most = u64::from(u32::MAX) * u64::from(u32::MAX >> 1);
    let one = Organization {
        name: text.to_owned(),
        plan: String::new(),
        monthly_quota: most,
        generation: most,
        created_us: most,
        ..organization(1)
    };
    let key = ApiKey { name: text.to_owned(), key_prefix: String::new(), ..api_key(1, 1) };
    put(store, [Change::Organization(one.clone()), Change::ApiKey(key.clone())]).await;
    let stored = found(store.organization(one.id).await);
    assert_eq!(stored, Some(Organization { version: 1, ..one.clone() }));
    assert_eq!(found(store.api_key(one.id, key.id).await), Some(ApiKey { version: 1, ..key }));
}
