//! Who may call what. Which organization's things a caller may touch is the handlers' business.

use tidegate_chassis::auth::{
    Access::{self, Public, Roles},
    Role,
};

const ADMIN: Access = Roles(&[Role::Admin]);
const ADMINS: Access = Roles(&[Role::Admin, Role::TenantAdmin]);
const OPERATORS: Access = Roles(&[Role::Admin, Role::TenantAdmin, Role::User]);
const VERIFIERS: Access = Roles(&[Role::Admin, Role::TenantAdmin, Role::Service]);
const BACKENDS: Access = Roles(&[Role::Service]);
const ANYBODY_KNOWN: Access = Roles(&Role::ALL);

/// Every method with those who may call it, as keys.proto and auth.proto say.
pub const ACCESS: &[(&str, Access)] = &[
    ("/tidegate.keys.v1.KeysService/CreateOrganization", ADMIN),
    ("/tidegate.keys.v1.KeysService/GetOrganization", ANYBODY_KNOWN),
    ("/tidegate.keys.v1.KeysService/ListOrganizations", ADMIN),
    ("/tidegate.keys.v1.KeysService/UpdateOrganization", ADMINS),
    ("/tidegate.keys.v1.KeysService/ListMembers", OPERATORS),
    ("/tidegate.keys.v1.KeysService/UpdateMember", ADMINS),
    ("/tidegate.keys.v1.KeysService/RemoveMember", ADMINS),
    ("/tidegate.keys.v1.KeysService/CreateInvitation", ADMINS),
    ("/tidegate.keys.v1.KeysService/ListInvitations", ADMINS),
    ("/tidegate.keys.v1.KeysService/DeleteInvitation", ADMINS),
    ("/tidegate.keys.v1.KeysService/CreatePasswordReset", ADMINS),
    ("/tidegate.keys.v1.KeysService/CreateApiKey", ADMINS),
    ("/tidegate.keys.v1.KeysService/ImportApiKeys", ADMINS),
    ("/tidegate.keys.v1.KeysService/GetApiKey", OPERATORS),
    ("/tidegate.keys.v1.KeysService/ListApiKeys", OPERATORS),
    ("/tidegate.keys.v1.KeysService/UpdateApiKey", ADMINS),
    ("/tidegate.keys.v1.KeysService/RotateApiKey", ADMINS),
    ("/tidegate.keys.v1.KeysService/RevokeApiKey", ADMINS),
    ("/tidegate.keys.v1.KeysService/GetApiKeyUsage", OPERATORS),
    ("/tidegate.keys.v1.KeysService/GrantCredits", ADMINS),
    ("/tidegate.keys.v1.KeysService/GetCredits", OPERATORS),
    ("/tidegate.keys.v1.KeysService/VerifyKey", VERIFIERS),
    ("/tidegate.keys.v1.KeysService/ReportLeakedKey", Public),
    ("/tidegate.keys.v1.KeysService/CreateServiceToken", ADMINS),
    ("/tidegate.keys.v1.KeysService/ListServiceTokens", ADMINS),
    ("/tidegate.keys.v1.KeysService/RevokeServiceToken", ADMINS),
    ("/tidegate.keys.v1.KeysService/ResolveKey", BACKENDS),
    ("/tidegate.keys.v1.KeysService/WatchKeys", BACKENDS),
    ("/tidegate.keys.v1.KeysService/ReportKeyUsage", BACKENDS),
    ("/tidegate.keys.v1.KeysService/ReserveCredits", BACKENDS),
    ("/tidegate.keys.v1.AuthService/SignUp", Public),
    ("/tidegate.keys.v1.AuthService/LogIn", Public),
    ("/tidegate.keys.v1.AuthService/ExchangeIdToken", Public),
    ("/tidegate.keys.v1.AuthService/Refresh", Public),
    ("/tidegate.keys.v1.AuthService/LogOut", Public),
    ("/tidegate.keys.v1.AuthService/GetMe", ANYBODY_KNOWN),
    ("/tidegate.keys.v1.AuthService/ChangePassword", OPERATORS),
    ("/tidegate.keys.v1.AuthService/ResetPassword", Public),
    ("/tidegate.keys.v1.AuthService/AcceptInvitation", Public),
    ("/tidegate.keys.v1.AuthService/ListSigningKeys", Public),
    ("/tidegate.keys.v1.AuthService/RotateSigningKey", ADMIN),
];
