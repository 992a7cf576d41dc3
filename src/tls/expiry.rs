//! When a certificate ends: [`not_after`] of its DER bytes. Reads nothing else of it, and verifies nothing.

/// Tags of DER that lead to `notAfter`.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The second, counted from 1970, after which the certificate is no longer valid; none if the bytes are no certificate.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = sequence(certificate)?;
    let (to_be_signed, _) = sequence(certificate)?;
    let (tag, _, after_first) = element(to_be_signed)?;
    let at_serial = if tag == VERSION { after_first } else { to_be_signed };
    let (_serial, _, rest) = element(at_serial)?;
    let (_algorithm, rest) = sequence(rest)?;
    let (_issuer, rest) = sequence(rest)?;
    let (validity, _) = sequence(rest)?;
    let (_not_before, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    seconds(tag, text)
}

/// The content of the sequence at the beginning of `bytes`, and what follows it.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == SEQUENCE).then_some((content, rest))
}

/// Tag and content of the element at the beginning of `bytes`, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let n_digits = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(n_digits).filter(|_| (1..=4).contains(&n_digits))?;
        (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` in seconds since 1970.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let field = |index: usize| number(&rest[2 * index..2 * index + 2]);
    let days = days_since_1970(year, field(0), field(1))?;
    Some(((days * 24 + field(2)) * 60 + field(3)) * 60 + field(4))
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

/// Days from the first of January 1970 to this one of the Gregorian calendar; none if there is no such month.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before_month = BEFORE_MONTH.get(usize::try_from(month - 1).ok()?)?;
    // Leap days from the year 1 to the end of this one.
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let finished_february = if month > 2 { year } else { year - 1 };
    let leap_days = leap_days(finished_february.max(0)) - leap_days(1969);
    Some((year - 1970) * 365 + leap_days + before_month + day - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, want) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (UTC_TIME, "000301000000Z", Some(951_868_800)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20501301000000Z", None),
            (GENERALIZED_TIME, "20500001000000Z", None),
            (GENERALIZED_TIME, "205001010000Z", None),
            (UTC_TIME, "20500101000000Z", None),
            (UTC_TIME, "7001010000000", None),
            (UTC_TIME, "70010100000xZ", None),
            (SEQUENCE, "700101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, month, day) in [(1999, 1, 31), (2031, 2, 28), (2049, 12, 31), (2050, 1, 1), (2999, 7, 4)] {
            let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let want = params.not_after.unix_timestamp();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(want), "{year}-{month}-{day}");
            for cut in 0..certificate.der().len() {
                assert_eq!(not_after(&certificate.der()[..cut]), None, "cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0..400_usize, byte: u8) {
            not_after(&bytes);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
            let mut bytes = certificate.der().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            not_after(&bytes);
        }
    }
}
