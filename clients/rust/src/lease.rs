//! Places of concurrency limits that are held.

use std::{fmt, time::Duration};

use tidegate_proto::ratelimit::v1 as proto;
use tokio::{runtime::Handle, time::Instant};

use crate::{Client, Error};

/// Places of concurrency limits. They are given back when this is dropped; [`release`](Self::release) waits for it. If the release
/// does not reach the service, the places come back when the lease expires.
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    id: String,
    expires_at: Instant,
    /// Where it is released; absent once it is.
    client: Option<Client>,
}

impl Lease {
    /// What RenewLease and ReleaseLease ask for.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it expires unless it is renewed; a holder that stops by then never shares its place.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// Lets it last longer, counted from now: by `ttl`, or as long as when it was taken.
    ///
    /// # Errors
    ///
    /// [`Reason::LeaseNotFound`](crate::Reason::LeaseNotFound): it has ended, and the holder must stop. Others: nobody knows whether
    /// it was renewed; to try again is safe.
    pub async fn renew(&mut self, ttl: Option<Duration>) -> Result<(), Error> {
        let Some(client) = &self.client else { return Err(Error::Broken("the lease was released")) };
        // Counted from before it was sent, so never too long.
        let sent = Instant::now();
        let renewed = client.renew_lease(self.id.clone(), ttl).await?;
        self.expires_at = after(sent, renewed.expires_after_ms);
        Ok(())
    }

    /// Gives the places back, and answers whether they were held until now.
    ///
    /// # Errors
    ///
    /// The service cannot be reached; the lease expires by itself.
    pub async fn release(mut self) -> Result<bool, Error> {
        match self.client.take() {
            Some(client) => client.release_lease(std::mem::take(&mut self.id)).await,
            None => Ok(false),
        }
    }

    /// Keeps the places until the lease expires, and answers its id for whoever is to release it.
    #[must_use]
    pub fn keep(mut self) -> String {
        self.client = None;
        std::mem::take(&mut self.id)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has the id can release it.
        f.debug_struct("Lease").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime nothing can be sent, and the lease expires.
        if let (Some(client), Ok(runtime)) = (self.client.take(), Handle::try_current()) {
            let id = std::mem::take(&mut self.id);
            runtime.spawn(async move {
                if let Err(error) = client.release_lease(id).await {
                    tracing::debug!(%error, "a lease could not be released; it expires");
                }
            });
        }
    }
}

/// Makes guards of the leases in answers.
pub(crate) struct Releaser {
    client: Option<Client>,
    sent: Instant,
}

impl Releaser {
    /// For the answer to a call that is about to be sent.
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: Some(client.clone()), sent: Instant::now() }
    }

    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { client: None, sent: Instant::now() }
    }

    pub(crate) fn guard(&self, lease: proto::Lease) -> Lease {
        let expires_at = after(self.sent, lease.expires_after_ms);
        Lease { id: lease.id, expires_at, client: self.client.clone() }
    }
}

/// No later than a clock can tell.
fn after(sent: Instant, millis: u64) -> Instant {
    sent.checked_add(Duration::from_millis(millis)).unwrap_or(sent)
}
