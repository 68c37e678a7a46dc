//! The fields of an encoded message, read one by one.

use prost::encoding::{DecodeContext, WireType, decode_varint, skip_field};

/// Bytes that are not an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message does not decode")]
pub struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a boolean or an enumeration.
    Varint(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of fixed width or a group, which no message of Tidegate has. It was stepped over.
    Other,
}

impl<'a> Value<'a> {
    /// The number.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it holds something else.
    #[inline]
    pub fn varint(self) -> Result<u64, Malformed> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(Malformed) }
    }

    /// The number of a field that takes 32 bits: what is above them is dropped, as the protocol has it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it holds something else.
    #[inline]
    pub fn uint32(self) -> Result<u32, Malformed> {
        let [a, b, c, d, ..] = self.varint()?.to_le_bytes();
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    /// The number of an enumeration.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it holds something else.
    #[inline]
    pub fn enumeration(self) -> Result<i32, Malformed> {
        Ok(i32::from_le_bytes(self.uint32()?.to_le_bytes()))
    }

    /// The bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it holds something else.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(value) = self { Ok(value) } else { Err(Malformed) }
    }

    /// The string.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it holds something else or is no UTF-8.
    #[inline]
    pub fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of one message, in the order in which they were sent: number and value. Ends after [`Malformed`].
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads an encoded message.
    #[inline]
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let [byte @ 0..=127, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        decode_varint(&mut self.0).map_err(|_| Malformed)
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = key >> 3;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match WireType::try_from(u64::from(key & 7)).map_err(|_| Malformed)? {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            other => {
                skip_field(other, number, &mut self.0, DecodeContext::default()).map_err(|_| Malformed)?;
                Value::Other
            }
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_behind_what_is_malformed() {
        assert_eq!(Fields::of(&[0xff; 12]).collect::<Vec<_>>(), [Err(Malformed)]);
        assert_eq!(
            Fields::of(&[8, 1, 0, 8, 1]).collect::<Vec<_>>(),
            [Ok((1, Value::Varint(1))), Err(Malformed)]
        );
    }

    /// Where the fields of the message below end.
    const ENDS: [usize; 6] = [3, 7, 16, 21, 25, 31];

    #[test]
    fn fields_of_every_kind_are_met_in_order() {
        let message = [
            &[1 << 3, 0x96, 0x01][..],             // 150
            &[2 << 3 | 2, 2, b'h', b'i'],          // "hi"
            &[3 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0], // 64 bits
            &[4 << 3 | 5, 0, 0, 0, 0],             // 32 bits
            &[5 << 3 | 3, 1 << 3, 1, 5 << 3 | 4],  // a group
            &[0xf8, 0xff, 0xff, 0xff, 0x0f, 7],    // the largest number of a field
        ]
        .concat();
        let fields: Result<Vec<_>, _> = Fields::of(&message).collect();
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Other),
            (4, Value::Other),
            (5, Value::Other),
            ((1 << 29) - 1, Value::Varint(7)),
        ];
        assert_eq!(fields.as_deref(), Ok(&expected[..]));
        for end in 0..message.len() {
            let cut: Vec<_> = Fields::of(&message[..end]).collect();
            let whole = ENDS.iter().filter(|whole| **whole <= end).count();
            assert_eq!(cut.len() > whole, !ENDS.contains(&end) && end > 0, "cut after {end}");
            assert_eq!(cut.get(whole).copied().unwrap_or(Err(Malformed)), Err(Malformed), "cut after {end}");
            assert_eq!(cut[..whole], expected[..whole].iter().map(|field| Ok(*field)).collect::<Vec<_>>());
        }
    }
}
