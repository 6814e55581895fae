//! Check digits: what tells a number of a kind from any other of its length.
//!
//! Every function takes ASCII; a byte that cannot stand there makes the check fail.

/// A digit's value.
fn digit(byte: &u8) -> Option<u32> {
    byte.is_ascii_digit().then(|| u32::from(byte - b'0'))
}

fn digits(text: &[u8]) -> Option<Vec<u32>> {
    text.iter().map(digit).collect()
}

/// A decimal number of at most 18 digits.
fn number(text: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for byte in text {
        value = value.checked_mul(10)? + u64::from(digit(byte)?);
    }
    Some(value)
}

/// ISO/IEC 7812-1, annex B. Digits that are all the same are no number that anyone was given.
pub fn luhn(text: &[u8]) -> bool {
    let Some(digits) = digits(text) else {
        return false;
    };
    let doubled = |d: u32| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 1 { doubled(*d) } else { *d })
        .sum();
    sum.is_multiple_of(10) && digits.windows(2).any(|w| matches!(w, [a, b] if a != b))
}

/// Whether a number of this length was issued by one of the networks, by its first digits.
pub(super) fn card_range(text: &[u8]) -> bool {
    let Some(head) = text.get(..6).and_then(number) else {
        return false;
    };
    let (one, two, three, four) = (head / 100_000, head / 10_000, head / 1000, head / 100);
    match text.len() {
        // Visa; the oldest have 13.
        13 => one == 4,
        // Diners Club.
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        // American Express; the older JCB.
        15 => matches!(two, 34 | 37) || matches!(four, 1800 | 2131),
        16 => {
            one == 4
                || matches!(two, 51..=55 | 62 | 65 | 81)
                || matches!(four, 2200..=2204 | 2221..=2720 | 3528..=3589 | 6011 | 5018 | 5020 | 5038)
                || matches!(four, 6060..=6069 | 6304 | 6759 | 6761..=6763 | 9792)
                || matches!(three, 644..=649 | 508)
        }
        17 | 18 => {
            matches!(two, 62 | 65) || matches!(four, 5018 | 5020 | 5038 | 6304 | 6759 | 6761..=6763)
        }
        19 => {
            one == 4 || matches!(two, 62 | 65) || matches!(four, 6304 | 6759 | 6761..=6763 | 6011)
        }
        _ => false,
    }
}

/// ISO 13616: the registry's length for the country, and ISO/IEC 7064 mod 97-10.
pub fn iban(text: &[u8]) -> bool {
    text.get(..2).and_then(iban_length) == Some(text.len()) && mod97(text)
}

/// Length of a country's IBAN (SWIFT's registry).
pub(super) fn iban_length(country: &[u8]) -> Option<usize> {
    const LENGTHS: [(usize, &str); 18] = [
        (15, "NO"),
        (16, "BE"),
        (18, "DKFKFIFONLGLSD"),
        (19, "MKSI"),
        (20, "ATBAEEKZLTLUMNXK"),
        (21, "HRLVLICH"),
        (22, "BGBHCRDEGBGEIEMEVARS"),
        (23, "GITLAEIQILOM"),
        (24, "ADCZMDPKROSASKESSETNVG"),
        (25, "LYPTST"),
        (26, "ISTR"),
        (27, "BIDJFRGRITMRMCSM"),
        (28, "ALAZBYCYDOGTHNHULBNIPLSV"),
        (29, "BRPSQAUA"),
        (30, "JOKWMU"),
        (31, "MTSC"),
        (32, "LC"),
        (33, "RU"),
    ];
    let known = |countries: &str| countries.as_bytes().chunks(2).any(|c| c == country);
    let mut lengths = LENGTHS.iter();
    lengths.find(|(_, c)| known(c)).map(|(length, _)| *length)
}

/// ISO/IEC 7064 mod 97-10 with the first four characters moved to the end, letters counted from 10.
pub fn mod97(text: &[u8]) -> bool {
    let Some((head, rest)) = text.split_at_checked(4) else {
        return false;
    };
    let mut remainder = 0u32;
    for byte in rest.iter().chain(head) {
        remainder = match byte {
            b'0'..=b'9' => remainder * 10 + u32::from(byte - b'0'),
            b'A'..=b'Z' => remainder * 100 + u32::from(byte - b'A') + 10,
            b'a'..=b'z' => remainder * 100 + u32::from(byte - b'a') + 10,
            _ => return false,
        } % 97;
    }
    remainder == 1
}

/// Verhoeff's scheme over the dihedral group of order ten.
pub fn verhoeff(text: &[u8]) -> bool {
    let Some(digits) = digits(text) else {
        return false;
    };
    // The permutation applied `position` times; it has order eight.
    let permuted = |digit: u32, position: usize| {
        const ONCE: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
        (0..position % 8).fold(digit, |d, _| {
            ONCE.get(d as usize).copied().unwrap_or_default()
        })
    };
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |sum, (i, d)| dihedral(sum, permuted(*d, i)));
    sum == 0 && digits.len() > 1
}

/// Multiplication in the dihedral group: 0 to 4 turn, 5 to 9 turn and mirror.
fn dihedral(a: u32, b: u32) -> u32 {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    }
}

/// Social Security Administration: numbers that were never assigned.
pub(super) fn us_ssn(text: &[u8]) -> bool {
    let (Some(area), Some(group), Some(serial)) = (
        text.get(..3).and_then(number),
        text.get(3..5).and_then(number),
        text.get(5..9).and_then(number),
    ) else {
        return false;
    };
    text.len() == 9 && area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
}

/// Identifikationsnummer (§ 139b AO): ISO/IEC 7064 mod 11-10; of its first ten digits exactly one
/// occurs twice or three times.
pub(super) fn de_tax_id(text: &[u8]) -> bool {
    let Some(digits) = digits(text).filter(|d| d.len() == 11) else {
        return false;
    };
    let (Some(body), Some(check)) = (digits.get(..10), digits.last()) else {
        return false;
    };
    let mut counts = [0u8; 10];
    let mut product = 10;
    for digit in body {
        if let Some(count) = counts.get_mut(*digit as usize) {
            *count += 1;
        }
        let sum = match (digit + product) % 10 {
            0 => 10,
            sum => sum,
        };
        product = 2 * sum % 11;
    }
    let repeated: Vec<_> = counts.iter().filter(|n| **n > 1).collect();
    let shape = matches!(repeated[..], [2 | 3]);
    shape && body.first() != Some(&0) && (11 - product) % 10 == *check
}

/// Numéro d'inscription au répertoire with its key: 97 less the rest of thirteen digits; Corsica's
/// departments count as 19 and 18.
pub(super) fn fr_nir(text: &[u8]) -> bool {
    let (Some(body), Some(key)) = (text.get(..13), text.get(13..15).and_then(number)) else {
        return false;
    };
    let mut body = body.to_vec();
    if let [
        ..,
        b'2',
        island @ (b'A' | b'B' | b'a' | b'b'),
        _,
        _,
        _,
        _,
        _,
        _,
    ] = &mut body[..]
    {
        let stands_for = if island.eq_ignore_ascii_case(&b'A') {
            b'9'
        } else {
            b'8'
        };
        *island = stands_for;
        if let Some(first) = body.get_mut(5) {
            *first = b'1';
        }
    }
    let month = body.get(3..5).and_then(number).unwrap_or(0);
    let department = body.get(5..7).and_then(number).unwrap_or(0);
    let month = matches!(month, 1..=12 | 20..=42 | 50..=99);
    number(&body).is_some_and(|n| 97 - n % 97 == key) && month && department > 0 && text.len() == 15
}

/// Documento nacional de identidad, and a foreigner's number: the letter is the rest by 23.
pub(super) fn es_nif(text: &[u8]) -> bool {
    let Some((letter, body)) = text.split_last() else {
        return false;
    };
    let mut body = body.to_vec();
    if let Some(first) = body.first_mut() {
        *first = match first.to_ascii_uppercase() {
            b'X' => b'0',
            b'Y' => b'1',
            b'Z' => b'2',
            _ => *first,
        };
    }
    let letters = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let expected = number(&body).and_then(|n| letters.get((n % 23) as usize));
    body.len() == 8 && expected == Some(&letter.to_ascii_uppercase())
}

/// Codice fiscale (DM 23 December 1976): characters in odd places have values of their own.
pub(super) fn it_fiscal_code(text: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let Some((check, body)) = text.split_last() else {
        return false;
    };
    let mut sum = 0;
    for (i, byte) in body.iter().enumerate() {
        let value = match byte.to_ascii_uppercase() {
            digit @ b'0'..=b'9' => digit - b'0',
            letter @ b'A'..=b'Z' => letter - b'A',
            _ => return false,
        };
        sum += match i % 2 {
            0 => ODD.get(usize::from(value)).copied().unwrap_or_default(),
            _ => u32::from(value),
        };
    }
    body.len() == 15 && u32::from(check.to_ascii_uppercase()) == u32::from(b'A') + sum % 26
}

/// Burgerservicenummer: the eleven-test with the last digit subtracted.
pub(super) fn nl_bsn(text: &[u8]) -> bool {
    let Some(digits) = digits(text).filter(|d| d.len() == 9) else {
        return false;
    };
    let weights = [9i64, 8, 7, 6, 5, 4, 3, 2, -1];
    let sum: i64 = digits
        .iter()
        .zip(weights)
        .map(|(d, w)| i64::from(*d) * w)
        .sum();
    sum % 11 == 0 && digits.iter().any(|d| *d != 0)
}

/// Cadastro de Pessoas Físicas: two check digits, each a weighted sum by eleven.
pub(super) fn br_cpf(text: &[u8]) -> bool {
    let Some(digits) = digits(text).filter(|d| d.len() == 11) else {
        return false;
    };
    let check = |count: usize| {
        let weights = (2..=count as u32 + 1).rev();
        let sum: u32 = digits
            .iter()
            .take(count)
            .zip(weights)
            .map(|(d, w)| d * w)
            .sum();
        let rest = sum * 10 % 11 % 10;
        digits.get(count) == Some(&rest)
    };
    check(9) && check(10) && digits.windows(2).any(|w| matches!(w, [a, b] if a != b))
}

/// Aadhaar: twelve digits by Verhoeff; it begins with neither 0 nor 1.
pub(super) fn in_aadhaar(text: &[u8]) -> bool {
    text.len() == 12 && matches!(text.first(), Some(b'2'..=b'9')) && verhoeff(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Changing one digit of a valid number makes it invalid: what check digits are for.
    fn one_digit_counts(check: fn(&[u8]) -> bool, valid: &str) {
        assert!(check(valid.as_bytes()), "{valid}");
        for (i, byte) in valid
            .bytes()
            .enumerate()
            .filter(|(_, b)| b.is_ascii_digit())
        {
            for other in (b'0'..=b'9').filter(|b| *b != byte) {
                let mut changed = valid.as_bytes().to_vec();
                changed[i] = other;
                assert!(!check(&changed), "{valid} at {i}");
            }
        }
    }

    #[test]
    fn one_wrong_digit_is_found() {
        one_digit_counts(luhn, "4111111111111111");
        one_digit_counts(luhn, "378282246310005");
        one_digit_counts(iban, "DE89370400440532013000");
        one_digit_counts(iban, "GB82WEST12345698765432");
        one_digit_counts(verhoeff, "234123412346");
        one_digit_counts(de_tax_id, "86095742719");
        one_digit_counts(fr_nir, "255081416802538");
        one_digit_counts(es_nif, "12345678Z");
        one_digit_counts(nl_bsn, "111222333");
        one_digit_counts(br_cpf, "52998224725");
        // Corsica's departments are letters: the key of 1800919004001.
        let corsica = format!("180092A004001{:02}", 97 - 1_800_919_004_001u64 % 97);
        assert!(fr_nir(corsica.as_bytes()));
        assert!(it_fiscal_code(b"RSSMRA85T10A562S"));
        assert!(!it_fiscal_code(b"RSSMRA85T10A562T"));
        assert!(es_nif(b"X1234567L"));
    }

    #[test]
    fn numbers_that_nobody_has_are_none() {
        assert!(!luhn(b"0000000000000000"));
        assert!(!br_cpf(b"11111111111"));
        assert!(!us_ssn(b"666451234") && !us_ssn(b"900451234") && !us_ssn(b"123004567"));
        assert!(card_range(b"4111111111111111") && !card_range(b"1234567812345670"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for check in [luhn, iban, mod97, verhoeff, us_ssn, de_tax_id, fr_nir, es_nif,
                          it_fiscal_code, nl_bsn, br_cpf, in_aadhaar, card_range] {
                check(&bytes);
            }
        }
    }
}
