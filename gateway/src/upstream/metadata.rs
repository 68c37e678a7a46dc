//! What goes along with every call: who speaks, for whom, and how the call is found again.

use http::{HeaderName, HeaderValue, header};
use tidegate_chassis::{auth::InternalTokens, trace};
use tonic::metadata::MetadataMap;

use crate::edge::{RequestContext, Speaker, TRACESTATE, X_REQUEST_ID};

/// The address of the caller. Services believe it of the gateway, which proves itself by its token.
const X_CLIENT_IP: HeaderName = HeaderName::from_static("x-client-ip");
/// Makes the repetition of a change safe.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Writes it. Without `tokens` the gateway speaks for itself without credentials.
pub(super) fn write(metadata: &mut MetadataMap, context: &RequestContext, tokens: Option<&InternalTokens>) {
    let headers = metadata.as_mut();
    headers.insert(X_REQUEST_ID, context.request_id_header());
    if let Ok(address) = HeaderValue::try_from(context.client.ip.to_string()) {
        headers.insert(X_CLIENT_IP, address);
    }
    let authorization = match &context.speaker {
        Speaker::Nobody => None,
        Speaker::Caller(authorization) => Some(authorization.clone()),
        Speaker::Gateway => tokens.map(InternalTokens::header),
    };
    let optional = [
        (header::AUTHORIZATION, authorization),
        (header::USER_AGENT, context.user_agent.clone()),
        (IDEMPOTENCY_KEY, context.idempotency_key.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    trace::inject(metadata);
    if let Some(parent) = context.traceparent.filter(|_| !metadata.contains_key("traceparent")) {
        parent.inject(metadata);
        for state in &context.tracestate {
            metadata.as_mut().append(TRACESTATE, state.clone());
        }
    }
}
