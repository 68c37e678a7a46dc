//! End to end: every service as its own process, real clients, real Redis.
//!
//! Tests named `report_…` print a table; `cargo xtask report` runs them at full length. How long they
//! last otherwise is in docs/operations/testing.md.
#![expect(clippy::print_stdout, reason = "the tables of the long scenarios go to the screen")]

mod bad_input;
mod envoy;
mod free_plan;
mod gateway;
mod health_probe;
mod imported;
mod keys;
mod lease_command;
mod leases;
mod leases_rest;
mod never_over_admits;
mod overrides;
mod overrides_rest;
mod policies_command;
mod policies_database;
mod policies_reload;
mod policies_rest;
mod proxies;
mod redis_failover;
mod redis_outage;
mod seconds;
mod tidy;
mod tls;
mod up;
mod views_of_use;
