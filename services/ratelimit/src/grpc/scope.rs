//! What callers of one organization may touch: its own.

use tidegate_chassis::auth::{AuthError, Caller, RESERVED_NAMESPACES, caller};
use tidegate_proto::{ratelimit::v1 as pb, view::CheckView};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::limiter::{Question, Touches};

/// The attribute of a check that names its organization.
pub(super) const ORGANIZATION: &str = "organization";

/// What a caller may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything, what is [reserved](RESERVED_NAMESPACES) too.
    Internal,
    /// Everything else.
    All,
    /// What belongs to one organization.
    Of(Uuid),
}

impl Scope {
    /// That of the caller.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED if nobody is named.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        caller(request).map(Self::of_caller)
    }

    /// That of this caller.
    #[inline]
    pub(super) fn of_caller(caller: &Caller) -> Self {
        match caller.organization {
            Some(own) => Self::Of(own),
            None if caller.is_internal() => Self::Internal,
            None => Self::All,
        }
    }

    /// Whether a namespace may be counted in.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED: it is reserved.
    #[inline]
    pub(super) fn namespace(self, namespace: &str) -> Result<(), Status> {
        match (self, RESERVED_NAMESPACES.iter().find(|reserved| **reserved == namespace)) {
            (Self::All | Self::Of(_), Some(reserved)) => {
                Err(AuthError::OwnServicesOnly(reserved).to_status())
            }
            (Self::Internal, _) | (_, None) => Ok(()),
        }
    }

    /// Whether what only Tidegate's own services do may be done.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub(super) fn internal(self) -> Result<(), Status> {
        match self {
            Self::Internal => Ok(()),
            Self::All | Self::Of(_) => Err(AuthError::OwnServicesOnly("this method").to_status()),
        }
    }

    /// Whether a check may be asked: its namespace is not reserved, and every `organization` among its attributes has to be the caller's own, and there has to be
    /// one. That of an API key is not looked at here: whose it is, is known only once it is found.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    #[inline]
    pub(super) fn check(self, view: &CheckView<'_>) -> Result<(), Status> {
        self.namespace(view.namespace)?;
        let Self::Of(own) = self else { return Ok(()) };
        let mut named = view.attributes.iter().filter(|(name, _)| *name == ORGANIZATION).peekable();
        let is_named = named.peek().is_some() || !view.api_key.is_empty();
        if is_named && named.all(|(_, value)| is(own, value)) { Ok(()) } else { Err(another()) }
    }

    /// The counters that a question may charge or clear: for who is bound to an organization, its own.
    #[inline]
    pub(super) fn bind<A: ?Sized>(self, asked: Question<'_, A>) -> Question<'_, A> {
        match self {
            Self::Of(own) if !asked.dry_run => Question { touches: Touches::Of(own), ..asked },
            Self::Internal | Self::All | Self::Of(_) => asked,
        }
    }

    /// Whether an organization may be touched.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub(super) fn organization(self, organization: Uuid) -> Result<(), Status> {
        match self {
            Self::Internal | Self::All => Ok(()),
            Self::Of(own) if own == organization => Ok(()),
            Self::Of(_) => Err(another()),
        }
    }

    /// Whether what was counted of several organizations may be seen.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub(super) fn everything(self) -> Result<(), Status> {
        match self {
            Self::Internal | Self::All => Ok(()),
            Self::Of(_) => Err(another()),
        }
    }

    /// Whether an assignment may be seen.
    pub(super) fn sees_assignment(self, assignment: &pb::Assignment) -> bool {
        match self {
            Self::Internal | Self::All => true,
            Self::Of(own) => assignment.attribute == ORGANIZATION && is(own, &assignment.value),
        }
    }

    /// Whether an override may be seen: it has to name the organization.
    pub(super) fn sees_override(self, of: &pb::Override) -> bool {
        self.sees_key(of.key.iter().map(|of| (&*of.key, &*of.value)))
    }

    /// Whether an override may be asked for, as [`Self::sees_override`].
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub(super) fn key(self, request: &pb::GetOverrideRequest) -> Result<(), Status> {
        let is_seen = self.sees_key(request.key.iter().map(|of| (&*of.key, &*of.value)));
        if is_seen { Ok(()) } else { Err(another()) }
    }

    fn sees_key<'k>(self, mut key: impl Iterator<Item = (&'k str, &'k str)>) -> bool {
        match self {
            Self::Internal | Self::All => true,
            Self::Of(own) => key.any(|(name, pattern)| name == ORGANIZATION && is(own, pattern)),
        }
    }
}

/// As attributes write it: in lower case with hyphens. Other writings would be counted as another.
fn is(organization: Uuid, text: &str) -> bool {
    let mut buffer = Uuid::encode_buffer();
    organization.hyphenated().encode_lower(&mut buffer) == text
}

#[cold]
fn another() -> Status {
    AuthError::OtherOrganization.to_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa);

    fn may(attributes: &[(&str, &str)], api_key: &str) -> bool {
        let attributes = attributes.iter().copied().collect();
        Scope::Of(OWN).check(&CheckView { attributes, api_key, ..CheckView::default() }).is_ok()
    }

    #[test]
    fn check_of_one_organization_names_it_and_no_other() {
        let own = OWN.to_string();
        assert!(may(&[("organization", &own)], ""));
        assert!(may(&[("ip", "10.0.0.1"), ("organization", &own)], ""));
        assert!(!may(&[], ""));
        assert!(!may(&[("ip", "10.0.0.1")], ""));
        assert!(!may(&[("organization", "")], ""));
        assert!(!may(&[("organization", &own.to_uppercase())], ""));
        assert!(!may(&[("organization", &Uuid::nil().to_string())], ""));
        assert!(!may(&[("organization", &own), ("organization", "another")], ""));
        assert!(!may(&[("organization", "another"), ("organization", &own)], ""));
    }

    #[test]
    fn reserved_namespaces_are_for_our_own_services() {
        let own = OWN.to_string();
        for namespace in RESERVED_NAMESPACES {
            let attributes = [("organization", &*own)].into_iter().collect();
            let view = CheckView { namespace, attributes, ..CheckView::default() };
            for scope in [Scope::Of(OWN), Scope::All] {
                let refused = scope.check(&view).unwrap_err();
                assert_eq!(refused.code(), tonic::Code::PermissionDenied);
                assert!(refused.message().contains(namespace), "{}", refused.message());
            }
            assert!(Scope::Internal.check(&view).is_ok());
        }
        assert!(Scope::All.namespace("default").is_ok());
        assert!(Scope::All.internal().is_err() && Scope::Of(OWN).internal().is_err());
    }

    #[test]
    fn api_key_stands_for_its_organization_unless_another_is_named() {
        let own = OWN.to_string();
        assert!(may(&[], "tk_live_any"));
        assert!(may(&[("organization", &own)], "tk_live_any"));
        assert!(!may(&[("organization", "another")], "tk_live_any"));
    }

    #[test]
    fn of_overrides_and_assignments_one_organization_sees_those_that_name_it_alone() {
        let (own, upper) = (OWN.to_string(), OWN.to_string().to_uppercase());
        let of = |key: &[(&str, &str)]| pb::Override {
            key: key
                .iter()
                .map(|(key, value)| pb::r#override::KeyEntry {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            ..pb::Override::default()
        };
        for (key, is_own) in [
            (&[("organization", &*own)][..], true),
            (&[("ip", "10.0.0.1"), ("organization", &*own)], true),
            (&[("organization", "*")], false),
            (&[("organization", &own[..8])], false),
            (&[("organization", &*upper)], false),
            (&[("organization", "another")], false),
            (&[("user", &*own)], false),
            (&[], false),
        ] {
            assert_eq!(Scope::Of(OWN).sees_override(&of(key)), is_own, "{key:?}");
            assert!(Scope::All.sees_override(&of(key)) && Scope::Internal.sees_override(&of(key)), "{key:?}");
        }
        for (attribute, value, is_own) in
            [("organization", &*own, true), ("organization", "another", false), ("user", &*own, false)]
        {
            let of = pb::Assignment {
                attribute: attribute.to_owned(),
                value: value.to_owned(),
                ..pb::Assignment::default()
            };
            assert_eq!(Scope::Of(OWN).sees_assignment(&of), is_own, "{attribute} {value}");
            assert!(Scope::All.sees_assignment(&of) && Scope::Internal.sees_assignment(&of));
        }
    }
}
