//! The one thing we read from a certificate: when it ends.

use rustls::pki_types::CertificateDer;
use time::{Date, Month, PrimitiveDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` in seconds since the Unix epoch (RFC 5280, 4.1); `None` if it cannot be found.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate, _) = element(certificate)?;
    let (tag, tbs, _) = element(certificate)?;
    if tag != SEQUENCE {
        return None;
    }
    let (tag, _, after_first) = element(tbs)?;
    // version [0] is absent in v1 certificates; then the serial number comes first.
    let from_serial = if tag == VERSION { after_first } else { tbs };
    let (_, _, from_signature) = element(from_serial)?;
    let (_, _, from_issuer) = element(from_signature)?;
    let (_, _, from_validity) = element(from_issuer)?;
    let (_, validity, _) = element(from_validity)?;
    let (_, _, from_not_after) = element(validity)?;
    let (tag, text, _) = element(from_not_after)?;
    unix_seconds(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content and what follows of the first DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first & 0x80 == 0 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        let length = digits.iter().try_fold(0_usize, |length, digit| {
            length.checked_mul(256).map(|length| length + usize::from(*digit))
        })?;
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn unix_seconds(tag: u8, text: &str) -> Option<i64> {
    let (year, rest) = match tag {
        // RFC 5280, 4.1.2.5.1: two digits mean 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn reads_both_forms_of_the_date() {
        for (year, expected) in [(2031, 1_925_078_400), (2075, 3_313_612_800_i64)] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).expect("params");
            params.not_after = date_time_ymd(year, 1, 2);
            let key = KeyPair::generate().expect("key");
            let certificate = params.self_signed(&key).expect("certificate");
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}");
        }
    }

    #[test]
    fn garbage_has_no_date() {
        assert_eq!(not_after(&CertificateDer::from(vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF])), None);
        assert_eq!(not_after(&CertificateDer::from(Vec::new())), None);
    }
}
