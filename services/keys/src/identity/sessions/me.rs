//! Who somebody is.

use tidegate_chassis::auth::{Caller, How, Role, TokenUse};

use super::{Sessions, account};
use crate::{
    domain::{Membership, Organization, OrganizationId, User},
    error::KeysError,
};

/// Who somebody is.
#[derive(Clone, Debug)]
pub struct Me {
    /// What the caller may do.
    pub role: Role,
    /// The account; none for a service.
    pub user: Option<User>,
    /// The organization of the token.
    pub organization: Option<Organization>,
    /// Every organization of the account, in the order of joining.
    pub memberships: Vec<(Membership, Organization)>,
    /// Name of the service; empty for an account.
    pub service_name: String,
}

impl Sessions {
    /// Tells who the caller is.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`] if the account of the token is not there.
    pub async fn me(&self, caller: &Caller) -> Result<Me, KeysError> {
        let store = &self.0.store;
        let organization = match caller.organization {
            Some(id) => store.organization(OrganizationId(id)).await?,
            None => None,
        };
        let mut me = Me {
            role: caller.role,
            user: None,
            organization,
            memberships: Vec::new(),
            service_name: String::new(),
        };
        match &caller.how {
            How::Token { token_use: TokenUse::Access, .. } => {
                let id = account(caller)?;
                me.user = Some(store.user(id).await?.ok_or(KeysError::CredentialsInvalid)?);
                me.memberships = store.memberships_of(id).await?;
            }
            How::Token { token_use: TokenUse::Service, id, .. } => {
                let token = match id.parse() {
                    Ok(id) => store.service_token(id).await?,
                    Err(_) => None,
                };
                me.service_name = token.map_or_else(|| caller.subject.clone(), |token| token.name);
            }
            How::Token { token_use: TokenUse::Internal, .. } | How::Certificate | How::Anonymous => {
                me.service_name.clone_from(&caller.subject);
            }
        }
        Ok(me)
    }
}
