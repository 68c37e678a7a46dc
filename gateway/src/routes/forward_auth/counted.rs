//! Callers of whom proxies ask, limited by address if what they show is not accepted.

use http::StatusCode;

use crate::{access::FORWARD_AUTH, anonymous, app::App, edge::RequestContext, problem::Problem};

/// Counts one of them, if the proxy names it: by that of a proxy nobody can be counted.
pub(super) struct Counted<'a> {
    pub(super) app: &'a App,
    /// The call, as if the caller had made it; none once it was counted.
    pub(super) context: Option<RequestContext>,
    /// The key that is being looked at, before anything is known of it.
    pub(super) pending: Option<&'a str>,
}

impl<'a> Counted<'a> {
    /// Lets the caller try a key, unless its address has tried too many and nobody accepted this one lately.
    ///
    /// # Errors
    /// 429.
    pub(super) async fn admit(&mut self, key: &'a str) -> Result<(), Box<Problem>> {
        let reputation = &self.app.shared.reputation;
        let is_doubtful =
            |context: &mut RequestContext| reputation.is_doubtful(&context.client.key(), key.as_bytes());
        match self.context.take_if(is_doubtful) {
            Some(context) => anonymous::limit(self.app, FORWARD_AUTH, &context).await.map(drop)?,
            None => self.pending = Some(key),
        }
        Ok(())
    }

    /// The answer to a denied call, which says whether the key was good at all.
    pub(super) async fn judged(&self, key: &str, denial: Problem) -> Box<Problem> {
        let reputation = &self.app.shared.reputation;
        let denial = Box::new(denial);
        match denial.status {
            StatusCode::UNAUTHORIZED => {
                reputation.refuse(key.as_bytes());
                self.refused(denial).await
            }
            status if status.is_server_error() => denial,
            _ => {
                reputation.accept(key.as_bytes());
                denial
            }
        }
    }

    /// The answer to a caller that shows nothing good: `problem`, or that of the limit.
    pub(super) async fn refused(&self, problem: Box<Problem>) -> Box<Problem> {
        let Some(context) = &self.context else { return problem };
        match anonymous::limit(self.app, FORWARD_AUTH, context).await {
            Ok(_headers) => problem,
            Err(denied) => denied,
        }
    }
}

impl Drop for Counted<'_> {
    /// A caller that hangs up while its key is looked at is counted all the same, unless the key is known to be good.
    fn drop(&mut self) {
        let is_unknown = |key: &&str| !self.app.shared.reputation.is_accepted(key.as_bytes());
        if let (Some(_), Some(context)) = (self.pending.filter(is_unknown), &self.context) {
            anonymous::charge(self.app, FORWARD_AUTH, context);
        }
    }
}
