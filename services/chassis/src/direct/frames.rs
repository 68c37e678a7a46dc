//! Length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message").

use std::ops::Range;

use bytes::Bytes;
use tonic::Status;

/// One byte of flags and the length of the message, big-endian.
pub(super) const PREFIX: usize = 5;

/// What was received, in one piece: pieces are copied together only where it takes more than one.
#[derive(Default)]
pub(super) struct Received {
    /// The only piece; empty if `joined` is not.
    piece: Bytes,
    joined: Vec<u8>,
}

impl Received {
    /// Forgets the first `forgotten` bytes, and takes in another piece.
    #[inline]
    pub(super) fn push(&mut self, forgotten: usize, piece: Bytes) {
        if forgotten == 0 && piece.is_empty() {
            // Many clients end a request by an empty piece.
        } else if forgotten == self.bytes().len() {
            *self = Self { piece, joined: Vec::new() };
        } else {
            self.join(forgotten, &piece);
        }
    }

    fn join(&mut self, forgotten: usize, piece: &[u8]) {
        if self.joined.is_empty() {
            let begun = &self.piece[forgotten..];
            self.joined = Vec::with_capacity(begun.len() + piece.len());
            self.joined.extend_from_slice(begun);
            self.piece = Bytes::new();
        } else {
            self.joined.drain(..forgotten);
        }
        self.joined.extend_from_slice(piece);
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.piece } else { &self.joined }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.piece } else { self.joined.into() }
    }
}

/// Where the message lies that begins at `begin`, if the whole of it is there.
///
/// # Errors
///
/// What tonic answers: `INTERNAL` if it says that it is compressed, `OUT_OF_RANGE` if it is longer than `max` bytes. Both
/// show as soon as its prefix is there.
#[inline]
pub(super) fn message(received: &[u8], begin: usize, max: usize) -> Result<Option<Range<usize>>, Status> {
    let begin_message = begin + PREFIX;
    let Some(prefix) = received.get(begin..begin_message) else { return Ok(None) };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 {
        return Err(compressed(prefix[0]));
    }
    if length > max {
        return Err(too_long(length, max));
    }
    let end = begin_message + length;
    Ok((received.len() >= end).then_some(begin_message..end))
}

/// Appends a message, whose bytes `write` appends; if that fails, nothing.
#[inline]
pub(super) fn frame<E>(
    buffer: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let begin = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    let written = write(buffer);
    if written.is_err() {
        buffer.truncate(begin);
        return written;
    }
    let length = u32::try_from(buffer.len() - begin - PREFIX).expect("no answer has 4 GiB");
    buffer[begin + 1..begin + PREFIX].copy_from_slice(&length.to_be_bytes());
    written
}

#[cold]
fn compressed(flags: u8) -> Status {
    // The protocol demands INTERNAL.
    Status::internal(format!("a message has the flags {flags}, but grpc-encoding names no compression"))
}

#[cold]
fn too_long(length: usize, max: usize) -> Status {
    Status::out_of_range(format!("a message has {length} bytes, the limit is {max}"))
}

/// The request ended within a message.
#[cold]
pub(super) fn cut() -> Status {
    Status::internal("the request ended within a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 300;

    /// The messages of `bytes`, received as two pieces.
    fn received(bytes: &[u8], cut: usize) -> Vec<Vec<u8>> {
        let (mut received, mut taken, mut found) = (Received::default(), 0, Vec::new());
        for piece in [&bytes[..cut], &bytes[cut..]] {
            received.push(std::mem::take(&mut taken), Bytes::copy_from_slice(piece));
            while let Some(range) = message(received.bytes(), taken, MAX).unwrap() {
                taken = range.end;
                found.push(received.bytes()[range].to_vec());
            }
        }
        assert_eq!(taken, received.bytes().len());
        found
    }

    #[test]
    fn messages_are_found_wherever_the_pieces_are_cut() {
        let messages = [&b"one"[..], b"", &[7; MAX], b"four"];
        let mut bytes = Vec::new();
        for message in messages {
            frame(&mut bytes, |buffer| {
                buffer.extend_from_slice(message);
                Ok::<_, ()>(())
            })
            .unwrap();
        }
        for cut in 0..=bytes.len() {
            assert_eq!(received(&bytes, cut), messages, "cut at {cut}");
        }
    }

    #[test]
    fn faults_show_with_the_prefix() {
        for cut in 0..PREFIX {
            assert_eq!(message(&[1; PREFIX][..cut], 0, MAX).unwrap(), None);
        }
        assert_eq!(message(&[1, 0, 0, 0, 9], 0, MAX).unwrap_err().code(), tonic::Code::Internal);
        assert_eq!(message(&[0, 0, 0, 1, 45], 0, MAX).unwrap_err().code(), tonic::Code::OutOfRange);
        assert_eq!(message(&[0, 0, 0, 1, 44], 0, MAX).unwrap(), None, "the longest");
        assert_eq!(message(&[0, 0xff, 0xff, 0xff, 0xff], 0, usize::MAX - 5).unwrap(), None);
    }

    #[test]
    fn what_failed_to_be_written_leaves_nothing() {
        let mut buffer = vec![1, 2];
        let written = frame(&mut buffer, |buffer| {
            buffer.push(3);
            Err("as told")
        });
        assert_eq!((written, buffer), (Err("as told"), vec![1, 2]));
    }
}
