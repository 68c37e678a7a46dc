//! Envoy's protocol for global rate limits, `envoy.service.ratelimit.v3`.

mod answer;
mod question;

use tidegate_chassis::direct::Unanswered;
use tidegate_proto::{
    Encoded, Writer,
    envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::rate_limit::Unit,
        rate_limit_service_server::RateLimitService,
    },
    view::RateLimitView,
};
use tonic::{Request, Response, Status};

use self::question::Question;
use super::{ANSWER_BYTES, RateLimitApi, Shared, direct::Turn, scope::Scope};
use crate::{
    domain::{Derived, Period, PolicySet},
    limiter::{Descriptor, Verdict},
};

const SECOND_US: u64 = 1_000_000;

/// The units of the protocol with their names, longest first.
const UNITS: [(Unit, &str, Period); 7] = [
    (Unit::Year, "year", Period::Micros(365 * 86_400 * SECOND_US)),
    (Unit::Month, "month", Period::Month),
    (Unit::Week, "week", Period::Week),
    (Unit::Day, "day", Period::Micros(86_400 * SECOND_US)),
    (Unit::Hour, "hour", Period::Micros(3_600 * SECOND_US)),
    (Unit::Minute, "minute", Period::Micros(60 * SECOND_US)),
    (Unit::Second, "second", Period::Micros(SECOND_US)),
];

/// The service of one worker, for Envoy.
#[derive(Clone)]
pub(crate) struct EnvoyApi(pub(crate) RateLimitApi);

#[tonic::async_trait]
impl RateLimitService for EnvoyApi {
    async fn should_rate_limit(
        &self,
        request: Request<Encoded<RateLimitRequest>>,
    ) -> Result<Response<Encoded<RateLimitResponse>>, Status> {
        // Descriptors do not say whose they are.
        let scope = Scope::of(&request)?;
        scope.everything()?;
        let shared = &self.0.shared;
        let mut view = RateLimitView::default();
        request.get_ref().read(&mut view)?;
        scope.namespace(view.domain)?;
        let policies = shared.limiter.policies();
        let question = Question::read(&view, &shared.limiter, &policies)?;
        let descriptors = question.descriptors();
        let verdicts = shared.limiter.check_descriptors(&policies, view.domain, &descriptors).await;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        shared.answer(&verdicts, &descriptors, &mut Writer::new(&mut answer));
        Ok(Response::new(Encoded::from_bytes(answer)))
    }
}

impl Turn<'_> {
    /// Answers a request whose counters are in memory.
    #[inline]
    pub(super) fn should_rate_limit(
        &self,
        request: &Encoded<RateLimitRequest, &[u8]>,
        out: &mut Writer<'_>,
    ) -> Result<(), Unanswered> {
        let mut view = RateLimitView::default();
        request.read(&mut view)?;
        self.scope.everything()?;
        self.scope.namespace(view.domain)?;
        let policies: &PolicySet = &self.policies;
        let question = Question::read(&view, &self.shared.limiter, policies)?;
        let descriptors = question.descriptors();
        let verdicts = self.limiter.check_descriptors(policies, view.domain, &descriptors);
        self.shared.answer(&verdicts, &descriptors, out);
        Ok(())
    }
}

impl Shared {
    /// Counts what was decided of each descriptor, and writes it.
    fn answer(&self, verdicts: &[Verdict<'_>], descriptors: &[Descriptor<'_>], out: &mut Writer<'_>) {
        for (verdict, descriptor) in verdicts.iter().zip(descriptors) {
            let met = self.usage.record(verdict, || Derived::new(descriptor.entries, &[]));
            self.stats.record(verdict, met);
        }
        answer::write(verdicts, self.renderer.random(), out);
    }
}

#[cfg(test)]
mod tests;
