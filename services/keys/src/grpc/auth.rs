//! The service of accounts and tokens.

use std::sync::Arc;

use tidegate_chassis::auth;
use tidegate_proto::keys::v1::{self as pb, auth_service_server::AuthService};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    idempotency::{Asked, Idempotency},
    identity::{membership, role, signing_key, tokens, user},
    origin::TrustedProxies,
    render::organization,
};
use crate::{
    domain::SigningKey,
    error::KeysError,
    idempotency::Keep,
    identity::{Admitted, LogIn, Proof, Sessions, SignUp, Tokens},
    origin::Actor,
};

/// Answers the methods of the service. Cheap to clone.
#[derive(Clone)]
pub struct AuthApi(Arc<Inner>);

struct Inner {
    sessions: Sessions,
    idempotency: Idempotency,
    proxies: TrustedProxies,
}

impl AuthApi {
    /// Answers by these use cases.
    #[must_use]
    pub fn new(sessions: Sessions, idempotency: Idempotency, proxies: TrustedProxies) -> Self {
        Self(Arc::new(Inner { sessions, idempotency, proxies }))
    }
}

#[tonic::async_trait]
impl AuthService for AuthApi {
    async fn sign_up(
        &self,
        request: Request<pb::SignUpRequest>,
    ) -> Result<Response<pb::SignUpResponse>, Status> {
        let place = self.0.sessions.place()?;
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let wanted = SignUp {
            email: message.email.clone(),
            password: Zeroizing::new(message.password.clone()),
            organization_name: message.organization_name.clone(),
        };
        let render = |admitted: &Admitted| pb::SignUpResponse {
            user: Some(user(&admitted.user)),
            organization: Some(organization(&admitted.organization)),
            tokens: Some(tokens(&admitted.tokens)),
        };
        let act = async |keep: Keep<Admitted>| inner.sessions.sign_up(place, wanted, &origin, &keep).await;
        let asked = nobody("AuthService.SignUp", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn log_in(
        &self,
        request: Request<pb::LogInRequest>,
    ) -> Result<Response<pb::LogInResponse>, Status> {
        let place = self.0.sessions.place()?;
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let wanted = LogIn {
            email: message.email.clone(),
            password: Zeroizing::new(message.password.clone()),
            organization_id: message.organization_id.clone(),
        };
        let render = |given: &Tokens| pb::LogInResponse { tokens: Some(tokens(given)) };
        let act = async |keep: Keep<Tokens>| inner.sessions.log_in(place, wanted, &origin, &keep).await;
        let asked = nobody("AuthService.LogIn", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn exchange_id_token(
        &self,
        request: Request<pb::ExchangeIdTokenRequest>,
    ) -> Result<Response<pb::ExchangeIdTokenResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let wanted = (message.id_token.as_str(), message.organization_id.as_str());
        let render = |given: &Tokens| pb::ExchangeIdTokenResponse { tokens: Some(tokens(given)) };
        let act = async |keep: Keep<Tokens>| inner.sessions.exchange(wanted, &origin, &keep).await;
        let asked = nobody("AuthService.ExchangeIdToken", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn refresh(
        &self,
        request: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::RefreshResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let render = |given: &Tokens| pb::RefreshResponse { tokens: Some(tokens(given)) };
        let act =
            async |keep: Keep<Tokens>| inner.sessions.refresh(&message.refresh_token, &origin, &keep).await;
        let asked = nobody("AuthService.Refresh", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    /// It may come again as it is: nothing more is done then.
    async fn log_out(
        &self,
        request: Request<pb::LogOutRequest>,
    ) -> Result<Response<pb::LogOutResponse>, Status> {
        let origin = self.0.proxies.origin(&request);
        self.0.sessions.log_out(&request.get_ref().refresh_token, &origin).await?;
        Ok(Response::new(pb::LogOutResponse {}))
    }

    async fn get_me(
        &self,
        request: Request<pb::GetMeRequest>,
    ) -> Result<Response<pb::GetMeResponse>, Status> {
        let me = self.0.sessions.me(auth::caller(&request)?).await?;
        Ok(Response::new(pb::GetMeResponse {
            role: role(me.role).into(),
            user: me.user.as_ref().map(user),
            organization: me.organization.as_ref().map(organization),
            memberships: me.memberships.iter().map(membership).collect(),
            service_name: me.service_name,
        }))
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<pb::ChangePasswordResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let (caller, message) = (auth::caller(&request)?, request.get_ref());
        let passwords = (message.current_password.as_str(), message.new_password.as_str());
        let render = |given: &Tokens| pb::ChangePasswordResponse { tokens: Some(tokens(given)) };
        let act = async |keep: Keep<Tokens>| {
            inner.sessions.change_password(caller, passwords, &origin, &keep).await
        };
        let asked = Asked { caller: Some(&caller.subject), ..nobody("AuthService.ChangePassword", &request) };
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<pb::ResetPasswordResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let wanted = (message.token.as_str(), message.new_password.as_str());
        let render = |(): &()| pb::ResetPasswordResponse {};
        let act = async |keep: Keep<()>| inner.sessions.reset_password(wanted, &origin, &keep).await;
        let asked = nobody("AuthService.ResetPassword", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn accept_invitation(
        &self,
        request: Request<pb::AcceptInvitationRequest>,
    ) -> Result<Response<pb::AcceptInvitationResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let message = request.get_ref();
        let proof = match (message.password.as_str(), message.id_token.as_str()) {
            (password, "") => Proof::Password(password),
            ("", id_token) => Proof::IdToken(id_token),
            _ => {
                return Err(
                    KeysError::field("id_token", "goes in the place of a password, not with it").into()
                );
            }
        };
        let wanted = (message.token.as_str(), proof);
        let render = |admitted: &Admitted| pb::AcceptInvitationResponse {
            user: Some(user(&admitted.user)),
            organization: Some(organization(&admitted.organization)),
            tokens: Some(tokens(&admitted.tokens)),
        };
        let act = async |keep: Keep<Admitted>| inner.sessions.accept_invitation(wanted, &origin, &keep).await;
        let asked = nobody("AuthService.AcceptInvitation", &request);
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }

    async fn list_signing_keys(
        &self,
        _request: Request<pb::ListSigningKeysRequest>,
    ) -> Result<Response<pb::ListSigningKeysResponse>, Status> {
        let keys = match self.0.sessions.minter().keys() {
            Some(keys) => keys.list().await.map_err(KeysError::from)?,
            None => Vec::new(),
        };
        let keys = keys.iter().map(signing_key).collect();
        Ok(Response::new(pb::ListSigningKeysResponse { keys }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<pb::RotateSigningKeyRequest>,
    ) -> Result<Response<pb::RotateSigningKeyResponse>, Status> {
        let (inner, origin) = (&self.0, self.0.proxies.origin(&request));
        let (caller, message) = (auth::caller(&request)?, request.get_ref());
        let keys = inner.sessions.minter().keys().ok_or_else(shared)?;
        let actor = Actor::caller(caller);
        let render = |key: &SigningKey| pb::RotateSigningKeyResponse { key: Some(signing_key(key)) };
        let act = async |keep: Keep<SigningKey>| keys.rotate(&actor, &origin, &keep).await;
        let asked =
            Asked { caller: Some(&caller.subject), ..nobody("AuthService.RotateSigningKey", &request) };
        Ok(Response::new(inner.idempotency.run(asked, message, render, act).await?))
    }
}

fn shared() -> KeysError {
    KeysError::field(
        "identity.hs256_kid",
        "tokens are signed with a shared secret, which the settings rotate",
    )
}

/// A request of a caller who is nobody, or need not be anybody.
fn nobody<'a, T>(method: &'static str, request: &'a Request<T>) -> Asked<'a> {
    Asked { caller: None, method, metadata: request.metadata() }
}

#[cfg(test)]
mod tests;
