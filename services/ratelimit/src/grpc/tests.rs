use std::{net::Ipv4Addr, sync::Arc};

use tidegate_chassis::{
    auth::{Caller, How, Origin, Role},
    clock::Clock,
    direct::{DirectMethods, Shape},
    metrics::Metrics,
};

use super::*;
use crate::{
    domain::{Check, Decision, Fence, PolicySet},
    limiter::{Counters, LimiterSettings, Upgrades},
    metrics::CheckMetrics,
    policies,
    store::{Answer, CellLease, CellRefund, CellReset, CounterStore, MemoryStore, MemoryStoreConfig},
    usage::{Usage, UsageConfig},
};

/// A store that answers in its own time, as one behind a network does; to a check of `stuck` never.
struct Later(Arc<MemoryStore>);

impl CounterStore for Later {
    fn decide(&self, check: &Check<'_>) -> Answer<'static, Decision> {
        let is_stuck = check.cells[0].key.windows(5).any(|part| part == b"stuck");
        let answer = self.0.decide_at(check, Clock::system().now_us());
        Answer::Pending(Box::pin(async move {
            tokio::task::yield_now().await;
            if is_stuck { std::future::pending().await } else { answer }
        }))
    }

    fn reset<'a>(&'a self, cells: &'a [CellReset]) -> Answer<'a, ()> {
        self.0.reset(cells)
    }

    fn refund<'a>(&'a self, cells: &'a [CellRefund]) -> Answer<'a, ()> {
        self.0.refund(cells)
    }

    fn renew<'a>(&'a self, cells: &'a [CellLease], ttl_us: u64) -> Answer<'a, bool> {
        self.0.renew(cells, ttl_us)
    }

    fn release<'a>(&'a self, cells: &'a [CellLease]) -> Answer<'a, bool> {
        self.0.release(cells)
    }

    fn fence(&self, fence: Fence) -> Answer<'_, bool> {
        self.0.fence(fence)
    }

    fn complete_for_us(&self, key: &[u8]) -> u64 {
        self.0.complete_for_us(key)
    }
}

pub(super) fn api(counters: impl FnOnce(Arc<MemoryStore>) -> Counters) -> (RateLimitApi, Metrics) {
    api_by(policies::builtin(1), &Clock::system(), counters)
}

/// An API by those policies and that clock.
pub(super) fn api_by(
    policies: PolicySet,
    clock: &Clock,
    counters: impl FnOnce(Arc<MemoryStore>) -> Counters,
) -> (RateLimitApi, Metrics) {
    api_telling(policies, clock, counters, None)
}

/// The same, which leaves denials that ask for a larger plan.
pub(super) fn api_telling(
    policies: PolicySet,
    clock: &Clock,
    counters: impl FnOnce(Arc<MemoryStore>) -> Counters,
    upgrades: Option<Upgrades>,
) -> (RateLimitApi, Metrics) {
    api_of(policies, clock, counters, upgrades, None)
}

/// One that knows API keys.
pub(super) fn api_with_keys(
    counters: impl FnOnce(Arc<MemoryStore>) -> Counters,
    keys: Option<Keys>,
) -> RateLimitApi {
    api_of(policies::builtin(1), &Clock::system(), counters, None, keys).0
}

pub(super) fn api_of(
    policies: PolicySet,
    clock: &Clock,
    counters: impl FnOnce(Arc<MemoryStore>) -> Counters,
    upgrades: Option<Upgrades>,
    keys: Option<Keys>,
) -> (RateLimitApi, Metrics) {
    let (metrics, random) = (Metrics::new(), Random::seeded(1));
    let config = MemoryStoreConfig { max_bytes: 16 << 20 };
    let store = Arc::new(MemoryStore::new(&config, clock.clone(), &random, &metrics));
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 60_000_000 };
    let catalog = Catalog::of(policies);
    let limiter = Limiter::new(
        Arc::clone(catalog.policies()),
        counters(store),
        clock.clone(),
        Random::seeded(1),
        settings,
    )
    .telling(upgrades);
    let stats = CheckMetrics::register(&metrics).for_worker();
    let usage = Usage::new(&usage_config(), Clock::system(), random.clone(), &metrics).for_worker();
    (RateLimitApi::new(limiter, catalog, random, stats, usage, keys), metrics)
}

pub(super) fn usage_config() -> UsageConfig {
    UsageConfig { keys: 64, samples_per_second: 100_000, near_percent: 20, policies: 16, metrics_policies: 4 }
}

fn later(store: Arc<MemoryStore>) -> Counters {
    Counters::Shared { store: Arc::new(Later(Arc::clone(&store))), local: store }
}

/// Demands so many checks of that status, exactly.
fn assert_counted(metrics: &Metrics, status: &str, count: u64) {
    let text = metrics.encode();
    let line = format!("rate_limit_requests_total{{status=\"{status}\"}} {count}\n");
    assert!(text.contains(&line), "{line}{text}");
}

fn check(namespace: &str) -> pb::CheckRequest {
    let entry = |key: &str, value: &str| pb::check_request::AttributesEntry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    pb::CheckRequest {
        namespace: namespace.to_owned(),
        attributes: vec![entry("organization", "acme"), entry("plan", "enterprise")],
        ..pb::CheckRequest::default()
    }
}

/// What `encoded` says, if it is written as the generated code writes it.
pub(super) fn canonical<M: prost::Message + Default>(encoded: &Encoded<M>) -> M {
    let message = encoded.decode().expect("an answer decodes");
    assert_eq!(Encoded::from(&message).as_bytes(), encoded.as_bytes());
    message
}

/// A request of somebody who may touch everything.
pub(super) fn asked<T>(message: T) -> Request<T> {
    by(backend(), message)
}

/// A request of this caller.
pub(super) fn by<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let peer = Ipv4Addr::LOCALHOST.into();
    request.extensions_mut().insert(Origin { caller: Some(Arc::new(caller)), peer });
    request
}

/// Somebody who may touch everything.
pub(super) fn backend() -> Caller {
    let (role, subject) = (Role::Service, "a backend".to_owned());
    Caller { role, subject, organization: None, email: None, how: How::Anonymous }
}

/// The answer of a method that does not wait for the store.
fn direct<Q: prost::Message, A>(api: &RateLimitApi, method: direct::Method, request: &Q) -> Encoded<A> {
    let mut answer = Vec::new();
    RateLimitApi::answer(&api.turn(&backend()), method, &request.encode_to_vec(), &mut answer)
        .expect("answered");
    Encoded::from_bytes(answer)
}

#[tokio::test]
async fn batch_is_answered_as_the_generated_code_writes_it_and_every_check_is_counted_once() {
    for (is_direct, (api, metrics)) in
        [(true, api(Counters::Memory)), (false, api(Counters::Memory)), (false, api(later))]
    {
        let checks =
            [check(""), check("nowhere"), pb::CheckRequest { cost: Some(1_000_000), ..check("") }, check("")];
        let request = pb::CheckBatchRequest { checks: checks.to_vec() };
        let answer: Encoded<pb::CheckBatchResponse> = match is_direct {
            true => direct(&api, direct::Method::CheckBatch, &request),
            false => api.check_batch(asked(Encoded::from(&request))).await.expect("answered").into_inner(),
        };
        let reasons = canonical(&answer).results.into_iter().map(|result| match result.outcome {
            Some(pb::check_batch_result::Outcome::Result(result)) => {
                format!("{} left", result.limits[0].remaining)
            }
            Some(pb::check_batch_result::Outcome::Error(error)) => error.reason,
            None => "nothing".to_owned(),
        });
        let reasons: Vec<_> = reasons.collect();
        assert_eq!(reasons, ["499 left", "NAMESPACE_NOT_FOUND", "COST_ABOVE_CAPACITY", "498 left"]);
        assert_counted(&metrics, "allowed", 2);
        assert_counted(&metrics, "error", 2);
    }
}

#[tokio::test]
async fn what_was_decided_of_a_batch_that_is_given_up_is_counted() {
    let (api, metrics) = api(later);
    let mut stuck = check("");
    stuck.attributes[0].value = "stuck".to_owned();
    let request = pb::CheckBatchRequest { checks: vec![check(""), stuck, check("")] };
    let call = api.check_batch(asked(Encoded::from(&request)));
    tokio::time::timeout(std::time::Duration::from_millis(50), call).await.expect_err("one is never decided");
    assert_counted(&metrics, "allowed", 2);
}

#[tokio::test]
async fn check_and_peek_are_answered_as_the_generated_code_writes_them() {
    for (is_direct, (api, metrics)) in
        [(true, api(Counters::Memory)), (false, api(Counters::Memory)), (false, api(later))]
    {
        let answer: Encoded<pb::CheckResponse> = match is_direct {
            true => direct(&api, direct::Method::Check, &check("")),
            false => api.check(asked(Encoded::from(&check("")))).await.expect("answered").into_inner(),
        };
        let checked = canonical(&answer);
        assert_eq!((checked.allowed, checked.limits.len(), checked.decision_id.len()), (true, 3, 16));
        let attributes = check("")
            .attributes
            .into_iter()
            .map(|entry| pb::peek_request::AttributesEntry { key: entry.key, value: entry.value });
        let request = pb::PeekRequest { attributes: attributes.collect(), ..pb::PeekRequest::default() };
        let answer = api.peek(asked(request)).await.expect("answered");
        let peeked = canonical(answer.get_ref()).result.expect("a result");
        assert_eq!(peeked.limits[0].remaining, checked.limits[0].remaining, "a peek charges nothing");
        assert_counted(&metrics, "allowed", 1);
    }
}

#[test]
fn outcomes_of_a_stream_are_written_as_the_generated_code_writes_them() {
    let (api, metrics) = api(Counters::Memory);
    for request in [
        pb::CheckStreamRequest { id: u64::MAX, check: Some(check("")) },
        pb::CheckStreamRequest { id: 0, check: Some(check("nowhere")) },
        pb::CheckStreamRequest { id: 300, check: None },
        pb::CheckStreamRequest { id: 7, check: Some(check("not a name")) },
    ] {
        let response: Encoded<pb::CheckStreamResponse> = direct(&api, direct::Method::CheckStream, &request);
        let response = canonical(&response);
        let is_result = matches!(response.outcome, Some(pb::check_stream_response::Outcome::Result(_)));
        assert_eq!((response.id, is_result), (request.id, request.id == u64::MAX), "{response:?}");
    }
    assert_counted(&metrics, "allowed", 1);
    assert_counted(&metrics, "error", 1);
}

#[test]
fn method_is_direct_only_if_the_store_is_not_waited_for() {
    let path = |name: &str| format!("/tidegate.ratelimit.v1.RateLimitService/{name}");
    let found = |api: &RateLimitApi, path: &str| api.find(path).map(|(_, shape)| shape);
    let (memory, _) = api(Counters::Memory);
    let (shared, _) = api(later);
    for (name, shape) in [
        ("Check", Some(Shape::Unary)),
        ("CheckBatch", Some(Shape::Unary)),
        ("CheckStream", Some(Shape::BidiStreaming)),
        ("Peek", None),
        ("Reset", None),
        ("GetUsage", None),
        ("", None),
    ] {
        assert_eq!(found(&memory, &path(name)), shape, "{name}");
        assert_eq!(found(&shared, &path(name)), None, "{name}");
    }
    assert_eq!(found(&memory, "/Check"), None);
}
