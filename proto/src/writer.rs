//! The fields of an encoded message, written one by one.

use prost::encoding::{WireType, encode_varint};

/// The most numbers that are written together.
const MAX_NUMBERS: usize = 12;
/// The most bytes of a key and a varint of up to 56 bits.
const KEYED_BYTES: usize = 9;

/// Appends the fields of a message to a buffer.
///
/// As in proto3, what is zero or empty is not written; [`present`](Self::present) and
/// [`message`](Self::message) always write. Numbers of fields are 1 to 15, whose keys take one byte.
#[derive(Debug)]
pub struct Writer<'b>(&'b mut Vec<u8>);

impl<'b> Writer<'b> {
    /// Appends to `buffer`.
    #[inline]
    pub fn new(buffer: &'b mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    /// A number or an enumeration.
    #[inline]
    pub fn number(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.present(field, value);
        }
    }

    /// Several numbers, enumerations or booleans, at most twelve: numbers of fields and values.
    #[inline]
    pub fn numbers<const N: usize>(&mut self, fields: [(u8, u64); N]) {
        const { assert!(N <= MAX_NUMBERS, "there is room for twelve") };
        if fields.iter().any(|(_, value)| *value >= 1 << 56) {
            return fields.into_iter().for_each(|(field, value)| self.number(field, value));
        }
        // Room for all of them at once; what they do not need is taken back.
        let begin = self.0.len();
        self.0.extend_from_slice(&[0; MAX_NUMBERS * KEYED_BYTES]);
        let piece =
            self.0[begin..].first_chunk_mut::<{ MAX_NUMBERS * KEYED_BYTES }>().expect("just appended");
        let mut end = 0;
        for (field, value) in fields {
            if value > 0 {
                let (bytes, length) = varint_of_56_bits(value);
                piece[end] = key(field, WireType::Varint);
                piece[end + 1..end + KEYED_BYTES].copy_from_slice(&bytes);
                end += 1 + length;
            }
        }
        self.0.truncate(begin + end);
    }

    /// A number, zero or not: of a field with presence.
    #[inline]
    pub fn present(&mut self, field: u8, value: u64) {
        self.keyed(key(field, WireType::Varint), value);
    }

    /// A string or bytes.
    #[inline]
    pub fn bytes(&mut self, field: u8, value: &[u8]) {
        if !value.is_empty() {
            self.keyed(key(field, WireType::LengthDelimited), value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }

    /// A message, whose fields `write` appends; of most it is known that they are shorter than 128 bytes.
    #[inline]
    pub fn message(&mut self, field: u8, write: impl FnOnce(&mut Writer<'_>)) {
        self.0.extend_from_slice(&[key(field, WireType::LengthDelimited), 0]);
        self.after_length(1, write);
    }

    /// A [`message`](Self::message) that most often has 128 to 16,383 bytes.
    #[inline]
    pub fn long_message(&mut self, field: u8, write: impl FnOnce(&mut Writer<'_>)) {
        self.0.extend_from_slice(&[key(field, WireType::LengthDelimited), 0, 0]);
        self.after_length(2, write);
    }

    /// A [`long_message`](Self::long_message); if `write` fails, nothing.
    ///
    /// # Errors
    ///
    /// That of `write`.
    #[inline]
    pub fn try_long_message<E>(
        &mut self,
        field: u8,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = self.0.len();
        let mut written = Ok(());
        self.long_message(field, |out| written = write(out));
        if written.is_err() {
            self.0.truncate(begin);
        }
        written
    }

    /// Fields that were written before.
    #[inline]
    pub fn written(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// A message of the generated code.
    pub fn generated(&mut self, field: u8, message: &impl prost::Message) {
        self.keyed(key(field, WireType::LengthDelimited), message.encoded_len() as u64);
        message.encode(self.0).expect("a Vec has room for it");
    }

    /// What `write` appends, and its length into the `room` that was left before it.
    #[inline]
    fn after_length(&mut self, room: usize, write: impl FnOnce(&mut Writer<'_>)) {
        let begin = self.0.len();
        write(&mut Writer(self.0));
        let (bytes, length) = varint_of_56_bits((self.0.len() - begin) as u64);
        if length != room {
            self.shift(begin, begin - room + length);
        }
        self.0[begin - room..][..length].copy_from_slice(&bytes[..length]);
    }

    /// Moves everything from `begin` on to `to`.
    #[cold]
    fn shift(&mut self, begin: usize, to: usize) {
        let end = self.0.len();
        self.0.resize(end.max(end + to - begin), 0);
        self.0.copy_within(begin..end, to);
        self.0.truncate(end + to - begin);
    }

    /// A key and the varint behind it.
    #[inline]
    fn keyed(&mut self, key: u8, value: u64) {
        if let Ok(value @ 0..=127) = u8::try_from(value) {
            self.0.extend_from_slice(&[key, value]);
        } else {
            self.0.push(key);
            encode_varint(value, self.0);
        }
    }
}

/// Key of a field: its number, and how it is written.
#[inline]
fn key(field: u8, wire_type: WireType) -> u8 {
    debug_assert!((1..=15).contains(&field), "field {field} has a longer key");
    field << 3 | wire_type as u8
}

/// A varint without a loop: groups of seven bits are moved apart, all at once, and the first bit of all but the
/// last byte is set. `value` is below 2^56. Answers eight bytes, and how many of them are the varint.
#[inline]
fn varint_of_56_bits(value: u64) -> ([u8; 8], usize) {
    let halves = value & 0x0fff_ffff | (value & 0xff_ffff_f000_0000) << 4;
    let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let groups = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let last = (63 - (groups | 1).leading_zeros()) / 8;
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * last)) - 1);
    ((groups | more).to_le_bytes(), last as usize + 1)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::ratelimit::v1::{CheckError, FieldViolation};

    #[test]
    fn varints_are_written_as_the_generated_code_writes_them() {
        let around = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in around.chain([u64::MAX, 0x0123_4567_89ab_cdef]) {
            let (mut ours, mut theirs) = (Vec::new(), vec![3 << 3]);
            Writer::new(&mut ours).present(3, value);
            encode_varint(value, &mut theirs);
            assert_eq!(ours, theirs, "{value}");
            if value > 0 {
                ours.clear();
                Writer::new(&mut ours).numbers([(1, 0), (3, value), (4, 0)]);
                assert_eq!(ours, theirs, "{value}");
                ours.clear();
                Writer::new(&mut ours).numbers([(3, value); 12]);
                assert_eq!(ours, theirs.repeat(12), "{value}");
            }
        }
    }

    #[test]
    fn messages_of_every_length_are_written_as_the_generated_code_writes_them() {
        for length in [0, 1, 100, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16_380, 16_384, 20_000] {
            let violation = FieldViolation { field: "x".repeat(length), description: String::new() };
            let error = CheckError { violations: vec![violation.clone()], ..CheckError::default() };
            let mut ours = Vec::new();
            Writer::new(&mut ours).message(4, |out| out.bytes(1, violation.field.as_bytes()));
            assert_eq!(ours, error.encode_to_vec(), "{length}");
            ours.clear();
            Writer::new(&mut ours).long_message(4, |out| out.bytes(1, violation.field.as_bytes()));
            assert_eq!(ours, error.encode_to_vec(), "{length}");
            ours.clear();
            Writer::new(&mut ours).generated(4, &violation);
            assert_eq!(ours, error.encode_to_vec(), "{length}");
        }
    }

    #[test]
    fn message_that_fails_to_be_written_leaves_nothing() {
        let (mut buffer, mut expected) = (Vec::new(), Vec::new());
        let mut out = Writer::new(&mut buffer);
        out.present(1, 7);
        let failed = out.try_long_message(2, |out| {
            out.bytes(3, b"half");
            Err("as told")
        });
        assert_eq!(failed, Err("as told"));
        assert_eq!(
            out.try_long_message(2, |out| {
                out.bytes(3, b"whole");
                Ok::<_, ()>(())
            }),
            Ok(())
        );
        let mut out = Writer::new(&mut expected);
        out.present(1, 7);
        out.long_message(2, |out| out.bytes(3, b"whole"));
        assert_eq!(buffer, expected);
    }

    #[test]
    fn what_is_zero_is_written_only_where_presence_counts() {
        let mut buffer = Vec::new();
        let mut out = Writer::new(&mut buffer);
        out.number(1, 0);
        out.numbers([(2, 0), (6, 0)]);
        out.bytes(3, b"");
        out.present(4, 0);
        out.message(5, |_| {});
        assert_eq!(buffer, [4 << 3, 0, 5 << 3 | 2, 0]);
    }
}
