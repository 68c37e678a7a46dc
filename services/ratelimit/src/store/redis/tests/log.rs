//! What is logged while a test runs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tidegate_tests::eventually::eventually;
use tracing::subscriber::DefaultGuard;

/// The log of this thread, on which the whole runtime of a test runs.
pub(super) struct Log {
    written: Written,
    _until_dropped: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn start() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn text(&self) -> String {
        let written = self.written.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Waits until a line has all of these words.
    pub(super) async fn tells(&self, words: &[&str]) {
        let told = eventually("the log tells it", Duration::from_secs(20), async || {
            Ok(self.text().lines().any(|line| words.iter().all(|word| line.contains(word))))
        });
        assert!(told.await.is_ok(), "{words:?} are not in\n{}", self.text());
    }
}
