//! The methods that take the value of a key.

use tidegate_chassis::error::Violations;
use tidegate_credentials::{MAX_VALUE_BYTES, ScopeExpression, Standing, key_hash};
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    api_keys::sha256,
    asking::{Asking, address, anybody, refuse},
    render,
};
use crate::{api_keys::Leak, identity::Attempt, resolve::key_standing};

const MAX_SOURCE_CHARS: usize = 128;
const MAX_URL_CHARS: usize = 1_024;

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn verify_key(
        &self,
        request: Request<pb::VerifyKeyRequest>,
    ) -> Answer<pb::VerifyKeyResponse> {
        let Asking { caller, request, .. } = Asking::read(request, &self.proxies)?;
        let mut violations = Violations::default();
        let client_ip = address("client_ip", &request.client_ip, &mut violations);
        let required = ScopeExpression::parse(&request.required_scopes);
        if let Err(error) = &required {
            violations.add("required_scopes", error.to_string());
        }
        if request.api_key.is_empty() {
            violations.add("api_key", "must be given");
        }
        refuse(violations)?;
        let found = self.resolver.resolve_value(&request.api_key).await?;
        let found = found.filter(|(key, _)| caller.may_touch(key.organization_id.0));
        let (Some((key, organization)), Ok(required)) = (found, required) else {
            let code = Standing::KeyNotFound.as_str().to_owned();
            return Ok(Response::new(pb::VerifyKeyResponse { code, ..pb::VerifyKeyResponse::default() }));
        };
        let now_us = self.clock.now_us();
        let standing = key_standing(&key, &organization, now_us, client_ip, &required);
        Ok(Response::new(pb::VerifyKeyResponse {
            valid: standing == Standing::Accepted,
            code: standing.as_str().to_owned(),
            key: Some(render::api_key(&key, now_us)),
            organization: Some(render::organization(&organization)),
        }))
    }

    pub(super) async fn report_leaked_key(
        &self,
        request: Request<pb::ReportLeakedKeyRequest>,
    ) -> Answer<pb::ReportLeakedKeyResponse> {
        let by = anybody(&request, &self.proxies);
        self.attempts.check(Attempt::ReportLeak, None, &by.origin).await?;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let hash = match (request.api_key.as_str(), &*request.key_sha256) {
            ("", hash) => sha256("key_sha256", hash, &mut violations),
            (value, []) if value.len() <= MAX_VALUE_BYTES => key_hash(value),
            (_, []) => {
                violations.add("api_key", "must be at most 512 bytes");
                [0; 32]
            }
            (_, _) => {
                violations.add("key_sha256", "must be empty if the key itself is given");
                [0; 32]
            }
        };
        let mut text = |field: &str, text: &str, most: usize| {
            if text.chars().count() > most || text.chars().any(char::is_control) {
                violations
                    .add(field, format!("must be at most {most} characters, and no control characters"));
            }
            text.to_owned()
        };
        let leak = Leak {
            source: text("source", &request.source, MAX_SOURCE_CHARS),
            url: text("url", &request.url, MAX_URL_CHARS),
        };
        refuse(violations)?;
        if let Some((key, _)) = self.resolver.resolve(&hash).await?.key {
            self.keys.revoke_leaked(&by, &key, &leak).await?;
        }
        Ok(Response::new(pb::ReportLeakedKeyResponse {}))
    }
}
