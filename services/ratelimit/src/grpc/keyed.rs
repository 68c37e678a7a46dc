//! Checks that name an API key.

use std::{net::IpAddr, sync::Arc};

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
    keys::{Found, Keys, KeysError, Paid, Payment, Record},
    limiter::{CheckError, Question, Touches, Verdict},
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

/// Number of the credits that are left in `CheckResponse`.
const CREDITS_REMAINING: u8 = 11;

/// What a check by key needs to be decided at once.
pub(super) enum Prepared {
    /// Somebody's key, and what came of paying.
    Key(Arc<Record>, Result<Option<Paid>, Refusal>),
    /// Nobody has the key.
    Nobodys,
}

/// Why a check is denied without asking any limit.
pub(super) enum Refusal {
    /// The key is not good for it.
    Standing(Standing),
    /// There are not enough credits.
    NoCredits { retry_after_us: u64, remaining: u64 },
}

impl Refusal {
    fn is_of_nobody(&self) -> bool {
        matches!(self, Self::Standing(Standing::KeyNotFound))
    }
}

/// What was paid, or why the check is denied.
fn paid(payment: Payment) -> Result<Option<Paid>, Refusal> {
    match payment {
        Payment::Free => Ok(None),
        Payment::Paid(paid) => Ok(Some(paid)),
        Payment::Empty { retry_after_us, remaining } => Err(Refusal::NoCredits { retry_after_us, remaining }),
    }
}

/// The counters that a key may charge or clear for a caller who is bound to its organization.
pub(super) fn touches(record: &Record) -> Touches {
    Touches::OfKey { organization: record.organization, lineage: record.lineage }
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

    /// What is asked by this key, of these attributes.
    fn question<'a>(&self, record: &Record, attributes: &'a [(&'a str, &'a str)]) -> Asked<'a>
    where
        'v: 'a,
    {
        let asked = Question { attributes, ..self.asked };
        match self.scope {
            Scope::Of(_) if !asked.dry_run => Question { touches: touches(record), ..asked },
            Scope::Internal | Scope::All | Scope::Of(_) => asked,
        }
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
    pub(super) fn keys(&self) -> Result<&Keys, Status> {
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
                self.deny(&used, &Refusal::Standing(Standing::KeyNotFound), None, policies, &mut out);
                return Ok(answer);
            };
            // It was asked for before a change that is known here by now.
            if !record.is_of_now() {
                found = keys.find_anew(view.api_key).await;
                continue;
            }
            let standing = used.standing(&record, self.limiter.now_us());
            let paid = match standing {
                Standing::Accepted => paid(keys.pay(&record, used.asked.cost).await.map_err(keys_status)?),
                _ => Err(Refusal::Standing(standing)),
            };
            match paid {
                // Another word may have been spoken since. Whose a key is never changes.
                Err(refusal) => {
                    let is_certain = refusal.is_of_nobody() || keys.denies_by(&record);
                    if is_certain || !self.limiter.is_stale(record.fence()).await {
                        self.deny(&used, &refusal, Some(&record), policies, &mut out);
                        return Ok(answer);
                    }
                }
                Ok(mut paid) => {
                    let attributes = record.attributes(used.asked.attributes);
                    let question = used.question(&record, &attributes);
                    if let Some(paid) = &mut paid
                        && is_repeatable(&question)
                    {
                        paid.spend();
                    }
                    let decided = self.limiter.check_by(policies, question, Some(record.terms())).await;
                    let remaining = settle(paid, &decided, &question);
                    if !matches!(decided, Err(CheckError::Stale)) {
                        self.answer_by_key(&decided, &record, remaining, policies, &question, &mut out)?;
                        return Ok(answer);
                    }
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
        remaining: Option<u64>,
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
        if let Some(remaining) = remaining {
            out.present(CREDITS_REMAINING, remaining);
        }
        Ok(())
    }

    /// Writes that a key is not good for it, and counts that.
    fn deny(
        &self,
        used: &Used<'_>,
        refusal: &Refusal,
        record: Option<&Record>,
        policies: &PolicySet,
        out: &mut Writer<'_>,
    ) {
        let now_us = self.limiter.now_us();
        let verdict = match *refusal {
            Refusal::Standing(standing) => Verdict::refused_by_key(standing, now_us),
            Refusal::NoCredits { retry_after_us, .. } => Verdict::out_of_credits(retry_after_us, now_us),
        };
        let asked = used.asked;
        self.renderer.check(&verdict, out);
        // That of another tenant is not told.
        if let (Some(record), true) = (record, !refusal.is_of_nobody()) {
            out.written(&record.identity);
            if let Refusal::NoCredits { remaining, .. } = *refusal {
                out.present(CREDITS_REMAINING, remaining);
            }
            if let (Some(keys), false) = (&self.keys, asked.dry_run) {
                keys.used(record, verdict.reason.as_str(), verdict.at_us);
            }
        }
        self.count(&Ok(verdict), policies, &asked);
    }
}

impl Turn<'_> {
    /// Whose the key of a check is, with its credits paid, if that is known without waiting.
    ///
    /// # Errors
    ///
    /// No keys service is set.
    pub(super) fn prepare(&self, view: &CheckView<'_>) -> Result<Option<Prepared>, Status> {
        let keys = self.shared.keys()?;
        let record = match keys.at_once(view.api_key) {
            Some(found) => match found.map_err(keys_status)? {
                Found::Key(record) => record,
                Found::Nobody => return Ok(Some(Prepared::Nobodys)),
            },
            None => return Ok(None),
        };
        let paid = if record.credits.is_none() {
            Ok(None)
        } else {
            let used = Used::of(view, self.scope);
            match used.standing(&record, self.limiter.at_us()) {
                Standing::Accepted => match keys.pay_at_once(&record, used.asked.cost) {
                    Some(payment) => paid(payment),
                    None => return Ok(None),
                },
                standing => Err(Refusal::Standing(standing)),
            }
        };
        Ok(Some(Prepared::Key(record, paid)))
    }

    /// Decides one check of many at once, and writes what came of it, as [`outcome`].
    pub(super) fn outcome_by_key(
        &self,
        view: &CheckView<'_>,
        prepared: Prepared,
        result: u8,
        out: &mut Writer<'_>,
    ) {
        let written = out.try_long_message(result, |out| self.check_by_key(view, prepared, out));
        if let Err(status) = written {
            refused(&status, result, out);
        }
    }

    /// As [`Shared::check_by_key`], at once.
    pub(super) fn check_by_key(
        &self,
        view: &CheckView<'_>,
        prepared: Prepared,
        out: &mut Writer<'_>,
    ) -> Result<(), Status> {
        let (shared, policies, used) = (self.shared, &*self.policies, Used::of(view, self.scope));
        let Prepared::Key(record, paid) = prepared else {
            shared.deny(&used, &Refusal::Standing(Standing::KeyNotFound), None, policies, out);
            return Ok(());
        };
        let standing = used.standing(&record, self.limiter.at_us());
        let paid = match standing {
            Standing::Accepted => paid,
            _ => Err(Refusal::Standing(standing)),
        };
        let paid = match paid {
            Ok(paid) => paid,
            Err(refusal) => {
                shared.deny(&used, &refusal, Some(&record), policies, out);
                return Ok(());
            }
        };
        let attributes = record.attributes(used.asked.attributes);
        let question = used.question(&record, &attributes);
        let decided = self.limiter.check_by(policies, &question, Some(record.terms()));
        let remaining = settle(paid, &decided, &question);
        shared.answer_by_key(&decided, &record, remaining, policies, &question, out)
    }
}

/// Whether the check may be asked again, and then be admitted without being charged.
fn is_repeatable(asked: &Asked<'_>) -> bool {
    !asked.idempotency_key.is_empty() && !asked.dry_run
}

/// Spends the credits of a check that was admitted and charged, and gives those of any other back. Says how many are left.
///
/// What a degraded answer denies may have been charged in a store whose answer was lost; a repeat would be admitted there for nothing,
/// so if there can be one the credits are spent.
fn settle(paid: Option<Paid>, decided: &Decided<'_>, asked: &Asked<'_>) -> Option<u64> {
    let mut paid = paid?;
    let is_spent = match decided {
        Ok(verdict) if verdict.allowed => !verdict.replayed && !asked.dry_run,
        Ok(verdict) => verdict.degraded && is_repeatable(asked),
        Err(_) => false,
    };
    match is_spent {
        true => paid.spend(),
        false => paid.unspend(asked.cost),
    }
    Some(paid.remaining())
}

#[cfg(test)]
mod tests;
