//! A backend that asks the rate-limit service over gRPC with a service token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use tidegate_proto::ratelimit::v1::{CheckRequest, CheckResponse};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Status, metadata::AsciiMetadataValue};

use crate::{rpc, times::Times};

/// So long a backend waits for an answer.
const WITHIN: Duration = Duration::from_secs(30);

/// Asks one replica. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Backend {
    client: rpc::Client,
    bearer: AsciiMetadataValue,
}

impl Backend {
    /// Whoever has this token, at the replica at `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// An address or a token that is none.
    pub fn new(address: &str, token: &str) -> anyhow::Result<Self> {
        Ok(Self { client: rpc::client(address)?, bearer: format!("Bearer {token}").parse()? })
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// The status of the call.
    pub async fn ask(&mut self, check: CheckRequest) -> Result<CheckResponse, Status> {
        let mut request = Request::new(check);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request.set_timeout(WITHIN);
        Ok(self.client.check(request).await?.into_inner())
    }

    /// Asks for a caller with this API key.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn check(&mut self, api_key: &str) -> Result<CheckResponse, Status> {
        self.ask(CheckRequest { api_key: api_key.to_owned(), ..CheckRequest::default() }).await
    }

    /// Asks for a caller with this API key at fixed times, whatever becomes of the calls before, until it is to end. Says how
    /// long each took, from when it was due.
    ///
    /// # Errors
    ///
    /// One of them is not admitted, or not by what was counted.
    pub async fn check_at_rate(
        self,
        api_key: String,
        every: Duration,
        ends: Arc<AtomicBool>,
    ) -> anyhow::Result<Times> {
        let (mut checks, mut due) = (JoinSet::new(), Instant::now());
        while !ends.load(Ordering::Relaxed) {
            let (mut backend, api_key) = (self.clone(), api_key.clone());
            checks.spawn(async move {
                let answer = backend.check(&api_key).await?;
                ensure!(answer.allowed && !answer.degraded, "{answer:?}");
                anyhow::Ok(due.elapsed())
            });
            due += every;
            tokio::time::sleep_until(due).await;
        }
        let mut took = Vec::with_capacity(checks.len());
        while let Some(time) = checks.join_next().await {
            took.push(time??);
        }
        Ok(Times::new(took))
    }
}
