//! The methods of members, invitations and password resets.

use tidegate_chassis::{auth::Role, error::Violations};
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Handlers,
    asking::{Asking, refuse},
    identity::{invitation, member},
    pages::Page,
};
use crate::{
    domain::{Invitation, InvitationId, Membership, User, UserId},
    error::KeysError,
    idempotency::Keep,
    identity::{NewInvitation, NewReset},
};

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Answer<pb::ListMembersResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let id = asking.organization(&wanted.organization_id, &mut violations)?.to_string();
        let list = ["members", &id];
        let page = Page::read(&self.sealing, &list, wanted.page_size, &wanted.page_token, &mut violations);
        refuse(violations)?;
        let after = page.after().map(member_after).transpose()?;
        let mut found = self.members.list(&asking.caller, &id, after, page.limit()).await?;
        let next_page_token = page.cut(&mut found, member_cursor);
        let members = found.iter().map(member).collect();
        Ok(Response::new(pb::ListMembersResponse { members, next_page_token }))
    }

    pub(super) async fn update_member(
        &self,
        request: Request<pb::UpdateMemberRequest>,
    ) -> Answer<pb::UpdateMemberResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let role = role_of_members(wanted.role, &mut violations);
        refuse(violations)?;
        let what = (wanted.organization_id.as_str(), wanted.user_id.as_str(), role);
        let render =
            |updated: &(Membership, User)| pb::UpdateMemberResponse { member: Some(member(updated)) };
        let act = async |keep: Keep<(Membership, User)>| {
            self.members.update(&asking.caller, what, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.UpdateMember");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }

    pub(super) async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::RemoveMemberResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let what = (wanted.organization_id.as_str(), wanted.user_id.as_str());
        let render = |(): &()| pb::RemoveMemberResponse {};
        let act =
            async |keep: Keep<()>| self.members.remove(&asking.caller, what, &asking.by.origin, &keep).await;
        let asked = asking.asked("KeysService.RemoveMember");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }

    pub(super) async fn create_invitation(
        &self,
        request: Request<pb::CreateInvitationRequest>,
    ) -> Answer<pb::CreateInvitationResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let role = role_of_members(wanted.role, &mut violations);
        refuse(violations)?;
        let whom = (wanted.organization_id.as_str(), wanted.email.as_str(), role);
        let render = |made: &NewInvitation| pb::CreateInvitationResponse {
            invitation: Some(invitation(&made.invitation)),
            token: made.token.clone(),
        };
        let act = async |keep: Keep<NewInvitation>| {
            self.members.invite(&asking.caller, whom, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.CreateInvitation");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }

    pub(super) async fn list_invitations(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Answer<pb::ListInvitationsResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let id = asking.organization(&wanted.organization_id, &mut violations)?.to_string();
        let list = ["invitations", &id];
        let page = Page::read(&self.sealing, &list, wanted.page_size, &wanted.page_token, &mut violations);
        refuse(violations)?;
        let after = page.after().map(id_after).transpose()?.map(InvitationId);
        let mut found = self.members.invitations(&asking.caller, &id, after, page.limit()).await?;
        let cursor = |invitation: &Invitation| invitation.id.0.as_bytes().to_vec();
        let next_page_token = page.cut(&mut found, cursor);
        let invitations = found.iter().map(invitation).collect();
        Ok(Response::new(pb::ListInvitationsResponse { invitations, next_page_token }))
    }

    pub(super) async fn delete_invitation(
        &self,
        request: Request<pb::DeleteInvitationRequest>,
    ) -> Answer<pb::DeleteInvitationResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let what = (wanted.organization_id.as_str(), wanted.invitation_id.as_str());
        let render = |(): &()| pb::DeleteInvitationResponse {};
        let act = async |keep: Keep<()>| {
            self.members.uninvite(&asking.caller, what, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.DeleteInvitation");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }

    pub(super) async fn create_password_reset(
        &self,
        request: Request<pb::CreatePasswordResetRequest>,
    ) -> Answer<pb::CreatePasswordResetResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let whose = (wanted.organization_id.as_str(), wanted.user_id.as_str());
        let render = |made: &NewReset| pb::CreatePasswordResetResponse {
            token: made.token.clone(),
            expires_at_ms: made.expires_us / 1_000,
        };
        let act = async |keep: Keep<NewReset>| {
            self.members.reset_password(&asking.caller, whose, &asking.by.origin, &keep).await
        };
        let asked = asking.asked("KeysService.CreatePasswordReset");
        Ok(Response::new(self.idempotency.run(asked, wanted, render, act).await?))
    }
}

fn role_of_members(role: i32, violations: &mut Violations) -> Role {
    match pb::Role::try_from(role) {
        Ok(pb::Role::TenantAdmin) => Role::TenantAdmin,
        Ok(pb::Role::User) => Role::User,
        Ok(pb::Role::Unspecified | pb::Role::Admin | pb::Role::Service) | Err(_) => {
            violations.add("role", "must be tenant_admin or user");
            Role::User
        }
    }
}

/// Where a page of members ended.
fn member_cursor((membership, user): &(Membership, User)) -> Vec<u8> {
    [&membership.joined_us.to_be_bytes()[..], user.id.0.as_bytes()].concat()
}

fn member_after(cursor: &[u8]) -> Result<(u64, UserId), KeysError> {
    let (joined, id) = cursor.split_first_chunk().ok_or_else(unreadable)?;
    Ok((u64::from_be_bytes(*joined), UserId(id_after(id)?)))
}

/// The id that a page ended with.
pub(super) fn id_after(cursor: &[u8]) -> Result<Uuid, KeysError> {
    Uuid::from_slice(cursor).map_err(|_| unreadable())
}

fn unreadable() -> KeysError {
    KeysError::Internal("a page token is signed, and cannot be read".to_owned())
}
