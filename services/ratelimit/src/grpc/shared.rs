//! What the methods of a worker share.

use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_proto::{Writer, view::CheckView};
use tonic::Status;

use super::{
    ANSWER_BYTES, Decided, RESULT, RESULTS,
    error::{self, to_status},
    keyed,
    parse::{self, Asked},
    render::Renderer,
    scope::Scope,
};
use crate::{
    catalog::Catalog,
    domain::{Derived, PolicySet},
    keys::Keys,
    limiter::Limiter,
    metrics::CheckStats,
    usage::WorkerUsage,
};

/// What came of one check of a batch.
enum Answered<'p> {
    Decided(Decided<'p>),
    /// It names an API key: its answer is written.
    ByKey(Result<Vec<u8>, Status>),
}

/// What the methods of a worker share.
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) catalog: Catalog,
    pub(super) renderer: Renderer,
    pub(super) stats: Arc<CheckStats>,
    pub(super) usage: WorkerUsage,
    /// Absent if no keys service is set.
    pub(super) keys: Option<Keys>,
}

impl Shared {
    /// Counts what was decided by `policies`.
    #[inline]
    pub(super) fn count(&self, decided: &Decided<'_>, policies: &PolicySet, asked: &Asked<'_>) {
        match decided {
            Ok(verdict) => {
                let met = self.usage.record(verdict, || {
                    let derivations =
                        policies.namespace(asked.namespace).map(|of| &*of.settings().derivations);
                    Derived::new(asked.attributes, derivations.unwrap_or_default())
                });
                self.stats.record(verdict, met);
            }
            Err(_) => self.stats.record_error(),
        }
    }

    /// Writes what was decided of one check of many: its `result` as the field of that number, or its `error` as the
    /// field after it.
    #[inline]
    pub(super) fn outcome(&self, decided: &Decided<'_>, result: u8, out: &mut Writer<'_>) {
        match decided {
            Ok(verdict) => out.long_message(result, |out| self.renderer.check(verdict, out)),
            Err(error) => refused(&to_status(error), result, out),
        }
    }

    /// Decides the checks of a batch, of a caller who may touch so much.
    pub(super) async fn batch(&self, checks: &[CheckView<'_>], scope: Scope) -> Vec<u8> {
        let policies = self.limiter.policies();
        // All of them are under way at once, so that a store that batches sees them together.
        let answered = checks.iter().map(|view| async {
            if !view.api_key.is_empty() {
                return Answered::ByKey(self.check_by_key(&policies, view, scope).await);
            }
            let asked = scope.bind(parse::asked(view));
            let decided = self.limiter.check(&policies, asked).await;
            // Here, and so also if the caller gives up before all are decided.
            self.count(&decided, &policies, &asked);
            Answered::Decided(decided)
        });
        let mut answer = Vec::with_capacity(checks.len() * ANSWER_BYTES);
        for answered in join_all(answered).await {
            let mut out = Writer::new(&mut answer);
            match answered {
                Answered::Decided(decided) => self.batch_result(&decided, &mut out),
                Answered::ByKey(answer) => {
                    out.long_message(RESULTS, |out| keyed::outcome(answer.as_deref(), RESULT, out));
                }
            }
        }
        answer
    }

    /// Writes one result of a batch.
    #[inline]
    pub(super) fn batch_result(&self, decided: &Decided<'_>, out: &mut Writer<'_>) {
        out.long_message(RESULTS, |out| self.outcome(decided, RESULT, out));
    }
}

/// Writes that one check of many was refused: as the field after that of its `result`.
#[cold]
pub(super) fn refused(status: &Status, result: u8, out: &mut Writer<'_>) {
    out.generated(result + 1, &error::to_answer(status));
}
