//! Proves, method by method, that a service lets in those whom its table names, and nobody else.

use anyhow::Context;
use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::Channel,
};
use tonic_types::StatusExt;

/// What the chassis says of credentials that are not good. Were it to say something else, bad ones would not be found refused.
const NOT_GOOD: &str = "the credentials are not good, or have expired";

/// A method, and who may call it by the service's table.
#[derive(Clone, Debug)]
pub struct Method<'a> {
    /// "/package.Service/Method".
    pub path: &'a str,
    /// Roles that may; none = anybody.
    pub roles: Option<Vec<&'a str>>,
}

/// Somebody who calls.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// For what is said when something is wrong.
    pub name: &'a str,
    /// The value of the `authorization` header; none = no credentials.
    pub authorization: Option<String>,
    /// What a service that verifies it finds.
    pub shows: Credentials<'a>,
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// Nothing.
    None,
    /// Something that is not good.
    Bad,
    /// That it has this role.
    Role(&'a str),
}

/// What becomes of a call before its handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Missing,
    Invalid,
    RoleMissing,
    /// The handler saw it, whatever it said.
    Passed,
}

/// Calls every method as every caller, with an empty message, and says of each call that did not go as the table wants how it
/// went instead. Credentials have to be needed by the service: it believes nobody without.
///
/// # Errors
///
/// There is nothing to prove, or the service at `channel` cannot be called.
pub async fn violations(
    channel: &Channel,
    methods: &[Method<'_>],
    callers: &[Caller<'_>],
) -> anyhow::Result<Vec<String>> {
    anyhow::ensure!(!methods.is_empty() && !callers.is_empty(), "nothing to prove");
    let mut violations = Vec::new();
    for method in methods {
        for caller in callers {
            let expected = expected(method, caller.shows);
            let (gate, status) = call(channel, method, caller).await?;
            if gate != expected {
                let (path, name) = (method.path, caller.name);
                violations.push(format!("{path} as {name}: {gate:?} instead of {expected:?}: {status:?}"));
            }
        }
    }
    Ok(violations)
}

fn expected(method: &Method<'_>, shows: Credentials<'_>) -> Gate {
    let Some(roles) = &method.roles else { return Gate::Passed };
    match shows {
        Credentials::None => Gate::Missing,
        Credentials::Bad => Gate::Invalid,
        Credentials::Role(role) if roles.contains(&role) => Gate::Passed,
        Credentials::Role(_) => Gate::RoleMissing,
    }
}

async fn call(
    channel: &Channel,
    method: &Method<'_>,
    caller: &Caller<'_>,
) -> anyhow::Result<(Gate, Option<Status>)> {
    let path = method.path;
    let mut request = Request::new(tokio_stream::once(Bytes::new()));
    if let Some(authorization) = &caller.authorization {
        let value = MetadataValue::try_from(authorization).context("a header")?;
        request.metadata_mut().insert("authorization", value);
    }
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.context("the service")?;
    // Whatever the method is: one message, and answers of any number.
    let Err(status) = grpc.streaming(request, path.parse().context("a path")?, Raw).await else {
        return Ok((Gate::Passed, None));
    };
    let details = status.get_error_details();
    let info = details.error_info();
    let gate = match (status.code(), info.map_or("", |info| &*info.reason)) {
        (Code::Unimplemented | Code::Unavailable, _) if info.is_none() => {
            anyhow::bail!("{path} cannot be called: {status:?}")
        }
        (Code::Unauthenticated, "CREDENTIALS_MISSING") => Gate::Missing,
        // A handler says so of a password or of an account, in other words.
        (Code::Unauthenticated, "CREDENTIALS_INVALID") if status.message() == NOT_GOOD => Gate::Invalid,
        // A handler that misses the right organization does not name roles.
        (Code::PermissionDenied, "ROLE_MISSING")
            if info.is_some_and(|info| info.metadata.contains_key("needed_roles")) =>
        {
            Gate::RoleMissing
        }
        _ => Gate::Passed,
    };
    Ok((gate, Some(status)))
}

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, destination: &mut EncodeBuf<'_>) -> Result<(), Status> {
        destination.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
