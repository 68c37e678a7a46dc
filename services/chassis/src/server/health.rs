//! What every server answers beside its own service: health and reflection.

use anyhow::Context;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::ops::Readiness;

/// Health of the server as a whole, as the protocol names it.
const WHOLE: &str = "";

/// The statuses that `grpc.health.v1` and `/ready` give, shared by all workers.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    services: &'static [&'static str],
}

impl Health {
    /// Not serving yet; and the routes to health and, if `reflect`, to reflection.
    ///
    /// # Errors
    /// If the descriptors cannot be decoded.
    pub(super) async fn new(
        services: &'static [&'static str],
        descriptors: &'static [u8],
        reflect: bool,
    ) -> anyhow::Result<(Self, Routes)> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Self { reporter, services };
        health.set(ServingStatus::NotServing).await;
        let mut routes = Routes::new(health_service);
        if reflect {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(descriptors)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            routes = routes
                .add_service(builder().build_v1().context("reflection")?)
                .add_service(builder().build_v1alpha().context("reflection")?);
        }
        Ok((health, routes.prepare()))
    }

    pub(super) async fn serving(&self, readiness: &Readiness) {
        self.set(ServingStatus::Serving).await;
        readiness.set(true);
    }

    pub(super) async fn not_serving(&self, readiness: &Readiness) {
        readiness.set(false);
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of `Watch`, which would otherwise last as long as their callers.
    pub(super) async fn end_watches(mut self) {
        for name in self.services.iter().copied().chain([WHOLE]) {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in self.services.iter().copied().chain([WHOLE]) {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// Every service that a server can answer for.
pub(super) fn descriptor_sets(own: &'static [u8]) -> [&'static [u8]; 4] {
    [
        own,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
}
