//! What is asked of each request.

use std::fmt;

use http::{HeaderName, request::Parts};

use super::{
    credentials::{Presented, presented},
    denial::Denial,
};
use crate::{Check, Client, Code, Decision};

/// Headers of a request that go on to the service, so that its logs and traces can be found.
const PASSED_ON: [HeaderName; 3] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

type Describe = Box<dyn Fn(&Parts, Check) -> Check + Send + Sync>;
type Of<T> = Box<dyn Fn(&Parts) -> T + Send + Sync>;

pub(super) struct Rules {
    pub(super) client: Client,
    pub(super) needs_key: bool,
    pub(super) describe: Describe,
    pub(super) scopes: Of<Option<String>>,
    pub(super) exempt: Of<bool>,
}

impl Rules {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            needs_key: true,
            describe: Box::new(|_, check| check),
            scopes: Box::new(|_| None),
            exempt: Box::new(|_| false),
        }
    }

    /// Asks Tidegate, unless it is clear already that there is no key.
    pub(super) async fn decide(&self, request: &Parts) -> Result<Decision, Box<Denial>> {
        let check = self.check(request)?;
        self.client.check(check).await.map_err(|error| {
            tracing::error!(%error, "a request could not be decided; the setting up of Tidegate or of its client is wrong");
            Box::new(Denial::undecided())
        })
    }

    fn check(&self, request: &Parts) -> Result<Check, Box<Denial>> {
        let scopes = (self.scopes)(request);
        let check = (self.describe)(request, Check::new());
        let mut check = match presented(&request.headers) {
            Presented::Key(key) => check.api_key(key),
            // The backend has found it elsewhere.
            Presented::Nothing if check.names_key() => check,
            Presented::Malformed => return Err(Box::new(Denial::of_code(Code::KeyNotFound))),
            Presented::Nothing if self.needs_key || scopes.is_some() => {
                return Err(Box::new(Denial::without_key()));
            }
            Presented::Nothing => check,
        };
        if let Some(scopes) = scopes {
            check = check.required_scopes(scopes);
        }
        for name in PASSED_ON {
            for value in request.headers.get_all(&name) {
                check = check.metadata(name.clone(), value.clone());
            }
        }
        Ok(check)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("needs_key", &self.needs_key).finish_non_exhaustive()
    }
}
