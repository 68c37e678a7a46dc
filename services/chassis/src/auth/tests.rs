//! Tokens that are good, and each way in which one is not.

mod config;
mod fixture;
mod internal;
mod keys;
mod remote;
mod tokens;
