//! Who is calling, and what the caller may do.

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, in every organization.
    Admin,
    /// Everything within one organization.
    TenantAdmin,
    /// Looks at one organization.
    User,
    /// A backend: checks, and writes audit events.
    Service,
}
