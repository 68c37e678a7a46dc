//! Decisions as Envoy takes them.

use serde_json::json;
use tidegate_proto::{
    envoy::{
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
    google::rpc,
    ratelimit::v1 as pb,
};
use tonic::Code;

use super::headers::{binding, header, identity, rate_limit, reset};

/// Problem type of a denial by a limit (draft-ietf-httpapi-ratelimit-headers).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Writes the answer to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'r> {
    /// The path that was called.
    pub(super) path: &'r str,
    /// The time, in Unix microseconds.
    pub(super) now_us: u64,
}

/// An HTTP status, with its words.
#[derive(Clone, Copy)]
enum Denial {
    Unauthorized,
    Forbidden,
    TooMany,
    Unavailable,
}

impl Answer<'_> {
    /// To a request without a key.
    pub(super) fn no_key(self) -> CheckResponse {
        let words = "An API key is needed, in X-API-Key or as Authorization: Bearer";
        self.denied(Denial::Unauthorized, "unauthenticated", words, &pb::CheckResponse::default())
    }

    /// What was decided; the request loses the header `key_to_remove`.
    pub(super) fn to(self, decided: &pb::CheckResponse, key_to_remove: Option<&str>) -> CheckResponse {
        if !decided.allowed {
            let (denial, error, words) = denial(decided.code());
            return self.denied(denial, error, words, decided);
        }
        let identity = identity(&decided.key.clone().unwrap_or_default());
        // Proxies differ in what they make of an empty value; what is not there says the same.
        let (told, untold): (Vec<_>, Vec<_>) = identity.into_iter().partition(|(_, value)| !value.is_empty());
        let removed = untold.iter().map(|(name, _)| *name).chain(key_to_remove);
        let response = OkHttpResponse {
            headers: told.into_iter().map(|(name, value)| header(name, &value)).collect(),
            headers_to_remove: removed.map(str::to_owned).collect(),
            response_headers_to_add: rate_limit(decided, self.now_us),
        };
        with_status(Code::Ok, HttpResponse::OkResponse(response))
    }

    fn denied(self, denial: Denial, error: &str, words: &str, decided: &pb::CheckResponse) -> CheckResponse {
        let (code, status, title) = match denial {
            Denial::Unauthorized => (Code::Unauthenticated, 401, "Unauthorized"),
            Denial::Forbidden => (Code::PermissionDenied, 403, "Forbidden"),
            Denial::TooMany => (Code::ResourceExhausted, 429, "Too Many Requests"),
            Denial::Unavailable => (Code::Unavailable, 503, "Service Unavailable"),
        };
        let mut problem = json!({
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": words,
            "instance": self.path,
            "error": error,
        });
        let mut headers = rate_limit(decided, self.now_us);
        headers.push(header("content-type", &"application/problem+json"));
        let retry_after = decided.retry_after_ms.div_ceil(1_000).max(1);
        match denial {
            Denial::Unauthorized => headers.push(header("www-authenticate", &"Bearer")),
            // To wait would not help.
            Denial::Forbidden => {}
            Denial::TooMany | Denial::Unavailable => headers.push(header("retry-after", &retry_after)),
        }
        if let (Denial::TooMany, Some(binding)) = (denial, binding(decided)) {
            let violated = decided.limits.iter().filter(|limit| limit.exceeded && !limit.shadow);
            problem["type"] = QUOTA_EXCEEDED.into();
            problem["retry_after"] = retry_after.into();
            problem["limit"] = binding.limit.into();
            problem["remaining"] = binding.remaining.into();
            problem["reset"] = reset(binding, self.now_us).into();
            problem["violated_policies"] = violated.map(|limit| &*limit.name).collect();
        }
        let status = Some(HttpStatus { code: status });
        let response = DeniedHttpResponse { status, headers, body: problem.to_string() };
        with_status(code, HttpResponse::DeniedResponse(response))
    }
}

fn with_status(code: Code, response: HttpResponse) -> CheckResponse {
    let status = rpc::Status { code: code.into(), ..rpc::Status::default() };
    CheckResponse { status: Some(status), http_response: Some(response), dynamic_metadata: None }
}

/// The status of a denial, the stable word for it, and what people are told.
fn denial(code: pb::Code) -> (Denial, &'static str, &'static str) {
    match code {
        pb::Code::KeyNotFound => (Denial::Unauthorized, "key_not_found", "Nobody has this API key"),
        pb::Code::KeyRevoked => (Denial::Unauthorized, "key_revoked", "The API key was revoked"),
        pb::Code::KeyExpired => (Denial::Unauthorized, "key_expired", "The API key has expired"),
        pb::Code::KeyDisabled => (Denial::Unauthorized, "key_disabled", "The API key is switched off"),
        pb::Code::IpForbidden => {
            (Denial::Forbidden, "ip_forbidden", "The API key may not be used from this address")
        }
        pb::Code::ScopeMissing => {
            (Denial::Forbidden, "scope_missing", "The API key has not the scopes that this call needs")
        }
        pb::Code::OrganizationSuspended => {
            (Denial::Forbidden, "organization_suspended", "The organization of the API key is suspended")
        }
        pb::Code::StoreUnavailable => (
            Denial::Unavailable,
            "store_unavailable",
            "The limits cannot be checked now, and the policy says to refuse",
        ),
        pb::Code::QuotaExceeded => (Denial::TooMany, "quota_exceeded", "Quota exceeded"),
        pb::Code::ConcurrencyExceeded => (Denial::TooMany, "concurrency_exceeded", "Too many at once"),
        pb::Code::RateLimited | pb::Code::Ok | pb::Code::Unspecified => {
            (Denial::TooMany, "rate_limit_exceeded", "Rate limit exceeded")
        }
    }
}
