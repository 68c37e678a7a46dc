//! A new account with an organization of its own.

use tidegate_chassis::{auth::Role, error::Violations};
use zeroize::Zeroizing;

use super::{Admitted, Sessions, taken};
use crate::{
    domain::{
        Action, Event, Membership, Organization, OrganizationId, OrganizationStatus, Outcome, ResourceType,
        User, UserId,
    },
    error::KeysError,
    idempotency::Keep,
    identity::{Attempt, Place, names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, Write},
};

/// The plan of those who did not choose one.
const FIRST_PLAN: &str = "free";

/// Who wants an account.
pub struct SignUp {
    /// Its address.
    pub email: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// Name of its organization.
    pub organization_name: String,
}

impl Sessions {
    /// Makes an account and an organization, of which it is the `tenant_admin`. Has the `place` until its password is hashed.
    ///
    /// # Errors
    ///
    /// [`KeysError::EmailTaken`], [`KeysError::TooManyAttempts`], [`KeysError::Overloaded`].
    pub async fn sign_up(
        &self,
        place: Place<'_>,
        asked: SignUp,
        origin: &RequestOrigin,
        keep: &Keep<Admitted>,
    ) -> Result<Admitted, KeysError> {
        let mut violations = Violations::default();
        let email = names::email(&asked.email, &mut violations);
        names::name("organization_name", &asked.organization_name, &mut violations);
        if let Some(email) = &email {
            rules::check(&asked.password, email, "password", &mut violations);
        }
        names::all_good(violations)?;
        let email = email.expect("nothing was wrong");
        let inner = &self.0;
        inner.attempts.check(Attempt::SignUp, None, origin).await?;
        if inner.store.user_by_email(&email).await?.is_some() {
            return Err(KeysError::EmailTaken);
        }
        let password_hash = Some(inner.passwords.hash(&asked.password).await?);
        drop(place);

        let now_us = inner.clock.now_us();
        let organization = Organization {
            id: OrganizationId(inner.id(now_us)),
            name: asked.organization_name,
            plan: FIRST_PLAN.to_owned(),
            status: OrganizationStatus::Active,
            monthly_quota: 0,
            generation: 0,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        };
        let user = User {
            id: UserId(inner.id(now_us)),
            email,
            password_hash,
            is_admin: false,
            external: None,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        };
        let membership = Membership {
            organization_id: organization.id,
            user_id: user.id,
            role: Role::TenantAdmin,
            joined_us: now_us,
            version: 0,
        };
        let changes = vec![
            Change::Organization(organization.clone()),
            Change::User(user.clone()),
            Change::Membership(membership),
        ];
        let mut write = Write { at_us: now_us, changes, ..Write::default() };
        let standing = (Role::TenantAdmin, Some(organization.id));
        let tokens = inner.begin(&mut write, &user, standing).await?;
        let actor = || Actor::user(&user.id);
        let signed_up = inner.event(origin, now_us, actor(), (Action::SignUp, Outcome::Success), Some(&user));
        let resource = (ResourceType::Organization, organization.id.to_string());
        let id = (inner.id(now_us), now_us);
        let made = origin.event(id, actor(), Action::OrganizationCreate, resource);
        let at = |event| Event { organization_id: Some(organization.id), ..event };
        write.events = vec![at(signed_up), at(made)];
        // As the store numbers what it writes.
        let mut admitted = Admitted { user, organization, tokens };
        admitted.organization.version = 1;
        write.idempotency = keep.record(&admitted, now_us);
        inner.store.write(&write).await.map_err(taken)?;
        Ok(admitted)
    }
}
