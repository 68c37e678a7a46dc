//! The clients of the services, and to which service each belongs.

use tidegate_proto::{
    keys::v1::{
        auth_service_client::AuthServiceClient, keys_service_client::KeysServiceClient,
        keys_service_server::SERVICE_NAME as KEYS,
    },
    ratelimit::v1::{
        rate_limit_service_client::RateLimitServiceClient,
        rate_limit_service_server::SERVICE_NAME as RATE_LIMIT,
    },
};
use tonic::transport::Channel;

/// Calls one address of the rate-limit service.
pub(crate) type RateLimitClient = RateLimitServiceClient<Channel>;
/// Calls one address of the keys service, about organizations and API keys.
pub(crate) type KeysClient = KeysServiceClient<Channel>;
/// Calls one address of the keys service, about accounts and tokens.
pub(crate) type AuthClient = AuthServiceClient<Channel>;

/// A service behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Decides how often callers may call.
    RateLimit,
    /// Knows organizations, operators and API keys.
    Keys,
}

impl Behind {
    /// As settings, logs and answers call it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "ratelimit",
            Self::Keys => "keys",
        }
    }

    /// As `grpc.health.v1` calls it.
    #[must_use]
    pub(crate) fn health_name(self) -> &'static str {
        match self {
            Self::RateLimit => RATE_LIMIT,
            Self::Keys => KEYS,
        }
    }
}

/// A client that calls one address.
pub(crate) trait ServiceClient {
    /// The service that knows its calls.
    const OF: Behind;

    /// On a connection.
    fn on(channel: Channel) -> Self;
}

impl ServiceClient for RateLimitClient {
    const OF: Behind = Behind::RateLimit;

    fn on(channel: Channel) -> Self {
        Self::new(channel)
    }
}

impl ServiceClient for KeysClient {
    const OF: Behind = Behind::Keys;

    fn on(channel: Channel) -> Self {
        Self::new(channel)
    }
}

impl ServiceClient for AuthClient {
    const OF: Behind = Behind::Keys;

    fn on(channel: Channel) -> Self {
        Self::new(channel)
    }
}
