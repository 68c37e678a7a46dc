//! The methods of service tokens.

use tidegate_chassis::error::Violations;
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    asking::{Asking, refuse},
    identity::service_token,
    members::id_after,
    pages::Page,
};
use crate::{
    domain::{ServiceToken, ServiceTokenId},
    idempotency::Keep,
    identity::{NewServiceToken, ServiceTokenRequest},
};

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn create_service_token(
        &self,
        request: Request<pb::CreateServiceTokenRequest>,
    ) -> Answer<pb::CreateServiceTokenResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let asked_for = ServiceTokenRequest {
            name: wanted.name.clone(),
            organization_id: wanted.organization_id.clone(),
            expires_us: wanted.expires_at_ms.map(|at_ms| at_ms.saturating_mul(1_000)),
        };
        let render = |made: &NewServiceToken| pb::CreateServiceTokenResponse {
            service_token: Some(service_token(&made.row)),
            token: made.token.clone(),
        };
        let act = async |keep: Keep<NewServiceToken>| {
            self.service_tokens.create(&asking.caller, &asked_for, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.CreateServiceToken");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }

    pub(super) async fn list_service_tokens(
        &self,
        request: Request<pb::ListServiceTokensRequest>,
    ) -> Answer<pb::ListServiceTokensResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let own = asking.caller.organization.map_or_else(String::new, |id| id.to_string());
        let list = ["service_tokens", &own, &wanted.organization_id];
        let page = Page::read(&self.sealing, &list, wanted.page_size, &wanted.page_token, &mut violations);
        refuse(violations)?;
        let after = page.after().map(id_after).transpose()?.map(ServiceTokenId);
        let listed = self.service_tokens.list(&asking.caller, &wanted.organization_id, after, page.limit());
        let mut found = listed.await?;
        let cursor = |token: &ServiceToken| token.id.0.as_bytes().to_vec();
        let next_page_token = page.cut(&mut found, cursor);
        let service_tokens = found.iter().map(service_token).collect();
        Ok(Response::new(pb::ListServiceTokensResponse { service_tokens, next_page_token }))
    }

    pub(super) async fn revoke_service_token(
        &self,
        request: Request<pb::RevokeServiceTokenRequest>,
    ) -> Answer<pb::RevokeServiceTokenResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let render = |revoked: &ServiceToken| pb::RevokeServiceTokenResponse {
            service_token: Some(service_token(revoked)),
        };
        let act = async |keep: Keep<ServiceToken>| {
            let id = &wanted.service_token_id;
            self.service_tokens.revoke(&asking.caller, id, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.RevokeServiceToken");
        let again = async || self.service_tokens.put_in_force(&wanted.service_token_id);
        Ok(Response::new(self.idempotency.run_in_force(asked, wanted, render, act, again).await?))
    }
}
