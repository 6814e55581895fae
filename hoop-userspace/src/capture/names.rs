//! DNS answers (RFC 1035 §4), read for the names of addresses. Only answers of the configured
//! resolvers get here; what they say labels a destination, and never grants one.
//!
//! Everything is bounded, and what does not parse is dropped: a label that is missing costs
//! nothing but the label.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const MAX_RECORDS: usize = 64;
const MAX_NAMES: usize = 8;
const MAX_JUMPS: usize = 16;
/// RFC 1035 §2.3.4, in text form.
const MAX_NAME: usize = 253;
const CLASS_IN: u16 = 1;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const PTR: u16 = 12;
/// Recursion is desired.
const RECURSION: u16 = 0x0100;

/// What one answer says: all these names stand for all these addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The name that was asked for first, then its aliases; lower case, without a final dot.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// Reads a DNS message; `None` unless it is a successful answer that names an address.
pub fn read(message: &[u8]) -> Option<Named> {
    let flags = word(message, 2)?;
    let (answer, truncated_or_ok) = (flags & 0x8000 != 0, flags & 0x000f == 0);
    if !answer || !truncated_or_ok || word(message, 4)? != 1 {
        return None;
    }
    let (question, mut at) = name(message, HEADER)?;
    at = at.checked_add(4)?;
    let mut named = Named {
        names: vec![question],
        addresses: Vec::new(),
    };
    for _ in 0..usize::from(word(message, 6)?).min(MAX_RECORDS) {
        // A message that was cut is read as far as it goes.
        let Some(next) = record(message, at, &mut named) else {
            break;
        };
        at = next;
    }
    (!named.addresses.is_empty()).then_some(named)
}

/// The question which name an address has (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn question(id: u16, address: IpAddr) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + 80);
    for field in [id, RECURSION, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    let labels: Vec<String> = match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(v6) => {
            let nibbles = v6
                .octets()
                .into_iter()
                .rev()
                .flat_map(|b| [b & 0xf, b >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    let zone = if address.to_canonical().is_ipv4() {
        "in-addr"
    } else {
        "ip6"
    };
    let labels = labels.iter().map(String::as_str).chain([zone, "arpa"]);
    for label in labels {
        // Each is shorter than eight bytes.
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.bytes());
    }
    message.push(0);
    for field in [PTR, CLASS_IN] {
        message.extend(field.to_be_bytes());
    }
    message
}

/// The answer to [`question`]: its number and the first name, `None` of what is no such answer. The
/// message must repeat `asked`, whoever sent it.
pub(crate) fn pointer(message: &[u8], asked: &[u8]) -> Option<(u16, Option<String>)> {
    let id = word(message, 0)?;
    let flags = word(message, 2)?;
    let same = message
        .get(HEADER..asked.len())?
        .eq_ignore_ascii_case(asked.get(HEADER..)?);
    if flags & 0x8000 == 0 || word(message, 4)? != 1 || id != word(asked, 0)? || !same {
        return None;
    }
    let mut at = asked.len();
    for _ in 0..usize::from(word(message, 6)?).min(MAX_RECORDS) {
        let Some((kind, start, end)) = head(message, at) else {
            break;
        };
        if kind == (CLASS_IN, PTR) {
            return Some((id, name(message, start).map(|(name, _)| name)));
        }
        at = end;
    }
    Some((id, None))
}

/// A record's class and kind, and where its data begins and ends.
fn head(message: &[u8], at: usize) -> Option<((u16, u16), usize, usize)> {
    let fields = skipped(message, at)?;
    let kind = word(message, fields)?;
    let class = word(message, fields.checked_add(2)?)?;
    let length = usize::from(word(message, fields.checked_add(8)?)?);
    let start = fields.checked_add(10)?;
    Some(((class, kind), start, start.checked_add(length)?))
}

/// A name of which only the end matters; those of classless reverse zones hold slashes (RFC 2317).
fn skipped(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length & 0xc0 {
            0 if length == 0 => return at.checked_add(1),
            0 => at = at.checked_add(1)?.checked_add(usize::from(length))?,
            0xc0 => return at.checked_add(2),
            _ => return None,
        }
    }
}

fn record(message: &[u8], at: usize, named: &mut Named) -> Option<usize> {
    let (_, fields) = name(message, at)?;
    let kind = word(message, fields)?;
    let class = word(message, fields.checked_add(2)?)?;
    let length = usize::from(word(message, fields.checked_add(8)?)?);
    let start = fields.checked_add(10)?;
    let end = start.checked_add(length)?;
    let data = message.get(start..end)?;
    match (class, kind) {
        (CLASS_IN, A) => {
            let octets: [u8; 4] = data.try_into().ok()?;
            named.addresses.push(Ipv4Addr::from(octets).into());
        }
        (CLASS_IN, AAAA) => {
            let octets: [u8; 16] = data.try_into().ok()?;
            named.addresses.push(Ipv6Addr::from(octets).into());
        }
        (CLASS_IN, CNAME) if named.names.len() < MAX_NAMES => {
            named.names.push(name(message, start)?.0);
        }
        _ => {}
    }
    Some(end)
}

/// Reads a name with its compression; returns where the record goes on.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut resume = None;
    let mut jumps = 0;
    loop {
        let length = *message.get(at)?;
        match length & 0xc0 {
            0 if length == 0 => {
                return Some((text, resume.unwrap_or(at.checked_add(1)?)));
            }
            0 => {
                let start = at.checked_add(1)?;
                at = start.checked_add(usize::from(length))?;
                label(&mut text, message.get(start..at)?)?;
            }
            0xc0 => {
                jumps += 1;
                if jumps > MAX_JUMPS {
                    return None;
                }
                let pointer = usize::from(word(message, at)? & 0x3fff);
                resume = resume.or(at.checked_add(2));
                at = pointer;
            }
            _ => return None,
        }
    }
}

/// Appends a label; only host name characters, so that a name can be logged and compared.
fn label(text: &mut String, label: &[u8]) -> Option<()> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !label.iter().all(plain) || text.len() + label.len() + 1 > MAX_NAME {
        return None;
    }
    if !text.is_empty() {
        text.push('.');
    }
    text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    Some(())
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer for `www.Example.com`: an alias to `cdn.example.net`, then an A and an AAAA.
    fn answer() -> Vec<u8> {
        let mut m = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 3, 0, 0, 0, 0];
        m.extend(b"\x03www\x07Example\x03com\x00\x00\x01\x00\x01");
        m.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x11\x03cdn\x07example\x03net\x00");
        let target = u8::try_from(m.len() - 17).unwrap();
        m.extend([0xc0, target, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        m.extend([0xc0, target, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
        m.extend(Ipv6Addr::LOCALHOST.octets());
        m
    }

    #[test]
    fn aliases_and_addresses_are_read() {
        let named = read(&answer()).unwrap();
        assert_eq!(named.names, ["www.example.com", "cdn.example.net"]);
        let v4: IpAddr = [192, 0, 2, 7].into();
        assert_eq!(named.addresses, [v4, Ipv6Addr::LOCALHOST.into()]);
    }

    #[test]
    fn a_cut_message_gives_what_it_has() {
        let whole = answer();
        let named = read(&whole[..whole.len() - 1]).unwrap();
        assert_eq!(named.addresses.len(), 1);
    }

    #[test]
    fn questions_failures_and_loops_give_nothing() {
        let mut question = answer();
        question[2] = 0;
        assert_eq!(read(&question), None);
        let mut failure = answer();
        failure[3] |= 3;
        assert_eq!(read(&failure), None);
        let mut looping = answer();
        looping[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(read(&looping), None);
    }

    #[test]
    fn an_address_is_asked_for_and_its_name_read() {
        let asked = question(7, [192, 0, 2, 7].into());
        assert!(
            asked
                .windows(23)
                .any(|w| w == b"\x017\x012\x010\x03192\x07in-addr\x04arpa")
        );
        let six = question(7, "2001:db8::1".parse().unwrap());
        assert!(six[HEADER..].starts_with(b"\x011\x010\x010") && six.len() == HEADER + 64 + 14);
        let mut answer = asked.clone();
        answer[2] |= 0x80;
        answer[7] = 2;
        // An alias into a zone with a slash, then the name.
        answer.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x030/7\xc0\x0c");
        answer.extend(b"\xc0\x0c\x00\x0c\x00\x01\x00\x00\x00\x3c\x00\x0c\x02DB\x07example\x00");
        assert_eq!(
            pointer(&answer, &asked),
            Some((7, Some("db.example".into())))
        );
        let other = question(8, [192, 0, 2, 7].into());
        assert_eq!(pointer(&answer, &other), None);
        let elsewhere = question(7, [192, 0, 2, 8].into());
        assert_eq!(pointer(&answer, &elsewhere), None);
        let mut none = asked.clone();
        none[2] |= 0x80;
        assert_eq!(pointer(&none, &asked), Some((7, None)));
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let asked = question(7, [192, 0, 2, 7].into());
            let mut answer = asked.clone();
            answer[2] |= 0x80;
            answer[7] = 3;
            answer.extend(rest);
            if let Some((_, Some(name))) = pointer(&answer, &asked) {
                prop_assert!(name.len() <= MAX_NAME && !name.contains(char::is_control));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_damaged_answer_never_panics(at in 0_usize..95, byte: u8) {
            let mut message = answer();
            let at = at % message.len();
            message[at] = byte;
            if let Some(named) = read(&message) {
                prop_assert!(named.names.len() <= MAX_NAMES && named.addresses.len() <= MAX_RECORDS);
            }
        }
    }
}
