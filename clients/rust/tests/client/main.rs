//! The client against the real service, as its own process.

mod checks;
mod credentials;
mod example;
mod fixture;
mod layer_axum;
mod layer_tonic;
mod leases;
mod lossy;
mod outages;
mod replicas;
mod retries;
mod tls;
