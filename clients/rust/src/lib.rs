//! Asks Tidegate from another backend who may call, and how often.
//!
//! ```no_run
//! use tidegate_client::{Check, Client};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let tidegate = Client::builder("http://tidegate-ratelimit:8081").service_token_file("token").build().await?;
//! let check = Check::new().api_key("tk_live_…").attribute("path", "/v1/validate").required_scopes("validate:write");
//! let decision = tidegate.check(check).await?;
//! if !decision.allowed {
//!     println!("{}, again in {:?}", decision.code.as_str(), decision.retry_after);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - A denial is a [`Decision`], not an [`Error`]. An error says that the question or the set-up is wrong.
//! - A call never takes longer than its deadline, 50 ms unless told otherwise. If the service does not answer by then, a
//!   [`FailureMode`] does, and the decision says `degraded`. A service that is gone is asked about once a second.
//! - Nothing is charged twice: a call is sent again only if it has certainly not been executed, or if it carries an idempotency
//!   key ([`Retries`]).
//! - [`layer::ProtectLayer`] protects a whole axum or tonic backend.

mod breaker;
mod builder;
mod call;
mod check;
mod client;
mod clock;
mod decision;
mod endpoint;
mod error;
mod fallback;
mod identity;
pub mod layer;
mod lease;
mod pool;
mod random;
mod remembered;
mod token;

pub use self::{
    builder::{BuildError, Builder, Retries},
    check::Check,
    client::Client,
    decision::{Code, Decision, Limit},
    error::{Error, Reason, Refusal, Violation},
    fallback::{FailureMode, LocalLimit},
    identity::{KeyIdentity, VerifiedKey},
    lease::Lease,
};
