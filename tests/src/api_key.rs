//! Values that look like API keys, by the form that docs/reference/api-keys.md publishes.

use crate::dice::Dice;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECKSUM_DIGITS: usize = 6;

/// A value with a right checksum that nobody has.
#[must_use]
pub fn nobodys(dice: &mut Dice) -> String {
    let digits = (0..32).map(|_| char::from(DIGITS[dice.below(DIGITS.len())]));
    with_checksum(&digits.fold("tk_live_".to_owned(), |value, digit| value + &digit.to_string()))
}

/// The value that differs from `value` in the last of its random digits, with a right checksum.
#[must_use]
pub fn neighbour(value: &str) -> String {
    let (body, _) = value.split_at(value.len() - CHECKSUM_DIGITS);
    let (kept, last) = body.split_at(body.len() - 1);
    with_checksum(&format!("{kept}{}", another(last)))
}

/// The same value with a wrong checksum.
#[must_use]
pub fn misspelt(value: &str) -> String {
    let (kept, last) = value.split_at(value.len() - 1);
    format!("{kept}{}", another(last))
}

fn another(digit: &str) -> &'static str {
    if digit == "0" { "1" } else { "0" }
}

fn with_checksum(body: &str) -> String {
    let mut rest = crc32(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().fold(body.to_owned(), |value, digit| value + &char::from(*digit).to_string())
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shifted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_ieee_802_3() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value that catalogues of CRCs give");
    }

    #[test]
    fn neighbour_differs_in_its_last_digit_and_misspelt_in_its_checksum_only() {
        let value = nobodys(&mut Dice::new(1));
        assert_eq!(value.len(), "tk_live_".len() + 38);
        let near = neighbour(&value);
        assert_eq!(near[..39], value[..39]);
        assert_ne!(near[..40], value[..40]);
        assert_eq!(with_checksum(&near[..40]), near);
        assert_eq!(misspelt(&value)[..45], value[..45]);
        assert_ne!(misspelt(&value), value);
    }
}
