//! What every Tidegate service shares. No business rules.
//!
//! | module | gives |
//! |---|---|
//! | [`config`] | embedded defaults ← file ← environment; every fault named |
//! | [`telemetry`], [`trace`] | JSON logs, W3C trace context, OTLP |
//! | [`metrics`], [`ops`] | OpenMetrics on the ops port, with `/live` and `/ready` |
//! | [`auth`] | who calls, and what the caller may do |
//! | [`server`], [`tls`] | the gRPC server: workers, health, reflection, deadlines, drain, TLS |
//! | [`direct`] | hot methods without the layers of a general server |
//! | [`shutdown`] | SIGTERM and SIGINT as a token |
//! | [`error`] | statuses with rich details |
//! | [`breaker`] | a circuit breaker, pure |
//! | [`clock`] | time, randomness and UUIDv7, injected |
//!
//! A service's `main` is wiring:
//!
//! ```text
//! let config: Config = config::load(&source)?;
//! let _telemetry = telemetry::install("tidegate-ratelimit", &config.telemetry)?;
//! let listeners = Listeners::bind(&config.server).await?;
//! let auth = Authenticator::new(&config.auth, None, clock.clone(), &metrics)?;
//! let server = Server { listeners, config: config.server, metrics, clock, random, services, descriptors, environment, auth, access };
//! server.serve(move |_worker| RateLimitServiceServer::new(api.clone()), shutdown::signal()).await
//! ```

mod accept;
pub mod auth;
pub mod breaker;
pub mod clock;
pub mod config;
pub mod direct;
pub mod error;
pub mod metrics;
pub mod ops;
mod panics;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;
