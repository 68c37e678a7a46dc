//! How a server reads what callers send, and writes what it answers.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::{DecodeError, Message};
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    ERROR_DOMAIN, Encoded,
    envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse},
    ratelimit::v1::{
        AcquireLeaseResponse, CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse,
        CheckStreamRequest, CheckStreamResponse, PeekResponse,
    },
};

/// The longest message that is copied out of the buffer it came in, in bytes.
const MAX_COPIED: usize = 1_024;

/// What [`tonic_prost::ProstCodec`] is, but for a message that does not decode: a server has it from
/// its caller, so it answers `INVALID_ARGUMENT` with a reason, where tonic would call it a defect. And it
/// passes on [`Encoded`] messages as they are.
///
/// The generated servers use it. The generated clients use tonic's: an answer that does not decode
/// is no fault of who asked.
#[derive(Debug)]
pub(crate) struct ServerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ServerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// How large the buffer for one message is at first, in bytes; it grows. With tonic's 8 KiB, twice for each unary call, a
/// check was measured to cost 2 % more.
const ONE_MESSAGE: usize = 512;
/// How large the buffer for many checks is at first, in bytes: tonic's default.
const MANY_CHECKS: usize = 8 * 1_024;
/// After how many bytes tonic passes on what was written: its default.
const YIELD_THRESHOLD: usize = 32 * 1_024;

/// What a server takes in.
pub(crate) trait Taken: Sized + Send + 'static {
    const BUFFER: usize = ONE_MESSAGE;

    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

/// What a server gives out.
pub(crate) trait Given: Send + 'static {
    const BUFFER: usize = ONE_MESSAGE;

    fn give(self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status>;
}

impl<M: Message + Default + 'static> Taken for M {
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Self::decode(buffer).map_err(|error| invalid_request(&error, ""))
    }
}

impl<M: Message + 'static> Given for M {
    fn give(self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// What may be [`Encoded`].
pub(crate) trait Hot: 'static {
    const BUFFER: usize;
}

macro_rules! hot {
    ($($message:ident: $buffer:expr),+) => { $(
        impl Hot for $message {
            const BUFFER: usize = $buffer;
        }
    )+ };
}

hot! {
    CheckRequest: ONE_MESSAGE, CheckResponse: ONE_MESSAGE, PeekResponse: ONE_MESSAGE,
    AcquireLeaseResponse: ONE_MESSAGE,
    CheckBatchRequest: MANY_CHECKS, CheckBatchResponse: MANY_CHECKS,
    RateLimitRequest: ONE_MESSAGE, RateLimitResponse: ONE_MESSAGE,
    CheckStreamRequest: MANY_CHECKS, CheckStreamResponse: MANY_CHECKS
}

impl<M: Hot> Taken for Encoded<M> {
    const BUFFER: usize = M::BUFFER;

    #[inline]
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        let length = buffer.remaining();
        Ok(match buffer.chunk() {
            // A short message is copied sooner than the buffer is shared.
            whole if length <= MAX_COPIED && whole.len() == length => {
                let copy = Self::from_bytes(Bytes::copy_from_slice(whole));
                buffer.advance(length);
                copy
            }
            _ => Self::from_bytes(buffer.copy_to_bytes(length)),
        })
    }
}

impl<M: Hot> Given for Encoded<M> {
    const BUFFER: usize = M::BUFFER;

    #[inline]
    fn give(self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(self.as_bytes());
        Ok(())
    }
}

impl<T: Given, U: Taken> Codec for ServerCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = AnswerEncoder<T>;
    type Decoder = RequestDecoder<U>;

    fn encoder(&mut self) -> AnswerEncoder<T> {
        AnswerEncoder(PhantomData)
    }

    fn decoder(&mut self) -> RequestDecoder<U> {
        RequestDecoder(PhantomData)
    }
}

/// Encodes the messages of an answer.
#[derive(Debug)]
pub(crate) struct AnswerEncoder<T>(PhantomData<T>);

impl<T: Given> Encoder for AnswerEncoder<T> {
    type Item = T;
    type Error = Status;

    #[inline]
    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.give(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(T::BUFFER, YIELD_THRESHOLD)
    }
}

/// Decodes the messages of a request.
#[derive(Debug)]
pub(crate) struct RequestDecoder<U>(PhantomData<U>);

impl<U: Taken> Decoder for RequestDecoder<U> {
    type Item = U;
    type Error = Status;

    #[inline]
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::take(buffer).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(U::BUFFER, YIELD_THRESHOLD)
    }
}

/// `INVALID_REQUEST`, with a violation where prost knows the field. `within` is the path of the message that was
/// decoded; empty for a whole request.
#[cold]
pub(crate) fn invalid_request(error: &DecodeError, within: &str) -> Status {
    let text = error.to_string();
    let (field, cause) = field_and_cause(&text);
    let path = [within, &field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
    let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", ERROR_DOMAIN, []);
    let message = if path.is_empty() {
        format!("invalid request: the message does not decode: {cause}")
    } else {
        details.add_bad_request_violation(&path, cause);
        format!("invalid request: {path}: {cause}")
    };
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Path of the field, empty if unknown, and what is wrong with it.
///
/// prost tells them in words only, the innermost field first:
/// `failed to decode Protobuf message: Inner.field: Outer.inner: buffer underflow`.
fn field_and_cause(text: &str) -> (String, &str) {
    let mut cause = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(text);
    let mut fields = Vec::new();
    while let Some((place, rest)) = cause.split_once(": ")
        && let Some((_message, field)) = place.split_once('.')
        && !place.contains(' ')
    {
        fields.push(field);
        cause = rest;
    }
    fields.reverse();
    (fields.join("."), cause)
}

#[cfg(test)]
mod tests;
