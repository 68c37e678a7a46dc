//! From where a request came, as events tell it.

use serde_json::Map;
use tidegate_chassis::auth::{Caller, How, Role, TokenUse};
use uuid::Uuid;

use crate::domain::{Action, ActorType, Event, Outcome, ResourceType};

/// From where a request came, as far as it is known. `grpc/origin.rs` reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOrigin {
    /// Address of the client.
    pub ip_address: Option<String>,
    /// What the client says of itself, at most 512 bytes.
    pub user_agent: Option<String>,
    /// The id that the request has in logs.
    pub request_id: Option<String>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Id of an account, name of a service; empty if nobody is known.
    pub id: String,
    /// What it is.
    pub kind: ActorType,
}

impl Actor {
    /// An account.
    #[must_use]
    pub fn user(id: &impl ToString) -> Self {
        Self { id: id.to_string(), kind: ActorType::User }
    }

    /// This service, of itself.
    #[must_use]
    pub fn system() -> Self {
        Self { id: "tidegate-keys".to_owned(), kind: ActorType::System }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(caller: &Caller) -> Self {
        let kind = match (caller.role, &caller.how) {
            (_, How::Token { token_use: TokenUse::Access, .. }) => ActorType::User,
            (Role::Service, _) | (_, How::Certificate | How::Token { .. }) => ActorType::Service,
            (Role::Admin | Role::TenantAdmin | Role::User, How::Anonymous) => ActorType::Anonymous,
        };
        Self { id: caller.subject.clone(), kind }
    }

    /// Nobody is known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { id: String::new(), kind: ActorType::Anonymous }
    }
}

impl RequestOrigin {
    /// An event of this request, to be completed: without organization and details, and of a success.
    #[must_use]
    pub fn event(
        &self,
        (id, at_us): (Uuid, u64),
        actor: Actor,
        action: Action,
        (resource_type, resource_id): (ResourceType, String),
    ) -> Event {
        Event {
            id,
            organization_id: None,
            action,
            outcome: Outcome::Success,
            actor: actor.id,
            actor_type: actor.kind,
            resource_type,
            resource_id,
            ip_address: self.ip_address.clone(),
            user_agent: self.user_agent.clone(),
            request_id: self.request_id.clone(),
            details: Map::new(),
            at_us,
        }
    }
}
