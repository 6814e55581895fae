//! Bytes as hexadecimal digits, and back.

/// Two lower-case digits for each byte.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    let digits = bytes.as_ref().iter().flat_map(|b| [b >> 4, b & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Digits in either case, two for each byte and nothing between them; `None` is anything else.
pub fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_digits_and_bytes_again() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits = encode(&bytes);
        assert!(digits.starts_with("000102") && digits.ends_with("feff"));
        assert_eq!(decode(digits.as_bytes()), Some(bytes.clone()));
        assert_eq!(decode(digits.to_uppercase().as_bytes()), Some(bytes));
        for wrong in ["0", "0g", "+1", " 1", "00 00"] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
