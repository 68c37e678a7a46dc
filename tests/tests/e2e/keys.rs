//! Organizations, identity and API keys, over REST and gRPC, with every service as its own process.

mod cross_tenant;
mod kills;
mod revocation;
mod story;
