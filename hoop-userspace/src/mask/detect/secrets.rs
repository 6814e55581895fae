//! Key material, tokens and passwords.

use std::ops::Range;

use super::kinds::Kind;
use super::patterns::Pattern;
use super::ssh_names;

/// Words in front of a password, in lower case.
pub(super) const PASSWORD_WORDS: [&str; 6] = [
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
];

/// Words in front of a token or a key; longer names end with them.
pub(super) const TOKEN_WORDS: [&str; 17] = [
    "api_key",
    "api-key",
    "apikey",
    "apiKey",
    "access_key",
    "access-key",
    "accesskey",
    "accessKey",
    "secret_key",
    "secret-key",
    "secretKey",
    "private_key",
    "privateKey",
    "signing_key",
    "secret",
    "token",
    "credential",
];

/// The patterns of these kinds.
pub(super) fn patterns(on: impl Fn(Kind) -> bool) -> Vec<Pattern> {
    let mut all = vec![
        Pattern::new(
            Kind::PrivateKey,
            r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
            pem,
        ),
        Pattern::new(Kind::Jwt, r"\beyJ[A-Za-z0-9_-]{8}", jwt),
    ];
    all.extend(SHAPES.map(|shape| Pattern::new(Kind::ApiKey, shape, key)));
    all.push(Pattern::new(
        Kind::ConnectionString,
        // Control characters are in no name and no password: without them five gigabytes of noise
        // had one.
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s\x00-\x1f\x7f:@/?#\x22'<>]{0,64}:([^\s\x00-\x1f\x7f@/\x22'<>]{1,128})@",
        password,
    ));
    let bearer = r"\b[Bb](?:earer|EARER)\s{1,3}([A-Za-z0-9._~+/=-]{16,64})";
    all.push(Pattern::new(Kind::Token, bearer, token));
    let header = format!(
        r#"{}{ASSIGNED}\\?["']?(?i:basic|token|ssws|apikey|bearer)\s{{1,3}}([^\s"',;\\]{{8,64}})"#,
        cased(&["authorization"])
    );
    all.push(Pattern::new(Kind::Token, header, to_its_end));
    let tokens = format!("{}{ASSIGNED}{VALUE}", cased(&TOKEN_WORDS));
    all.push(Pattern::new(Kind::Token, tokens, token));
    let words = cased(&PASSWORD_WORDS);
    let assigned = format!("{words}[0-9]?{ASSIGNED}{VALUE}");
    all.push(Pattern::new(Kind::Password, assigned, password));
    // SQL: `PASSWORD 'x'`, `IDENTIFIED BY 'x'`; a shell: `--password x`.
    let by = cased(&["identified"]);
    let sql = format!(r"(?:{words}|{by}\s{{1,3}}(?:by|BY))\s{{1,3}}'([^'\n]{{1,64}})");
    all.push(Pattern::new(Kind::Password, sql, password));
    let option = format!(r#"--{words}\s{{1,3}}["']?([^\s"'-][^\s"']{{2,63}})"#);
    all.push(Pattern::new(Kind::Password, option, password));
    all.retain(|p| on(p.kind));
    all
}

/// Keys that say whose they are by how they begin; [`key`] goes on from there to their end. A new one
/// needs its beginning in `gate.rs`.
const SHAPES: [&str; 25] = [
    // AWS access keys; Google API keys, OAuth tokens and client secrets.
    r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\bya29\.[0-9A-Za-z_-]{20}",
    r"\bGOCSPX-[0-9A-Za-z_-]{24}",
    // Azure storage.
    r"\bAccountKey=([A-Za-z0-9+/]{40})",
    // GitHub, GitLab.
    r"\bgh[pousr]_[0-9A-Za-z]{36}",
    r"\bgithub_pat_[0-9A-Za-z_]{22}",
    r"\bgl(?:pat|dt|rt|ptt)-[0-9A-Za-z_.-]{20}",
    // Slack: tokens, and webhooks, whose address is the secret.
    r"\bxox[abeoprs]-[0-9A-Za-z-]{10}",
    r"\bxapp-[0-9A-Za-z-]{10}",
    r"\bhooks\.slack\.com/services/([0-9A-Za-z/_-]{20})",
    // Stripe, SendGrid.
    r"\b[srp]k_(?:live|test)_[0-9A-Za-z]{16}",
    r"\bwhsec_[0-9A-Za-z+/=]{24}",
    r"\bSG\.[0-9A-Za-z_-]{16,64}\.[0-9A-Za-z_-]{16}",
    // Providers of language models.
    r"\bsk-[0-9A-Za-z_-]{20}",
    r"\bhf_[0-9A-Za-z]{30}",
    // Package registries.
    r"\bnpm_[0-9A-Za-z]{36}",
    r"\bpypi-A[0-9A-Za-z_-]{50}",
    r"\bdckr_[a-z]{2,4}_[0-9A-Za-z_-]{20}",
    // DigitalOcean, Vault, Databricks, Shopify, Square, Grafana, Atlassian, age.
    r"\bdop_v1_[0-9a-f]{64}",
    r"\bhv[sb]\.[0-9A-Za-z_-]{20}",
    r"\bdapi[0-9a-f]{32}",
    r"\b(?:shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|sq0[a-z]{3}-[0-9A-Za-z_-]{22})",
    r"\b(?:glsa_[0-9A-Za-z_]{30}|ATATT[0-9A-Za-z_=-]{50})",
    r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}",
];

/// Between a name and its value: `=`, `:`, `=>`, with quotes around the name and perhaps escaped.
const ASSIGNED: &str = r#"\\?["'\]]{0,2}\s{0,4}(?::=|=>|==?|:)\s{0,4}"#;

/// The beginning of a value, in quotes or not; [`to_its_end`] goes on from there. What is repeated
/// is bounded, so that a text that is all beginnings costs no more than its length.
const VALUE: &str =
    r#"(?:\\?"([^"\\\n]{1,64})|\\?'([^'\\\n]{1,64})|([^\s"',;&|<>(){}\[\]\\]{3,64}))"#;

/// The words as they are, in upper and in title case, as one group. Any other mixture is nobody's
/// style; what the gate looks for and what is matched must be the same.
fn cased(words: &[&str]) -> String {
    let title = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    let forms = words
        .iter()
        .flat_map(|w| [(*w).to_owned(), w.to_ascii_uppercase(), title(w)]);
    format!("(?:{})", forms.collect::<Vec<_>>().join("|"))
}

/// From the line that begins a key to the line that ends it. A key whose end is not there goes as
/// far as what a key may consist of; JSON writes its line ends as `\n`. A program that knows both lines
/// has them one behind the other, with nothing between them that could be a key.
fn pem(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    const LONGEST: usize = 16 * 1024;
    const SHORTEST: usize = 16;
    let body = text.get(value.end..text.len().min(value.end + LONGEST))?;
    let end = memchr::memmem::find(body, b"-----END ").and_then(|at| {
        let line = body.get(at + 9..)?;
        let closed = memchr::memmem::find(line.get(..64.min(line.len()))?, b"-----")?;
        Some((at, at + 9 + closed + 5))
    });
    let between = end.and_then(|(at, _)| body.get(..at));
    let drawn = |body: &[u8]| body.iter().filter(|b| b.is_ascii_alphanumeric()).count();
    if between.is_some_and(|body| drawn(body) < SHORTEST) {
        return None;
    }
    let end = end.map(|(_, end)| end);
    let length = end.unwrap_or_else(|| body.iter().take_while(|b| is_key_body(b)).count());
    Some(value.start..value.end + length)
}

/// What may stand in a key between its first and its last line: base64, and headers of old ones.
pub(super) fn is_key_body(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=\r\n\\:,- \t".contains(byte)
}

/// Three parts, of which the first two are JSON objects (RFC 7519), or five, of which the first is
/// (RFC 7516).
fn jwt(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let part = |start: usize| {
        let rest = text.get(start..).unwrap_or_default();
        let url = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'-');
        start + rest.iter().take_while(url).count()
    };
    let mut ends = [part(value.start); 5];
    let mut count = 1;
    while let (Some(before), true) = (ends.get(count - 1).copied(), count < 5) {
        if text.get(before) != Some(&b'.') {
            break;
        }
        if let Some(end) = ends.get_mut(count) {
            *end = part(before + 1);
        }
        count += 1;
    }
    let [first, second, third, _, fifth] = ends;
    let signed = count >= 3 && text.get(first + 1..).is_some_and(|t| t.starts_with(b"eyJ"));
    match (signed, count) {
        (true, _) if second - first > 8 => Some(value.start..third),
        (false, 5) => Some(value.start..fifth),
        _ => None,
    }
}

/// A key, from how it begins to where no character of a key follows.
fn key(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let base64 = value.start >= 1 && text.get(value.start - 1) == Some(&b'=')
        || text.get(value.clone())?.contains(&b'/');
    let rest = text.get(value.end..)?;
    let of_key = |b: &&u8| {
        b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'-') || base64 && b"+/=".contains(b)
    };
    let value = value.start..value.end + rest.iter().take_while(of_key).count();
    let bytes = text.get(value.clone())?;
    // A name of small letters and dashes is no key.
    let drawn = |b: &u8| b.is_ascii_digit() || b.is_ascii_uppercase();
    let named = ssh_names::is_kind_of_key(bytes, value.end == text.len());
    (bytes.iter().any(drawn) && !named).then_some(value)
}

/// A value, from its beginning to the quote that closes it, or to what ends one without quotes.
fn to_its_end(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let before = value.start.checked_sub(1).and_then(|i| text.get(i));
    let rest = text.get(value.end..)?;
    let of_value = |b: &&u8| match before {
        Some(quote @ (b'"' | b'\'')) => !matches!(**b, b'\\' | b'\n') && *b != quote,
        _ => !b.is_ascii_whitespace() && !b"\"',;&|<>(){}[]\\".contains(b),
    };
    Some(value.start..value.end + rest.iter().take_while(of_value).count())
}

/// A password is whatever someone typed, but not what stands for one, nor a name of code that
/// fetches it.
fn password(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let value = match text.get(value.end) {
        // Of a connection string: its end is where the host begins.
        Some(b'@') => value,
        _ => to_its_end(text, value)?,
    };
    let bytes = text.get(value.clone())?;
    (!stands_for(bytes) && !is_prose(text, &value, bytes) && !is_call(text, &value))
        .then_some(value)
}

/// A token is long and looks as if drawn by chance.
fn token(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let value = to_its_end(text, value)?;
    let bytes = text.get(value.clone())?;
    (!stands_for(bytes) && is_random(bytes) && !is_call(text, &value)).then_some(value)
}

fn stands_for(value: &[u8]) -> bool {
    const NOTHING: [&str; 14] = [
        "null",
        "none",
        "nil",
        "true",
        "false",
        "undefined",
        "required",
        "optional",
        "string",
        "text",
        "varchar",
        "yes",
        "no",
        "redacted",
    ];
    let starts = [
        &b"$"[..],
        b"{",
        b"<",
        b"%",
        b"[masked",
        b"@",
        b"?",
        b"*",
        b"://",
        b"//",
    ];
    let one = value.windows(2).all(|w| matches!(w, [a, b] if a == b));
    one || starts.iter().any(|s| value.starts_with(s))
        || NOTHING
            .iter()
            .any(|n| value.eq_ignore_ascii_case(n.as_bytes()))
}

/// `password: must be longer`: a word of prose after a colon and a space.
fn is_prose(text: &[u8], value: &Range<usize>, bytes: &[u8]) -> bool {
    let before = value
        .start
        .checked_sub(2)
        .and_then(|i| text.get(i..value.start));
    before == Some(b": ")
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b".!?".contains(b))
}

/// `getenv(`, `environ[`: what follows shows that the value is code.
fn is_call(text: &[u8], value: &Range<usize>) -> bool {
    matches!(text.get(value.end), Some(b'(' | b'['))
}

/// Twelve or more of the characters that tokens have, digits and letters among them, eight of them
/// different.
fn is_random(value: &[u8]) -> bool {
    let of_token = |b: &u8| b.is_ascii_alphanumeric() || b"+/=_.~-".contains(b);
    if value.len() < 12 || !value.iter().all(of_token) {
        return false;
    }
    let mut seen = [false; 256];
    for byte in value {
        if let Some(slot) = seen.get_mut(usize::from(*byte)) {
            *slot = true;
        }
    }
    seen.iter().filter(|s| **s).count() >= 8
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
}
