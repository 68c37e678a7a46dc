//! The server's identity, renewed while it serves.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use rustls::ServerConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Files, TlsConfig, TlsError, certificate::not_after};
use crate::metrics::Metrics;

/// Where the file system does not tell of changes (some network mounts), we look ourselves.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Certificate and key are written one after the other; wait for the second.
const SETTLE: Duration = Duration::from_millis(100);

/// The certificate that new connections get.
pub(crate) struct Identity {
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    /// What was read last, whether it could be used or not.
    seen: Mutex<Files>,
    not_after: Gauge,
    reloads: Counter,
    failures: Counter,
}

impl Identity {
    /// # Errors
    /// If the files cannot be read or do not fit together.
    pub(crate) fn load(config: &TlsConfig, metrics: &Metrics) -> Result<Self, TlsError> {
        super::install_crypto_provider();
        let files = Files::read(config)?;
        let (server, chain) = files.build(config)?;
        let identity = Self {
            config: config.clone(),
            current: ArcSwap::from_pointee(server),
            seen: Mutex::new(files),
            not_after: Gauge::default(),
            reloads: Counter::default(),
            failures: Counter::default(),
        };
        identity.not_after.set(not_after(&chain[0]).unwrap_or_default());
        metrics.register(
            "tidegate_tls_certificate_not_after_seconds",
            "End of the server certificate's validity, Unix seconds",
            identity.not_after.clone(),
        );
        metrics.register(
            "tidegate_tls_reloads",
            "Renewed certificates taken into use",
            identity.reloads.clone(),
        );
        metrics.register(
            "tidegate_tls_reload_failures",
            "Renewed certificates that could not be used; the one before stays",
            identity.failures.clone(),
        );
        Ok(identity)
    }

    /// For the next connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Takes renewed files into use until `stop`.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        let (changed, mut changes) = mpsc::channel(1);
        let watcher = self.watcher(changed);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "certificates are looked at every minute: the file system does not tell of changes");
        }
        let look = async {
            loop {
                tokio::select! {
                    Some(()) = changes.recv() => tokio::time::sleep(SETTLE).await,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                self.reload();
            }
        };
        stop.run_until_cancelled(look).await;
    }

    /// Watches the folders, not the files: a renewal often swaps a symbolic link.
    fn watcher(&self, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // A full channel already holds the news.
                let _ = changed.try_send(());
            }
        })?;
        let mut folders: Vec<&Path> = [&self.config.cert, &self.config.key, &self.config.client_ca]
            .into_iter()
            .filter(|path| !path.as_os_str().is_empty())
            .filter_map(|path| folder(path))
            .collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }

    fn reload(&self) {
        let result = Files::read(&self.config).and_then(|files| {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == files {
                return Ok(None);
            }
            *seen = files.clone();
            files.build(&self.config).map(Some)
        });
        match result {
            Ok(None) => {}
            Ok(Some((server, chain))) => {
                self.current.store(Arc::new(server));
                let not_after = not_after(&chain[0]).unwrap_or_default();
                self.not_after.set(not_after);
                self.reloads.inc();
                tracing::info!(not_after, "renewed certificate in use for new connections");
            }
            Err(error) => {
                self.failures.inc();
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "renewed certificate cannot be used, the one before stays");
            }
        }
    }
}

/// Where the file lies; a bare name lies in the working directory.
fn folder(path: &Path) -> Option<&Path> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("cert.pem", ".")]
    #[case("tls/cert.pem", "tls")]
    #[case("/etc/tls/cert.pem", "/etc/tls")]
    fn folder_of_a_certificate_is_watched_however_its_path_is_written(
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(folder(Path::new(path)), Some(Path::new(expected)));
    }
}
