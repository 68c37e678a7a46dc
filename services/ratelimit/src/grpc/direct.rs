//! The methods of the hot path, if the store is asked without waiting: answered from bytes to bytes.

use std::sync::Arc;

use arc_swap::Guard;
use bytes::Bytes;
use tidegate_chassis::{
    auth::Caller,
    direct::{ANSWERS_PER_TURN, DirectMethods, Shape, Unanswered},
};
use tidegate_proto::{
    Encoded, Writer,
    envoy::service::ratelimit::v3::rate_limit_service_server as of_envoy,
    ratelimit::v1::{self as pb, rate_limit_service_server::SERVICE_NAME},
    view::{CheckView, StreamCheckView},
};
use tonic::{Status, codegen::BoxFuture};

use super::{
    ANSWER_BYTES, RESULT, RESULTS, RateLimitApi, Shared, parse, refused, scope::Scope, stream, to_status,
};
use crate::{domain::PolicySet, limiter::AtOnce};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Method {
    Check,
    CheckBatch,
    CheckStream,
    ShouldRateLimit,
}

/// Checks that are decided by the same policies, as of one time.
pub(crate) struct Turn<'a> {
    pub(super) shared: &'a Shared,
    pub(super) limiter: AtOnce<'a>,
    pub(super) policies: Guard<Arc<PolicySet>>,
    /// What the caller may touch.
    pub(super) scope: Scope,
}

impl DirectMethods for RateLimitApi {
    type Method = Method;
    type Turn<'a> = Turn<'a>;

    #[inline]
    fn find(&self, path: &str) -> Option<(Method, Shape)> {
        let path = path.strip_prefix('/')?;
        let found = match path.strip_prefix(SERVICE_NAME) {
            Some("/Check") => (Method::Check, Shape::Unary),
            Some("/CheckBatch") => (Method::CheckBatch, Shape::Unary),
            Some("/CheckStream") => (Method::CheckStream, Shape::BidiStreaming),
            None if path.strip_prefix(of_envoy::SERVICE_NAME)? == "/ShouldRateLimit" => {
                (Method::ShouldRateLimit, Shape::Unary)
            }
            Some(_) | None => return None,
        };
        self.shared.limiter.is_at_once().then_some(found)
    }

    #[inline]
    fn turn(&self, caller: &Caller) -> Turn<'_> {
        let limiter = &self.shared.limiter;
        let at_once = limiter.at_once().expect("a method is found only if the limiter answers at once");
        let scope = Scope::of_caller(caller);
        Turn { shared: &self.shared, limiter: at_once, policies: limiter.policies(), scope }
    }

    #[inline]
    fn answer(
        turn: &Turn<'_>,
        method: Method,
        message: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<(), Unanswered> {
        let mut out = Writer::new(answer);
        match method {
            Method::Check => turn.check(&Encoded::borrowed(message), &mut out),
            Method::CheckBatch => turn.check_batch(&Encoded::borrowed(message), &mut out),
            Method::CheckStream => turn.check_streamed(&Encoded::borrowed(message), &mut out),
            Method::ShouldRateLimit => turn.should_rate_limit(&Encoded::borrowed(message), &mut out),
        }
    }

    fn answer_later(&self, caller: &Caller, method: Method, message: Bytes) -> BoxFuture<Bytes, Status> {
        match method {
            Method::CheckStream => {
                let (shared, scope) = (Arc::clone(&self.shared), Scope::of_caller(caller));
                let answer = stream::answer(shared, scope, Encoded::from_bytes(message));
                Box::pin(async move { Ok(answer.await.into_bytes()) })
            }
            Method::Check | Method::CheckBatch | Method::ShouldRateLimit => {
                unreachable!("a method of one message is left to the generated service")
            }
        }
    }
}

impl Turn<'_> {
    #[inline]
    fn check(
        &self,
        request: &Encoded<pb::CheckRequest, &[u8]>,
        out: &mut Writer<'_>,
    ) -> Result<(), Unanswered> {
        let mut view = CheckView::default();
        request.read(&mut view)?;
        let asked = parse::check(&view)?;
        self.scope.check(&view)?;
        if !view.api_key.is_empty() {
            let prepared = self.prepare(&view)?.ok_or(Unanswered::Waits)?;
            return Ok(self.check_by_key(&view, prepared, out)?);
        }
        let asked = self.scope.bind(asked);
        let decided = self.limiter.check(&self.policies, &asked);
        self.shared.count(&decided, &self.policies, &asked);
        let verdict = decided.map_err(|error| to_status(&error))?;
        self.shared.renderer.check(&verdict, out);
        Ok(())
    }

    fn check_batch(
        &self,
        request: &Encoded<pb::CheckBatchRequest, &[u8]>,
        out: &mut Writer<'_>,
    ) -> Result<(), Unanswered> {
        let checks = parse::batch(request)?;
        checks.iter().try_for_each(|view| self.scope.check(view))?;
        let mut keys = Vec::new();
        if checks.iter().any(|view| !view.api_key.is_empty()) {
            // Before anything is charged.
            for view in checks.iter().filter(|view| !view.api_key.is_empty()) {
                keys.push(self.prepare(view).transpose().ok_or(Unanswered::Waits)?);
            }
        }
        let mut keys = keys.into_iter();
        out.reserve(checks.len() * ANSWER_BYTES);
        let mut limiter = self.limiter;
        for (index, view) in checks.iter().enumerate() {
            if index > 0 && index.is_multiple_of(ANSWERS_PER_TURN) {
                limiter = limiter.now();
            }
            if !view.api_key.is_empty() {
                let prepared = keys.next().expect("one was prepared for each key");
                out.long_message(RESULTS, |out| match prepared {
                    Ok(prepared) => self.outcome_by_key(view, prepared, RESULT, out),
                    Err(status) => refused(&status, RESULT, out),
                });
                continue;
            }
            let asked = self.scope.bind(parse::asked(view));
            let decided = limiter.check(&self.policies, &asked);
            self.shared.count(&decided, &self.policies, &asked);
            self.shared.batch_result(&decided, out);
        }
        Ok(())
    }

    #[inline]
    fn check_streamed(
        &self,
        request: &Encoded<pb::CheckStreamRequest, &[u8]>,
        out: &mut Writer<'_>,
    ) -> Result<(), Unanswered> {
        let mut view = StreamCheckView::default();
        request.read(&mut view)?;
        out.number(stream::ID, view.id);
        let asked = match stream::asked(&view, self.scope) {
            Ok((asked, None)) => asked,
            Ok((_, Some(check))) => {
                match self.prepare(check) {
                    Ok(Some(prepared)) => self.outcome_by_key(check, prepared, stream::RESULT, out),
                    Ok(None) => return Err(Unanswered::Waits),
                    Err(status) => refused(&status, stream::RESULT, out),
                }
                return Ok(());
            }
            Err(status) => {
                refused(&status, stream::RESULT, out);
                return Ok(());
            }
        };
        let decided = self.limiter.check(&self.policies, &asked);
        self.shared.count(&decided, &self.policies, &asked);
        self.shared.outcome(&decided, stream::RESULT, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
