//! The REST gateway of Tidegate: a thin translation of the gRPC services.
//!
//! A request passes `server` (connections), `edge` (what every request has in common: id, client
//! address, sizes, security headers, problem documents, metrics), `anonymous` (the limit for callers
//! without credentials, and by `access` who may call what) and reaches a handler in `routes`, which calls a service through `upstream`.

mod access;
mod anonymous;
mod app;
mod body;
mod config;
mod edge;
#[cfg(test)]
mod fixture;
mod metrics;
mod problem;
mod rate_limit;
mod readiness;
mod reputation;
mod routes;
mod server;
mod service;
mod upstream;

pub use self::{
    config::{
        AnonymousConfig, CONFIG_DEFAULTS, Cidr, Config, CorsConfig, ENV_ALIASES, FOREIGN_ENV,
        ForwardAuthConfig, ForwardingHeader, GatewayAuthConfig, HealthConfig, LimitsConfig, Origin,
        ProxiesConfig, ServerConfig, UpstreamTlsConfig, UpstreamUrl, UpstreamsConfig,
    },
    routes::openapi,
    service::Service,
};
