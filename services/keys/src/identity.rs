//! Who somebody is: accounts and passwords, the tokens that stand for them, and who belongs to an organization.
//!
//! Use cases read rows, decide, and write once; `grpc` translates for them. A password is hashed before anything is written, so that
//! nothing waits for it in a transaction.

mod attempts;
mod config;
#[cfg(test)]
pub(crate) mod fixture;
mod members;
pub(crate) mod names;
mod oidc;
mod passwords;
mod rules;
mod secrets;
mod service_tokens;
mod sessions;
mod signing;
mod tokens;

pub use self::{
    attempts::{Attempt, AttemptLimiter, Attempts, LocalAttempts, Ticket, Verdict},
    config::{IdentityConfig, LimitsConfig, OidcAlgorithm, OidcIssuerConfig, PasswordsConfig},
    members::{Members, NewInvitation, NewReset},
    oidc::{ExternalUser, HttpKeySets, Issuers, KeySets},
    passwords::{Passwords, Place},
    secrets::{OneTime, hash_of},
    service_tokens::{NewServiceToken, ServiceTokenRequest, ServiceTokens},
    sessions::{Admitted, LogIn, Me, Proof, Sessions, SignUp},
    signing::{Signer, SigningKeys},
    tokens::{Minter, Tokens},
};
