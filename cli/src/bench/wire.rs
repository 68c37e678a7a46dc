//! gRPC frames and the one field of an answer that the generator looks at.
//!
//! A generated client would decode every limit of every answer and so cost more than the server
//! that is being measured. This reads `allowed` and steps over the rest.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidegate_proto::fields::{self, Fields, Value};

/// Length of the prefix of a gRPC message: one flag byte and the length of the message.
pub(crate) const PREFIX: usize = 5;

/// What an answer said of its checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    /// Checks of a batch or a stream that were answered by an error.
    pub(crate) refused: u64,
    /// The reason of one such error.
    pub(crate) reason: Option<String>,
}

impl Decided {
    /// All checks that were decided.
    pub(crate) fn sum(&self) -> u64 {
        self.allowed + self.denied
    }

    /// Adds what another answer said.
    pub(crate) fn add(&mut self, other: Self) {
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.refused += other.refused;
        if self.reason.is_none() {
            self.reason = other.reason;
        }
    }

    fn one(allowed: bool) -> Self {
        Self { allowed: u64::from(allowed), denied: u64::from(!allowed), ..Self::default() }
    }

    fn refused(reason: String) -> Self {
        Self { refused: 1, reason: Some(reason), ..Self::default() }
    }
}

/// An answer that the contract does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not what the contract says")]
pub(crate) struct Malformed;

impl From<fields::Malformed> for Malformed {
    fn from(_: fields::Malformed) -> Self {
        Self
    }
}

/// Appends one gRPC message whose bytes `write` appends.
pub(crate) fn frame(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let begin = buffer.len();
    buffer.put_bytes(0, PREFIX);
    write(buffer);
    let length = u32::try_from(buffer.len() - begin - PREFIX).expect("checks are far below 4 GiB");
    buffer[begin + 1..begin + PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// Reads a `CheckResponse`, or the answer of another [`Protocol`](super::protocol::Protocol).
pub(crate) fn check_response(message: &[u8]) -> Result<Decided, Malformed> {
    let mut allowed = false;
    for field in Fields::of(message) {
        if let (1, Value::Varint(value)) = field? {
            allowed = value == 1;
            // Later fields are of no interest, and encoders write fields in order.
            break;
        }
    }
    Ok(Decided::one(allowed))
}

/// Reads a `CheckBatchResponse`.
pub(crate) fn batch_response(message: &[u8]) -> Result<Decided, Malformed> {
    let mut all = Decided::default();
    for field in Fields::of(message) {
        if let (1, Value::Bytes(result)) = field? {
            all.add(batch_result(result)?);
        }
    }
    Ok(all)
}

/// Reads a `CheckBatchResult`.
fn batch_result(result: &[u8]) -> Result<Decided, Malformed> {
    match Fields::of(result).next().ok_or(Malformed)?? {
        (1, Value::Bytes(result)) => check_response(result),
        (2, Value::Bytes(error)) => reason(error).map(Decided::refused),
        _ => Err(Malformed),
    }
}

/// Reads a `CheckStreamResponse`: its id, and what it said.
pub(crate) fn stream_response(message: &[u8]) -> Result<(u64, Decided), Malformed> {
    let mut id = 0;
    let mut outcome = None;
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(value)) => id = value,
            (2, Value::Bytes(result)) => outcome = Some(check_response(result)?),
            (3, Value::Bytes(error)) => outcome = Some(Decided::refused(reason(error)?)),
            _ => {}
        }
    }
    Ok((id, outcome.ok_or(Malformed)?))
}

/// The `reason` of a `CheckError`.
fn reason(error: &[u8]) -> Result<String, Malformed> {
    let mut reason = String::new();
    for field in Fields::of(error) {
        if let (2, Value::Bytes(text)) = field? {
            reason = String::from_utf8_lossy(text).into_owned();
        }
    }
    Ok(reason)
}

/// Cuts a byte stream into gRPC messages.
#[derive(Default)]
pub(crate) struct Deframer {
    /// The beginning of a message whose end has not come yet.
    partial: BytesMut,
}

impl Deframer {
    /// Calls `each` with every message that `chunk` completes.
    pub(crate) fn push<E>(
        &mut self,
        chunk: &Bytes,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest: &[u8] = chunk;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(chunk);
            while let Some(length) = complete(&self.partial) {
                each(&self.partial[PREFIX..length])?;
                self.partial.advance(length);
            }
            return Ok(());
        }
        while let Some(length) = complete(rest) {
            each(&rest[PREFIX..length])?;
            rest = &rest[length..];
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}

/// Length of the message at the front, prefix included, if all of it is there.
fn complete(buffer: &[u8]) -> Option<usize> {
    let length = buffer.get(1..PREFIX)?.try_into().expect("the slice is four bytes long");
    let length = PREFIX + u32::from_be_bytes(length) as usize;
    (buffer.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tidegate_proto::ratelimit::v1::{
        CheckBatchResponse, CheckBatchResult, CheckError, CheckResponse, CheckStreamResponse, LimitStatus,
        check_batch_result, check_stream_response,
    };

    use super::*;

    fn answer(allowed: bool) -> CheckResponse {
        let limit =
            LimitStatus { name: "free/minute".to_owned(), limit: 1_000_000, ..LimitStatus::default() };
        CheckResponse { allowed, code: 1, limits: vec![limit; 3], ..CheckResponse::default() }
    }

    fn error() -> CheckError {
        CheckError { status_code: 5, reason: "NAMESPACE_NOT_FOUND".to_owned(), ..CheckError::default() }
    }

    #[test]
    fn answers_are_read_as_the_generated_code_writes_them() {
        for allowed in [true, false] {
            assert_eq!(check_response(&answer(allowed).encode_to_vec()), Ok(Decided::one(allowed)));
        }

        let result = |outcome| CheckBatchResult { outcome: Some(outcome) };
        let results = vec![
            result(check_batch_result::Outcome::Result(answer(true))),
            result(check_batch_result::Outcome::Error(error())),
            result(check_batch_result::Outcome::Result(answer(false))),
            result(check_batch_result::Outcome::Result(answer(true))),
        ];
        let reason = Some("NAMESPACE_NOT_FOUND".to_owned());
        let decided = Decided { allowed: 2, denied: 1, refused: 1, reason };
        assert_eq!(batch_response(&CheckBatchResponse { results }.encode_to_vec()), Ok(decided));

        let outcome = Some(check_stream_response::Outcome::Result(answer(true)));
        let result = CheckStreamResponse { id: 7, outcome }.encode_to_vec();
        assert_eq!(stream_response(&result), Ok((7, Decided::one(true))));
        let outcome = Some(check_stream_response::Outcome::Error(error()));
        let result = CheckStreamResponse { id: 8, outcome }.encode_to_vec();
        assert_eq!(stream_response(&result), Ok((8, Decided::refused("NAMESPACE_NOT_FOUND".to_owned()))));
    }

    #[test]
    fn cut_answers_are_malformed() {
        let outcome = Some(check_batch_result::Outcome::Result(answer(true)));
        let batch = CheckBatchResponse { results: vec![CheckBatchResult { outcome }] }.encode_to_vec();
        assert_eq!(batch_response(&batch[..batch.len() - 1]), Err(Malformed));
        assert_eq!(stream_response(&[]), Err(Malformed));
    }

    #[test]
    fn messages_are_found_wherever_the_chunks_are_cut() {
        let mut all = BytesMut::new();
        for message in [&b"one"[..], b"", b"three"] {
            frame(&mut all, |buffer| buffer.put_slice(message));
        }
        let all = all.freeze();
        for cut in 0..=all.len() {
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            for chunk in [all.slice(..cut), all.slice(cut..)] {
                deframer
                    .push(&chunk, |message| {
                        found.push(message.to_vec());
                        Ok::<_, Malformed>(())
                    })
                    .unwrap();
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "cut at {cut}");
        }
    }
}
