//! Who is logged in on this machine: the tokens that `tidegate login` left behind.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tidegate_chassis::clock::Clock;
use tidegate_proto::keys::v1::{
    LogOutRequest, RefreshRequest, Tokens, auth_service_client::AuthServiceClient,
    keys_service_client::KeysServiceClient,
};
use tonic::{Request, metadata::MetadataValue};

use crate::client::{self, Bearer, Connection};

/// An access token that is good for less than this is refreshed before it is used.
const MARGIN_MS: u64 = 60_000;

/// Names another file than the usual one.
const PATH: &str = "TIDEGATE_CREDENTIALS";

/// Where the keys service is.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeysAddress {
    /// gRPC address of the keys service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082", env = "TIDEGATE_KEYS_ADDR")]
    pub(crate) addr: String,
}

/// Tokens by the address of the service that gave them. The file is for its owner's eyes only.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Credentials {
    #[serde(default)]
    sessions: BTreeMap<String, Session>,
}

/// The tokens of one login.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Session {
    access_token: String,
    access_expires_at_ms: u64,
    refresh_token: String,
}

impl KeysAddress {
    /// A client that shows the token of `TIDEGATE_TOKEN`, or of whoever is logged in.
    ///
    /// # Errors
    ///
    /// Nobody is logged in, the login has ended, or the service cannot be reached.
    pub(crate) async fn connect(&self) -> anyhow::Result<KeysServiceClient<Connection>> {
        let bearer = self.bearer().await?;
        Ok(KeysServiceClient::new(client::connect_as(&self.addr, bearer).await?))
    }

    /// The same for accounts and tokens.
    ///
    /// # Errors
    ///
    /// As of [`connect`](Self::connect).
    pub(crate) async fn connect_auth(&self) -> anyhow::Result<AuthServiceClient<Connection>> {
        let bearer = self.bearer().await?;
        Ok(AuthServiceClient::new(client::connect_as(&self.addr, bearer).await?))
    }

    /// A client that shows nothing, for those who have no token yet.
    ///
    /// # Errors
    ///
    /// The service cannot be reached.
    pub(crate) async fn connect_as_nobody(&self) -> anyhow::Result<AuthServiceClient<Connection>> {
        Ok(AuthServiceClient::new(client::connect_as(&self.addr, Bearer::default()).await?))
    }

    async fn bearer(&self) -> anyhow::Result<Bearer> {
        let of_environment = Bearer::of_environment()?;
        if of_environment.is_some() {
            return Ok(of_environment);
        }
        Bearer::new(&self.access_token().await?)
    }

    /// An access token of who is logged in, refreshed if it is about to expire.
    ///
    /// # Errors
    ///
    /// Nobody is logged in, or the login has ended.
    pub(crate) async fn access_token(&self) -> anyhow::Result<String> {
        let path = path()?;
        // A refresh token is good once: of commands that run at the same time one uses it, and the others find its successor.
        let _alone = lock(&path)?;
        let mut credentials = Credentials::read(&path)?;
        let Some(session) = credentials.sessions.get(&self.addr) else {
            bail!("nobody is logged in at {}: `tidegate login`, or set TIDEGATE_TOKEN", self.addr);
        };
        if Clock::system().now_us() / 1_000 + MARGIN_MS < session.access_expires_at_ms {
            return Ok(session.access_token.clone());
        }
        let mut auth = self.connect_as_nobody().await?;
        let mut request = Request::new(RefreshRequest { refresh_token: session.refresh_token.clone() });
        // If the answer is lost, the next command is given the same.
        request.metadata_mut().insert("idempotency-key", MetadataValue::from_static("tidegate-refresh"));
        let answer = auth.refresh(request).await.map_err(|status| client::explain(&status));
        let tokens = answer.context("the login has ended: `tidegate login`")?.into_inner().tokens;
        let session = Session::new(tokens.context("an answer without tokens")?);
        let token = session.access_token.clone();
        credentials.sessions.insert(self.addr.clone(), session);
        credentials.write(&path)?;
        Ok(token)
    }

    /// Keeps the tokens of a login for the commands after it.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn keep(&self, tokens: Tokens) -> anyhow::Result<PathBuf> {
        let path = path()?;
        let _alone = lock(&path)?;
        let mut credentials = Credentials::read(&path)?;
        credentials.sessions.insert(self.addr.clone(), Session::new(tokens));
        credentials.write(&path)?;
        Ok(path)
    }

    /// Ends a login: the service is told first, so that nothing is forgotten that is good still. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// The service cannot be told, or the file cannot be read or written.
    pub(crate) async fn end(&self) -> anyhow::Result<bool> {
        let path = path()?;
        let _alone = lock(&path)?;
        let mut credentials = Credentials::read(&path)?;
        let Some(session) = credentials.sessions.remove(&self.addr) else { return Ok(false) };
        let mut auth = self.connect_as_nobody().await?;
        let request = LogOutRequest { refresh_token: session.refresh_token };
        auth.log_out(request).await.map_err(|status| client::explain(&status))?;
        credentials.write(&path)?;
        Ok(true)
    }
}

impl Session {
    fn new(tokens: Tokens) -> Self {
        let now_ms = Clock::system().now_us() / 1_000;
        Self {
            access_token: tokens.access_token,
            access_expires_at_ms: now_ms + tokens.expires_in_s * 1_000,
            refresh_token: tokens.refresh_token,
        }
    }
}

impl Credentials {
    fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            // What it says of tokens is not for the screen.
            Ok(text) => toml::from_str(&text)
                .map_err(|_| anyhow::anyhow!("{} is no file of credentials: remove it", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Written beside, under a name that nobody knows before, and renamed: a reader finds all of it or what was there before.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", path.display());
        let mut beside = NamedTempFile::new_in(folder(path)?).with_context(failed)?;
        beside.write_all(toml::to_string(self)?.as_bytes()).with_context(failed)?;
        beside.persist(path).map(drop).with_context(failed)
    }
}

/// Waits until no other command works with the credentials.
fn lock(path: &Path) -> anyhow::Result<Flock<fs::File>> {
    folder(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let failed = || format!("cannot lock {}", path.display());
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside);
    Flock::lock(file.with_context(failed)?, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(failed)
}

/// The folder of the credentials, which is made if it is not there.
fn folder(path: &Path) -> anyhow::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// `$TIDEGATE_CREDENTIALS`, or `tidegate/credentials.toml` in the user's folder of settings.
fn path() -> anyhow::Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = || of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")));
    of(PATH)
        .or_else(|| Some(folder()?.join("tidegate").join("credentials.toml")))
        .with_context(|| format!("set {PATH}: neither it nor HOME says where credentials are kept"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session() -> Session {
        Session { access_token: "a".to_owned(), access_expires_at_ms: 7, refresh_token: "r".to_owned() }
    }

    #[test]
    fn credentials_are_kept_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper").join("credentials.toml");
        let mut credentials = Credentials::read(&path).unwrap();
        assert!(credentials.sessions.is_empty());
        credentials.sessions.insert("127.0.0.1:8082".to_owned(), session());
        credentials.write(&path).unwrap();
        let read = Credentials::read(&path).unwrap();
        assert_eq!(read.sessions["127.0.0.1:8082"].refresh_token, "r");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_spoilt_file_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.toml");
        fs::write(&path, "sessions = \"secret\"").unwrap();
        let error = format!("{:#}", Credentials::read(&path).unwrap_err());
        assert!(error.contains("credentials.toml") && !error.contains("secret"), "{error}");
    }
}
