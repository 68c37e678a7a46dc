//! What a token says.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AuthError, Caller, How, Role};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// An operator's, from a login.
    Access,
    /// A backend's.
    Service,
    /// A service's among its own, for minutes.
    Internal,
}

/// The claims of a token, as they are signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is meant for.
    pub aud: String,
    /// Whom it stands for; empty if it does not say.
    #[serde(default)]
    pub sub: String,
    /// What that one may do.
    pub role: Role,
    /// The only organization that it may touch; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Uuid>,
    /// Address of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// When it expires, Unix seconds.
    pub exp: u64,
    /// Before when it is not good, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was issued, Unix seconds.
    #[serde(default)]
    pub iat: u64,
    /// Its id; empty if it has none.
    #[serde(default)]
    pub jti: String,
    /// What it is for.
    #[serde(rename = "use")]
    pub token_use: TokenUse,
}

impl Claims {
    /// Whom the claims name.
    ///
    /// # Errors
    ///
    /// [`Role::fits`] says that there is none such.
    pub(super) fn into_caller(self) -> Result<Caller, AuthError> {
        let Self { sub, role, org, email, exp, jti, token_use, .. } = self;
        role.fits(org.is_some()).map_err(AuthError::Invalid)?;
        let how = How::Token { id: jti, token_use, expires_at_s: exp };
        Ok(Caller { role, subject: sub, organization: org, email, how })
    }
}
