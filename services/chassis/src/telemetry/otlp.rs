//! Export of spans over OTLP/gRPC.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// Longest time one batch may take, and the last one at the end.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A running export.
pub(super) struct Otlp {
    provider: SdkTracerProvider,
    stop: CancellationToken,
}

impl Otlp {
    /// Starts a thread for the connection to the collector; connects on the first batch.
    pub(super) fn start(service: &'static str, endpoint: &str) -> anyhow::Result<Self> {
        let mut collector = Endpoint::from_shared(endpoint.to_owned())
            .context("telemetry.otlp_endpoint")?
            .connect_timeout(EXPORT_TIMEOUT)
            .timeout(EXPORT_TIMEOUT);
        if collector.uri().scheme_str() == Some("https") {
            crate::tls::install_crypto_provider();
            collector = collector.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        // The connection lives on its own runtime: the process may have none yet, or several.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(async { collector.connect_lazy() });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Reported { exporter, is_failing: AtomicBool::new(false) })
            // Spans are opened for sampled requests alone, see `trace::request_span`.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        Ok(Self { provider, stop })
    }

    /// Hands spans of requests, and spans within them, to the export.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tidegate"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target().starts_with("tidegate")
            }))
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans could not be exported");
        }
        self.stop.cancel();
    }
}

/// Says once that the collector is gone, and once that it is back.
#[derive(Debug)]
struct Reported<E> {
    exporter: E,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "spans are lost: the collector does not take them");
            }
            Ok(()) if was_failing => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
