//! Checks that name an API key.

use std::net::IpAddr;

use tidegate_credentials::{ScopeExpression, Standing};
use tidegate_proto::{Writer, view::CheckView};
use tonic::Status;

use super::{
    ANSWER_BYTES, Decided, Shared,
    direct::Turn,
    error::{keys_status, to_status},
    parse::{self, Asked},
    refused,
    scope::Scope,
};
use crate::{
    domain::PolicySet,
    keys::{Found, Keys, KeysError, Record},
    limiter::{CheckError, Question, Verdict},
};

/// How often a check is prepared whose organization changes in the meantime.
const MOST_ATTEMPTS: usize = 4;

/// Writes what came of one check of many: its `result` as the field of that number, or its `error` as the field after it.
pub(super) fn outcome(answer: Result<&[u8], &Status>, result: u8, out: &mut Writer<'_>) {
    match answer {
        Ok(answer) => out.long_message(result, |out| out.written(answer)),
        Err(status) => refused(status, result, out),
    }
}

/// How a key is used.
struct Used<'v> {
    asked: Asked<'v>,
    client_ip: Option<IpAddr>,
    required_scopes: Option<ScopeExpression<'v>>,
    scope: Scope,
}

impl<'v> Used<'v> {
    /// As a view says whose fields have been found valid.
    fn of(view: &'v CheckView<'_>, scope: Scope) -> Self {
        let required_scopes = match view.required_scopes {
            "" => None,
            scopes => ScopeExpression::parse(scopes).ok(),
        };
        Self { asked: parse::asked(view), client_ip: view.client_ip.parse().ok(), required_scopes, scope }
    }

    /// What the key is good for. That of another tenant is nobody's.
    fn standing(&self, record: &Record, now_us: u64) -> Standing {
        if self.scope.organization(record.organization).is_err() {
            return Standing::KeyNotFound;
        }
        record.standing(now_us, self.client_ip, self.required_scopes.as_ref())
    }
}

impl Shared {
    fn keys(&self) -> Result<&Keys, Status> {
        self.keys.as_ref().ok_or_else(|| keys_status(KeysError::NotConfigured))
    }

    /// Decides a check that names an API key, and writes the answer. What is remembered of the key is asked for again if its
    /// organization has changed since.
    ///
    /// # Errors
    ///
    /// It cannot be decided.
    pub(super) async fn check_by_key(
        &self,
        policies: &PolicySet,
        view: &CheckView<'_>,
        scope: Scope,
    ) -> Result<Vec<u8>, Status> {
        let (keys, used) = (self.keys()?, Used::of(view, scope));
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        let mut out = Writer::new(&mut answer);
        let mut found = keys.find(view.api_key).await;
        for _ in 0..MOST_ATTEMPTS {
            let Found::Key(record) = found.map_err(keys_status)? else {
                self.deny(&used, Standing::KeyNotFound, None, policies, &mut out);
                return Ok(answer);
            };
            let standing = used.standing(&record, self.limiter.now_us());
            if standing != Standing::Accepted {
                // Another word may have been spoken since.
                if !self.limiter.is_stale(record.fence()).await {
                    self.deny(&used, standing, Some(&record), policies, &mut out);
                    return Ok(answer);
                }
            } else {
                let attributes = record.attributes(used.asked.attributes);
                let question = Question { attributes: &attributes[..], ..used.asked };
                let decided = self.limiter.check_by(policies, question, Some(record.terms())).await;
                if !matches!(decided, Err(CheckError::Stale)) {
                    self.answer_by_key(&decided, &record, policies, &question, &mut out)?;
                    return Ok(answer);
                }
            }
            found = keys.find_anew(view.api_key).await;
        }
        Err(keys_status(KeysError::Changing))
    }

    /// Writes what was decided, and counts it.
    fn answer_by_key(
        &self,
        decided: &Decided<'_>,
        record: &Record,
        policies: &PolicySet,
        asked: &Asked<'_>,
        out: &mut Writer<'_>,
    ) -> Result<(), Status> {
        self.count(decided, policies, asked);
        let verdict = decided.as_ref().map_err(to_status)?;
        if let (Some(keys), false) = (&self.keys, asked.dry_run) {
            keys.used(record, verdict.reason.as_str(), verdict.at_us);
        }
        self.renderer.check(verdict, out);
        out.written(&record.identity);
        Ok(())
    }

    /// Writes that a key is not good for it, and counts that.
    fn deny(
        &self,
        used: &Used<'_>,
        standing: Standing,
        record: Option<&Record>,
        policies: &PolicySet,
        out: &mut Writer<'_>,
    ) {
        let verdict = Verdict::refused_by_key(standing, self.limiter.now_us());
        let asked = used.asked;
        self.renderer.check(&verdict, out);
        // That of another tenant is not told.
        if let (Some(record), true) = (record, standing != Standing::KeyNotFound) {
            out.written(&record.identity);
            if let (Some(keys), false) = (&self.keys, asked.dry_run) {
                keys.used(record, standing.as_str(), verdict.at_us);
            }
        }
        self.count(&Ok(verdict), policies, &asked);
    }
}

impl Turn<'_> {
    /// Whose the key of a check is, if that is known without waiting.
    ///
    /// # Errors
    ///
    /// No keys service is set.
    pub(super) fn find_key(&self, view: &CheckView<'_>) -> Result<Option<Found>, Status> {
        Ok(self.shared.keys()?.at_once(view.api_key))
    }

    /// As [`Shared::check_by_key`], at once. Callers of one tenant do not come here.
    pub(super) fn check_by_key(
        &self,
        view: &CheckView<'_>,
        found: &Found,
        out: &mut Writer<'_>,
    ) -> Result<(), Status> {
        let (shared, policies, used) = (self.shared, &*self.policies, Used::of(view, Scope::All));
        let Found::Key(record) = found else {
            shared.deny(&used, Standing::KeyNotFound, None, policies, out);
            return Ok(());
        };
        let standing = used.standing(record, shared.limiter.now_us());
        if standing != Standing::Accepted {
            shared.deny(&used, standing, Some(record), policies, out);
            return Ok(());
        }
        let attributes = record.attributes(used.asked.attributes);
        let question = Question { attributes: &attributes[..], ..used.asked };
        let decided = self.limiter.check_by(policies, &question, Some(record.terms()));
        shared.answer_by_key(&decided, record, policies, &question, out)
    }
}

#[cfg(test)]
mod tests;
