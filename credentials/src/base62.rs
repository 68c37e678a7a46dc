//! Numbers and randomness as digits that no program takes for a separator.

/// The digits, in their order.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits that a checksum takes: 62^6 is more than 2^32.
pub(crate) const CHECKSUM_DIGITS: usize = 6;

/// The CRC-32 (IEEE 802.3) of `bytes`, with leading zeros.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(bytes);
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Appends `count` digits, each as likely as any other. `fill` gives uniform random bytes; of each six bits are looked at, and what
/// stands for none of the 62 digits is drawn again.
pub(crate) fn push_random(text: &mut String, count: usize, mut fill: impl FnMut(&mut [u8])) {
    let end = text.len() + count;
    let mut bytes = [0; 64];
    while text.len() < end {
        fill(&mut bytes);
        let digits = bytes.iter().filter_map(|byte| DIGITS.get(usize::from(byte & 0x3F)));
        text.extend(digits.take(end - text.len()).map(|digit| char::from(*digit)));
    }
    bytes.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_has_six_digits_and_is_the_crc_that_everybody_computes() {
        // The check value of CRC-32/ISO-HDLC is 0xCBF43926 = 3421780262.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn every_digit_is_drawn_as_often() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut text = String::new();
        push_random(&mut text, 62_000, |bytes| {
            for byte in bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[3];
            }
        });
        assert_eq!(text.len(), 62_000);
        for digit in DIGITS {
            let times = text.bytes().filter(|byte| byte == digit).count();
            // 1,000 is expected, with a standard deviation of 31.
            assert!((800..1_200).contains(&times), "{}: {times}", char::from(*digit));
        }
    }

    #[test]
    fn bytes_that_stand_for_no_digit_are_drawn_again() {
        let mut draws = 0;
        let mut text = String::new();
        push_random(&mut text, 3, |bytes| {
            bytes.fill(if draws == 0 { 63 } else { 61 });
            draws += 1;
        });
        assert_eq!((text.as_str(), draws), ("zzz", 2));
    }
}
