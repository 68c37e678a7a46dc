//! The first start: an operator, and an organization to try things out with.
//!
//! Made through the services' own API, as anybody would. What is needed to go on if the process ends in the middle is in a
//! file of the data folder that only its owner reads, until all of it was printed.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use tidegate_proto::keys::v1::{
    CreateApiKeyRequest, CreateOrganizationRequest, CreateServiceTokenRequest, LogInRequest,
    auth_service_client::AuthServiceClient, keys_service_client::KeysServiceClient,
};
use tonic::Request;

use crate::client::{self, Bearer};

/// Name of the file with the secrets of this installation.
const SECRETS: &str = "secrets.toml";

/// The operator's address.
pub(super) const OPERATOR: &str = "operator@localhost";

/// What a newcomer needs, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Demo {
    pub(crate) operator_email: String,
    pub(crate) operator_password: String,
    pub(crate) organization_id: String,
    pub(crate) api_key: String,
    pub(crate) service_token: String,
}

/// The secrets of an installation that nobody has configured any for: made at its first start.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    /// Under which hashes of keys are kept.
    pub(super) pepper: String,
    /// Seals what is kept of keys that sign tokens, and of answers.
    pub(super) sealing: String,
    /// Signs tokens among the services.
    pub(super) internal: String,
    /// The operator's password, until the demo was made and shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operator_password: Option<String>,
}

impl Secrets {
    /// New ones, of the system's randomness.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            pepper: drawn()?,
            sealing: drawn()?,
            internal: drawn()?,
            operator_password: Some(drawn()?),
        })
    }

    /// Those of the data folder, or new ones, which are kept there.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written. Its content is not shown.
    pub(super) fn keep_in(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(SECRETS);
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|_| {
                anyhow!("{} is not what was written there: without it no key is recognized", path.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let secrets = Self::new()?;
                secrets.write(&path)?;
                Ok(secrets)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Forgets the operator's password, once it was shown.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn forget_password(mut self, folder: &Path) -> anyhow::Result<()> {
        self.operator_password = None;
        self.write(&folder.join(SECRETS))
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let text = format!(
            "# The secrets of this installation. Without them no API key is recognized and no token is believed:\n\
             # keep a copy where only you can read it.\n{}",
            toml::to_string(self)?
        );
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// 32 random bytes, as 64 hexadecimal digits.
fn drawn() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    let mut random = fs::File::open("/dev/urandom").context("/dev/urandom")?;
    std::io::Read::read_exact(&mut random, &mut bytes).context("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes the organization with a key, and a token for a backend, as the operator. An idempotency key lets it be made
/// once, however often the first start is begun.
///
/// # Errors
///
/// The keys service does not do it.
pub(super) async fn make(keys: SocketAddr, password: &str) -> anyhow::Result<Demo> {
    let addr = keys.to_string();
    let mut auth = AuthServiceClient::new(client::connect_as(&addr, Bearer::default()).await?);
    let request = LogInRequest {
        email: OPERATOR.to_owned(),
        password: password.to_owned(),
        organization_id: String::new(),
    };
    let answer = auth.log_in(request).await.map_err(|status| client::explain(&status))?.into_inner();
    let token = answer.tokens.context("an answer without tokens")?.access_token;
    let mut client = KeysServiceClient::new(client::connect_as(&addr, Bearer::new(&token)?).await?);

    let request = CreateOrganizationRequest { name: "Demo".to_owned(), plan: "free".to_owned() };
    let made = client
        .create_organization(once(request, "organization"))
        .await
        .map_err(|status| client::explain(&status))?;
    let organization_id = made.into_inner().organization.context("an answer without an organization")?.id;
    let request = CreateApiKeyRequest {
        organization_id: organization_id.clone(),
        name: "Demo".to_owned(),
        ..CreateApiKeyRequest::default()
    };
    let made =
        client.create_api_key(once(request, "key")).await.map_err(|status| client::explain(&status))?;
    let api_key = made.into_inner().key_value;
    let request =
        CreateServiceTokenRequest { name: "demo".to_owned(), ..CreateServiceTokenRequest::default() };
    let made = client
        .create_service_token(once(request, "token"))
        .await
        .map_err(|status| client::explain(&status))?;
    let service_token = made.into_inner().token;
    Ok(Demo {
        operator_email: OPERATOR.to_owned(),
        operator_password: password.to_owned(),
        organization_id,
        api_key,
        service_token,
    })
}

fn once<T>(message: T, what: &str) -> Request<T> {
    let mut request = Request::new(message);
    let key = format!("tidegate-up-{what}").parse().expect("ASCII");
    request.metadata_mut().insert("idempotency-key", key);
    request
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_kept_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let first = Secrets::keep_in(folder.path()).unwrap();
        let again = Secrets::keep_in(folder.path()).unwrap();
        assert_eq!((&first.pepper, &first.operator_password), (&again.pepper, &again.operator_password));
        assert!(first.pepper.len() == 64 && first.pepper != first.sealing);
        let mode = fs::metadata(folder.path().join(SECRETS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        again.forget_password(folder.path()).unwrap();
        let later = Secrets::keep_in(folder.path()).unwrap();
        assert_eq!((later.pepper, later.operator_password), (first.pepper, None));
    }

    #[test]
    fn spoilt_secrets_stop_the_start_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SECRETS), "pepper = \"x\"\nsealing = 7").unwrap();
        let error = format!("{:#}", Secrets::keep_in(folder.path()).unwrap_err());
        assert!(error.contains(SECRETS) && !error.contains("pepper"), "{error}");
    }
}
