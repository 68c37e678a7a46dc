//! By what this client shows who it is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// How often a file is read again.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Between readings that refused calls ask for.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);

/// Where the service token comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum TokenSource {
    #[default]
    None,
    Text(String),
    File(PathBuf),
}

/// The service token as it is now.
#[derive(Debug, Default)]
pub(crate) struct Token {
    header: Arc<ArcSwapOption<HeaderValue>>,
    is_refused: Arc<Notify>,
    _reading: Option<AbortOnDropHandle<()>>,
}

impl Token {
    /// Reads it, and a file again and again.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(crate) async fn open(source: TokenSource) -> Result<Self, String> {
        let path = match source {
            TokenSource::None => return Ok(Self::default()),
            TokenSource::Text(text) => {
                let header = ArcSwapOption::from_pointee(Some(bearer(&text)?));
                return Ok(Self { header: Arc::new(header), ..Self::default() });
            }
            TokenSource::File(path) => path,
        };
        let header = Arc::new(ArcSwapOption::from_pointee(Some(read(&path).await?)));
        let is_refused = Arc::new(Notify::new());
        let reading = tokio::spawn(keep_reading(path, Arc::clone(&header), Arc::clone(&is_refused)));
        Ok(Self { header, is_refused, _reading: Some(AbortOnDropHandle::new(reading)) })
    }

    /// The value of `authorization`.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.header.load().as_deref().cloned()
    }

    /// The service does not like it, so perhaps there is another.
    pub(crate) fn refused(&self) {
        self.is_refused.notify_one();
    }
}

async fn keep_reading(path: PathBuf, header: Arc<ArcSwapOption<HeaderValue>>, is_refused: Arc<Notify>) {
    loop {
        tokio::time::sleep(LEAST_BETWEEN).await;
        // Either way it is time.
        let _ = tokio::time::timeout(READ_EVERY - LEAST_BETWEEN, is_refused.notified()).await;
        match read(&path).await {
            Ok(token) => header.store(Some(Arc::new(token))),
            // The old one may still be good.
            Err(error) => tracing::warn!(%error, "the service token cannot be read again"),
        }
    }
}

async fn read(path: &PathBuf) -> Result<HeaderValue, String> {
    let text = tokio::fs::read_to_string(path).await;
    bearer(&text.map_err(|error| format!("{}: {error}", path.display()))?)
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is printable ASCII without spaces".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_when_its_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::open(TokenSource::File(path.clone())).await.unwrap();
        assert_eq!(token.header().unwrap(), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        token.refused();
        let changed = async {
            while token.header().unwrap() != "Bearer two" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(READ_EVERY / 2, changed).await.expect("well before its time");
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused_at_once() {
        for text in ["", "  \n", "two words", "umlaut\u{e4}"] {
            assert!(Token::open(TokenSource::Text(text.to_owned())).await.is_err(), "{text:?}");
        }
        let missing = Token::open(TokenSource::File("no/such/file".into())).await.unwrap_err();
        assert!(missing.contains("no/such/file"), "{missing}");
    }
}
