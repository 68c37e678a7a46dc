//! The service of tenants and their keys: each method is answered where its subject is.

use std::sync::Arc;

use tidegate_proto::keys::v1::{self as pb, keys_service_server::KeysService};
use tonic::{Request, Response, Status};

use super::{Handlers, replicas::Changes};

/// Answers the methods of the service. Cheap to clone.
#[derive(Clone)]
pub struct KeysApi(Arc<Handlers>);

impl KeysApi {
    /// Answers by these handlers.
    #[must_use]
    pub fn new(handlers: Handlers) -> Self {
        Self(Arc::new(handlers))
    }
}

#[tonic::async_trait]
impl KeysService for KeysApi {
    type WatchKeysStream = Changes;

    async fn create_organization(
        &self,
        request: Request<pb::CreateOrganizationRequest>,
    ) -> Result<Response<pb::CreateOrganizationResponse>, Status> {
        self.0.create_organization(request).await
    }

    async fn get_organization(
        &self,
        request: Request<pb::GetOrganizationRequest>,
    ) -> Result<Response<pb::GetOrganizationResponse>, Status> {
        self.0.get_organization(request).await
    }

    async fn list_organizations(
        &self,
        request: Request<pb::ListOrganizationsRequest>,
    ) -> Result<Response<pb::ListOrganizationsResponse>, Status> {
        self.0.list_organizations(request).await
    }

    async fn update_organization(
        &self,
        request: Request<pb::UpdateOrganizationRequest>,
    ) -> Result<Response<pb::UpdateOrganizationResponse>, Status> {
        self.0.update_organization(request).await
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        self.0.list_members(request).await
    }

    async fn update_member(
        &self,
        request: Request<pb::UpdateMemberRequest>,
    ) -> Result<Response<pb::UpdateMemberResponse>, Status> {
        self.0.update_member(request).await
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        self.0.remove_member(request).await
    }

    async fn create_invitation(
        &self,
        request: Request<pb::CreateInvitationRequest>,
    ) -> Result<Response<pb::CreateInvitationResponse>, Status> {
        self.0.create_invitation(request).await
    }

    async fn list_invitations(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Result<Response<pb::ListInvitationsResponse>, Status> {
        self.0.list_invitations(request).await
    }

    async fn delete_invitation(
        &self,
        request: Request<pb::DeleteInvitationRequest>,
    ) -> Result<Response<pb::DeleteInvitationResponse>, Status> {
        self.0.delete_invitation(request).await
    }

    async fn create_password_reset(
        &self,
        request: Request<pb::CreatePasswordResetRequest>,
    ) -> Result<Response<pb::CreatePasswordResetResponse>, Status> {
        self.0.create_password_reset(request).await
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        self.0.create_api_key(request).await
    }

    async fn import_api_keys(
        &self,
        request: Request<pb::ImportApiKeysRequest>,
    ) -> Result<Response<pb::ImportApiKeysResponse>, Status> {
        self.0.import_api_keys(request).await
    }

    async fn get_api_key(
        &self,
        request: Request<pb::GetApiKeyRequest>,
    ) -> Result<Response<pb::GetApiKeyResponse>, Status> {
        self.0.get_api_key(request).await
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        self.0.list_api_keys(request).await
    }

    async fn update_api_key(
        &self,
        request: Request<pb::UpdateApiKeyRequest>,
    ) -> Result<Response<pb::UpdateApiKeyResponse>, Status> {
        self.0.update_api_key(request).await
    }

    async fn rotate_api_key(
        &self,
        request: Request<pb::RotateApiKeyRequest>,
    ) -> Result<Response<pb::RotateApiKeyResponse>, Status> {
        self.0.rotate_api_key(request).await
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        self.0.revoke_api_key(request).await
    }

    async fn get_api_key_usage(
        &self,
        request: Request<pb::GetApiKeyUsageRequest>,
    ) -> Result<Response<pb::GetApiKeyUsageResponse>, Status> {
        self.0.get_api_key_usage(request).await
    }

    async fn grant_credits(
        &self,
        request: Request<pb::GrantCreditsRequest>,
    ) -> Result<Response<pb::GrantCreditsResponse>, Status> {
        self.0.grant_credits(request).await
    }

    async fn get_credits(
        &self,
        request: Request<pb::GetCreditsRequest>,
    ) -> Result<Response<pb::GetCreditsResponse>, Status> {
        self.0.get_credits(request).await
    }

    async fn verify_key(
        &self,
        request: Request<pb::VerifyKeyRequest>,
    ) -> Result<Response<pb::VerifyKeyResponse>, Status> {
        self.0.verify_key(request).await
    }

    async fn report_leaked_key(
        &self,
        request: Request<pb::ReportLeakedKeyRequest>,
    ) -> Result<Response<pb::ReportLeakedKeyResponse>, Status> {
        self.0.report_leaked_key(request).await
    }

    async fn create_service_token(
        &self,
        request: Request<pb::CreateServiceTokenRequest>,
    ) -> Result<Response<pb::CreateServiceTokenResponse>, Status> {
        self.0.create_service_token(request).await
    }

    async fn list_service_tokens(
        &self,
        request: Request<pb::ListServiceTokensRequest>,
    ) -> Result<Response<pb::ListServiceTokensResponse>, Status> {
        self.0.list_service_tokens(request).await
    }

    async fn revoke_service_token(
        &self,
        request: Request<pb::RevokeServiceTokenRequest>,
    ) -> Result<Response<pb::RevokeServiceTokenResponse>, Status> {
        self.0.revoke_service_token(request).await
    }

    async fn resolve_key(
        &self,
        request: Request<pb::ResolveKeyRequest>,
    ) -> Result<Response<pb::ResolveKeyResponse>, Status> {
        self.0.resolve_key(request).await
    }

    async fn watch_keys(&self, request: Request<pb::WatchKeysRequest>) -> Result<Response<Changes>, Status> {
        self.0.watch_keys(request).await
    }

    async fn report_key_usage(
        &self,
        request: Request<pb::ReportKeyUsageRequest>,
    ) -> Result<Response<pb::ReportKeyUsageResponse>, Status> {
        self.0.report_key_usage(request).await
    }

    async fn reserve_credits(
        &self,
        request: Request<pb::ReserveCreditsRequest>,
    ) -> Result<Response<pb::ReserveCreditsResponse>, Status> {
        self.0.reserve_credits(request).await
    }
}
