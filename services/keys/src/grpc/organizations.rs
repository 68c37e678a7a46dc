//! The methods of organizations.

use tidegate_chassis::error::Violations;
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    asking::{Asking, refuse},
    fields,
    pages::Page,
    render,
};
use crate::{
    domain::{Organization, OrganizationId},
    error::KeysError,
    organizations::OrganizationUpdate,
};

/// The plan of an organization that is made without one.
const DEFAULT_PLAN: &str = "free";

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn create_organization(
        &self,
        request: Request<pb::CreateOrganizationRequest>,
    ) -> Answer<pb::CreateOrganizationResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_for_all()?;
        let mut violations = Violations::default();
        let name = fields::name("name", &asking.request.name, &mut violations);
        let plan = match asking.request.plan.as_str() {
            "" => DEFAULT_PLAN.to_owned(),
            plan => fields::plan(plan, &mut violations),
        };
        refuse(violations)?;
        let render = |organization: &Organization| pb::CreateOrganizationResponse {
            organization: Some(render::organization(organization)),
        };
        let act = |keep| self.organizations.create(&asking.by, name, plan, keep);
        let asked = asking.asked("KeysService.CreateOrganization");
        Ok(Response::new(self.idempotency.run(asked, &asking.request, render, act).await?))
    }

    pub(super) async fn get_organization(
        &self,
        request: Request<pb::GetOrganizationRequest>,
    ) -> Answer<pb::GetOrganizationResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let mut violations = Violations::default();
        let id = asking.organization(&asking.request.organization_id, &mut violations)?;
        refuse(violations)?;
        let organization = self.organizations.get(id).await?;
        Ok(Response::new(pb::GetOrganizationResponse {
            organization: Some(render::organization(&organization)),
        }))
    }

    pub(super) async fn list_organizations(
        &self,
        request: Request<pb::ListOrganizationsRequest>,
    ) -> Answer<pb::ListOrganizationsResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_for_all()?;
        let request = asking.request;
        let mut violations = Violations::default();
        let search = fields::search(&request.search, &mut violations);
        let list = ["organizations", &search];
        let (size, token) = (request.page_size, &request.page_token);
        let page = Page::read(&self.sealing, &list, size, token, &mut violations);
        refuse(violations)?;
        let after = page.after().map(cursor_of).transpose()?;
        let mut found = self.organizations.list(&search, after, page.limit()).await?;
        let next_page_token = page.cut(&mut found, cursor);
        let organizations = found.iter().map(render::organization).collect();
        Ok(Response::new(pb::ListOrganizationsResponse { organizations, next_page_token }))
    }

    pub(super) async fn update_organization(
        &self,
        request: Request<pb::UpdateOrganizationRequest>,
    ) -> Answer<pb::UpdateOrganizationResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let id = asking.organization(&wanted.organization_id, &mut violations)?;
        if !asking.is_admin()
            && (wanted.plan.is_some() || wanted.status.is_some() || wanted.monthly_quota.is_some())
        {
            let message = "plan, status and monthly_quota are changed by the role admin only";
            return Err(KeysError::RoleMissing(message).into());
        }
        let update = OrganizationUpdate {
            name: wanted.name.as_ref().map(|name| fields::name("name", name, &mut violations)),
            plan: wanted.plan.as_ref().map(|plan| fields::plan(plan, &mut violations)),
            status: wanted.status.map(|status| fields::organization_status(status, &mut violations)),
            monthly_quota: wanted.monthly_quota.map(|quota| fields::monthly_quota(quota, &mut violations)),
            etag: fields::etag(&wanted.etag),
        };
        refuse(violations)?;
        let render = |organization: &Organization| pb::UpdateOrganizationResponse {
            organization: Some(render::organization(organization)),
        };
        let act = |keep| self.organizations.update(&asking.by, id, update, keep);
        let asked = asking.asked("KeysService.UpdateOrganization");
        let again = async || self.organizations.put_in_force(id).await;
        let answer = self.idempotency.run_in_force(asked, &asking.request, render, act, again);
        Ok(Response::new(answer.await?))
    }
}

/// Where a page of organizations ended.
fn cursor(organization: &Organization) -> Vec<u8> {
    [organization.id.0.as_bytes(), organization.name.as_bytes()].concat()
}

fn cursor_of(cursor: &[u8]) -> Result<(String, OrganizationId), KeysError> {
    let wrong = || KeysError::Internal("a page token is signed, and cannot be read".to_owned());
    let (id, name) = cursor.split_first_chunk().ok_or_else(wrong)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| wrong())?;
    Ok((name, OrganizationId(uuid::Uuid::from_bytes(*id))))
}
