//! How a server reads what callers send.

use std::marker::PhantomData;

use prost::{DecodeError, Message};
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, StatusExt};

use crate::ERROR_DOMAIN;

/// What [`tonic_prost::ProstCodec`] is, but for a message that does not decode: a server has it from
/// its caller, so it answers `INVALID_ARGUMENT` with a reason, where tonic would call it a defect.
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

impl<T, U> Codec for ServerCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = RequestDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> RequestDecoder<U> {
        RequestDecoder(PhantomData)
    }
}

/// Decodes the messages of a request.
#[derive(Debug)]
pub(crate) struct RequestDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for RequestDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        match U::decode(buffer) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(invalid_request(&error)),
        }
    }
}

/// `INVALID_REQUEST`, with a violation where prost knows the field.
#[cold]
fn invalid_request(error: &DecodeError) -> Status {
    let text = error.to_string();
    let (field, cause) = field_and_cause(&text);
    let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", ERROR_DOMAIN, []);
    let message = if field.is_empty() {
        format!("invalid request: the message does not decode: {cause}")
    } else {
        details.add_bad_request_violation(&field, cause);
        format!("invalid request: {field}: {cause}")
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
