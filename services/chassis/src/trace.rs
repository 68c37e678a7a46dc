//! W3C trace context, in and out.
//!
//! A span exists only for a request that is sampled: by its caller (`traceparent` with the sampled
//! flag), or, if it has no caller's context, by the configured ratio. Every other request costs one
//! header lookup, and nothing at all unless traces are exported.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::clock::Random;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// `version "-" trace-id "-" parent-id "-" trace-flags`
const LENGTH: usize = 55;
const SAMPLED: u8 = 0x01;

/// Sampling ratio of requests that come without a context, as f64 bits; NaN: traces are off.
static RATIO: AtomicU64 = AtomicU64::new(f64::NAN.to_bits());

pub(crate) fn enable(ratio: f64) {
    RATIO.store(ratio.to_bits(), Ordering::Relaxed);
}

/// A caller's place in a trace: the `traceparent` header (W3C Trace Context, level 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Of the whole trace; never 0.
    pub trace_id: u128,
    /// Span of the caller; never 0.
    pub parent_id: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

/// Not a `traceparent` as the specification has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct ParseTraceParentError;

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    /// Versions above 00 are read by their first four fields, as the specification asks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        if bytes.len() < LENGTH || [bytes[2], bytes[35], bytes[52]] != [b'-'; 3] {
            return Err(ParseTraceParentError);
        }
        let version = lower_hex(&bytes[..2])?;
        let length_fits = match version {
            0xff => false,
            0 => bytes.len() == LENGTH,
            _ => bytes.len() == LENGTH || bytes[LENGTH] == b'-',
        };
        let trace_id = lower_hex(&bytes[3..35])?;
        let parent_id = u64::try_from(lower_hex(&bytes[36..52])?).map_err(|_| ParseTraceParentError)?;
        let flags = u8::try_from(lower_hex(&bytes[53..55])?).map_err(|_| ParseTraceParentError)?;
        if !length_fits || trace_id == 0 || parent_id == 0 {
            return Err(ParseTraceParentError);
        }
        Ok(Self { trace_id, parent_id, sampled: flags & SAMPLED != 0 })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

impl TraceParent {
    /// The caller's context; `None` if it is absent, malformed or given twice.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let parent = values.next()?.to_str().ok()?.parse().ok()?;
        values.next().is_none().then_some(parent)
    }

    /// Passes this context on unchanged, as one does for a request that is not sampled.
    pub fn inject(&self, metadata: &mut MetadataMap) {
        if let Ok(value) = MetadataValue::try_from(self.to_string()) {
            metadata.insert(TRACEPARENT, value);
        }
    }
}

/// Gives a call that is about to be made the context of the current span, if that is sampled.
pub fn inject(metadata: &mut MetadataMap) {
    if !is_enabled() {
        return;
    }
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let parent = TraceParent {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        parent_id: u64::from_be_bytes(span.span_id().to_bytes()),
        sampled: span.is_sampled(),
    };
    parent.inject(metadata);
    let state = span.trace_state().header();
    if let Some(value) = MetadataValue::try_from(state).ok().filter(|value| !value.is_empty()) {
        metadata.insert(TRACESTATE, value);
    }
}

/// Whether spans go anywhere.
#[must_use]
pub fn is_enabled() -> bool {
    !ratio().is_nan()
}

/// The span of a request that is being served, if it is sampled; `name` as in `package.Service/Method`
/// or `GET /v1/check`. Its fields `request_id` and `tenant` may be recorded later; they then stand in
/// each of its log lines.
#[must_use]
pub fn request_span(headers: &HeaderMap, name: &str, random: &Random) -> Option<Span> {
    let ratio = ratio();
    if ratio.is_nan() {
        return None;
    }
    let parent = TraceParent::from_headers(headers);
    let is_sampled = parent.map_or_else(|| random.unit_f64() < ratio, |parent| parent.sampled);
    is_sampled.then(|| open_span(headers, name, parent))
}

// Not inlined into request_span: this is what most requests never need.
#[cold]
fn open_span(headers: &HeaderMap, name: &str, parent: Option<TraceParent>) -> Span {
    // At level ERROR, so that no log filter takes the trace id away from the lines it lets through.
    let span = tracing::error_span!(
        target: "tidegate::request",
        parent: None,
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        rpc.grpc.status_code = tracing::field::Empty,
        request_id = tracing::field::Empty,
        tenant = tracing::field::Empty,
    );
    if let Some(parent) = parent {
        let state = headers.get(TRACESTATE).map(HeaderValue::to_str).and_then(Result::ok).unwrap_or_default();
        let context = SpanContext::new(
            TraceId::from_bytes(parent.trace_id.to_be_bytes()),
            SpanId::from_bytes(parent.parent_id.to_be_bytes()),
            TraceFlags::SAMPLED,
            true,
            TraceState::from_str(state).unwrap_or_default(),
        );
        // Refused only once the span has started, and it has not.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
    span
}

fn ratio() -> f64 {
    f64::from_bits(RATIO.load(Ordering::Relaxed))
}

fn lower_hex(digits: &[u8]) -> Result<u128, ParseTraceParentError> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(ParseTraceParentError),
        };
        Ok(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_the_example_of_the_specification() {
        let parent: TraceParent = VALID.parse().expect("valid");
        assert_eq!(parent.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(parent.parent_id, 0xb7ad_6b71_6920_3331);
        assert!(parent.sampled);
    }

    #[rstest]
    #[case::empty("")]
    #[case::upper_case("00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01")]
    #[case::zero_trace("00-00000000000000000000000000000000-b7ad6b7169203331-01")]
    #[case::zero_parent("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")]
    #[case::version_ff("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::longer_version_00("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")]
    #[case::longer_without_dash("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x")]
    #[case::short("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0")]
    #[case::sign("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::dash_missing("0000af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    fn malformed_is_refused(#[case] text: &str) {
        assert_eq!(text.parse::<TraceParent>(), Err(ParseTraceParentError));
    }

    #[test]
    fn later_version_is_read_by_its_first_fields() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more";
        assert_eq!(later.parse::<TraceParent>(), VALID.parse());
    }

    #[test]
    fn header_given_twice_counts_as_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert!(TraceParent::from_headers(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert_eq!(TraceParent::from_headers(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace_id in 1_u128.., parent_id in 1_u64.., sampled: bool) {
            let parent = TraceParent { trace_id, parent_id, sampled };
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
        }

        #[test]
        fn one_changed_byte_never_reads_as_something_longer(at in 0_usize..55, byte in 0_u8..128) {
            let mut bytes = VALID.as_bytes().to_vec();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).expect("ASCII");
            if let Ok(parent) = text.parse::<TraceParent>() {
                // Version and unknown flags are not kept; all else is.
                prop_assert_eq!(&parent.to_string()[2..53], &text[2..53]);
            }
        }
    }
}
