//! The first administrator, whom nobody else could make.

use tidegate_chassis::error::Violations;

use super::{Sessions, taken, with_detail};
use crate::{
    domain::{Action, Outcome, User, UserId},
    error::KeysError,
    identity::{names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, Write},
};

impl Sessions {
    /// Makes an account that may do everything in every organization, unless there is one. Answers whether it was made. Of
    /// replicas that start together one makes it.
    ///
    /// # Errors
    ///
    /// [`KeysError::Invalid`] if address or password would not be taken from anybody else; [`KeysError::EmailTaken`] if
    /// the address has an account, which is not made more than it is.
    pub async fn ensure_administrator(&self, email: &str, password: &str) -> Result<bool, KeysError> {
        let inner = &self.0;
        if inner.store.has_admin().await? {
            return Ok(false);
        }
        let mut violations = Violations::default();
        let parsed = names::email(email, &mut violations);
        if let Some(email) = &parsed {
            rules::check(password, email, "password", &mut violations);
        }
        names::all_good(violations)?;
        let email = parsed.expect("nothing was wrong");
        let password_hash = Some(inner.passwords.hash(password).await?);
        let now_us = inner.clock.now_us();
        let user = User {
            id: UserId(inner.id(now_us)),
            email,
            password_hash,
            is_admin: true,
            external: None,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        };
        let origin = RequestOrigin::default();
        let made =
            inner.event(&origin, now_us, Actor::system(), (Action::SignUp, Outcome::Success), Some(&user));
        let events = vec![with_detail(made, "role", "admin")];
        let write = Write { at_us: now_us, changes: vec![Change::User(user)], events, ..Write::default() };
        match inner.store.write(&write).await.map_err(taken) {
            Ok(_) => Ok(true),
            // Another replica may have been first.
            Err(KeysError::EmailTaken) if inner.store.has_admin().await? => Ok(false),
            Err(error) => Err(error),
        }
    }
}
