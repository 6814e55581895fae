//! What SSH calls its algorithms, kinds of keys, requests and extensions: names that read like
//! addresses, and some like keys.
//!
//! Whoever defines a name without the IETF writes `name@domain`, where the domain is their own
//! (RFC 4251, section 6). Such a domain has mailboxes as well, so nothing follows from the domain: the
//! names are listed here, as OpenSSH, libssh, PuTTY, SSH.COM and others define them, and compared in
//! their own case, as the protocol does. No text can add to the list, so no address of anybody's passes
//! for a name. What is listed nowhere is masked as ever.

/// By domain. `info@openssh.com`, a request too, could be a mailbox and is left out.
const NAMES: [(&str, &[&str]); 10] = [
    ("openssh.com", OPENSSH),
    ("libssh.org", &["curve25519-sha256"]),
    ("ssh.com", SSH_COM),
    (
        "putty.projects.tartarus.org",
        &[
            "simple",
            "winadj",
            "list-extended",
            "add-ppk",
            "reencrypt",
            "reencrypt-all",
            "SSHCONNECTION",
        ],
    ),
    ("lysator.liu.se", &["rijndael-cbc"]),
    ("tinyssh.org", &["sntrup4591761x25519-sha512"]),
    ("amazon.com", &["x25519-kyber-512r3-sha256-d00"]),
    (
        "openquantumsafe.org",
        &[
            "ecdh-nistp256-kyber-512r3-sha256-d00",
            "ecdh-nistp384-kyber-768r3-sha384-d00",
            "ecdh-nistp521-kyber-1024r3-sha512-d00",
            "x25519-kyber-512r3-sha256-d00",
        ],
    ),
    ("libssh2.org", &["keepalive"]),
    ("lag.net", &["keepalive"]),
];

/// OpenSSH's `PROTOCOL`, `PROTOCOL.agent`, `PROTOCOL.certkeys`, `PROTOCOL.u2f` and key types, those of
/// older and newer versions included.
const OPENSSH: &[&str] = &[
    // Kinds of keys and of certificates, and signatures with them.
    "ecdsa-sha2-nistp256-cert-v01",
    "ecdsa-sha2-nistp384-cert-v01",
    "ecdsa-sha2-nistp521-cert-v01",
    "rsa-sha2-256-cert-v01",
    "rsa-sha2-512-cert-v01",
    "sk-ecdsa-sha2-nistp256",
    "sk-ecdsa-sha2-nistp256-cert-v01",
    "sk-ssh-ed25519",
    "sk-ssh-ed25519-cert-v01",
    "ssh-dss-cert-v00",
    "ssh-dss-cert-v01",
    "ssh-ed25519-cert-v01",
    "ssh-mldsa44-ed25519",
    "ssh-rsa-cert-v00",
    "ssh-rsa-cert-v01",
    "ssh-xmss",
    "ssh-xmss-cert-v01",
    "webauthn-sk-ecdsa-sha2-nistp256",
    "webauthn-sk-ecdsa-sha2-nistp256-cert-v01",
    // Key exchange.
    "ext-info-in-auth",
    "kex-strict-c-v00",
    "kex-strict-s-v00",
    "sntrup761x25519-sha512",
    // Ciphers, message authentication, compression.
    "aes128-gcm",
    "aes256-gcm",
    "chacha20-poly1305",
    "hmac-md5-96-etm",
    "hmac-md5-etm",
    "hmac-ripemd160",
    "hmac-ripemd160-etm",
    "hmac-sha1-96-etm",
    "hmac-sha1-etm",
    "hmac-sha2-256-96-etm",
    "hmac-sha2-256-etm",
    "hmac-sha2-512-96-etm",
    "hmac-sha2-512-etm",
    "umac-128",
    "umac-128-etm",
    "umac-64",
    "umac-64-etm",
    "zlib",
    // Channels, requests and signals.
    "INFO",
    "SIG",
    "auth-agent",
    "auth-agent-req",
    "cancel-streamlocal-forward",
    "direct-streamlocal",
    "eow",
    "forwarded-streamlocal",
    "hostkeys-00",
    "hostkeys-prove-00",
    "keepalive",
    "no-more-sessions",
    "ping",
    "publickey-hostbound",
    "publickey-hostbound-v00",
    "streamlocal-forward",
    "tun",
    // Agents, and options of certificates and keys.
    "associated-certs-v00",
    "no-touch-required",
    "restrict-destination-v00",
    "session-bind",
    "sk-provider",
    "verify-required",
    // Files.
    "expand-path",
    "fstatvfs",
    "fsync",
    "hardlink",
    "limits",
    "lsetstat",
    "posix-rename",
    "statvfs",
    "users-groups-by-id",
];

const SSH_COM: &[&str] = &[
    "crypticore-mac",
    "crypticore128",
    "des-cbc",
    "diffie-hellman-group-exchange-sha224",
    "diffie-hellman-group-exchange-sha384",
    "diffie-hellman-group-exchange-sha512",
    "diffie-hellman-group14-sha224",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group15-sha256",
    "diffie-hellman-group15-sha384",
    "diffie-hellman-group16-sha384",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "hmac-sha224",
    "hmac-sha256",
    "hmac-sha256-2",
    "hmac-sha256-96",
    "hmac-sha384",
    "hmac-sha512",
    "rijndael-cbc",
    "seed-cbc",
    "ssh-dss-sha224",
    "ssh-dss-sha256",
    "ssh-dss-sha384",
    "ssh-dss-sha512",
    "ssh-rsa-sha224",
    "ssh-rsa-sha256",
    "ssh-rsa-sha384",
    "ssh-rsa-sha512",
];

/// Names of this length are nobody's, whatever stands in front of them.
const LONG: usize = 10;

/// Whether what has the form of an address is a name, whole. In front of it may stand the sign by which
/// a list of a configuration adds or takes away (ssh_config(5): `+`, `^`, and `!` of patterns). In front
/// of a long name may stand anything: a program's data has other characters there, without a space
/// (`0123456789abcdefsk-provider@openssh.com` in OpenSSH's own).
pub(super) fn is_name(address: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'@', address) else {
        return false;
    };
    let (local, domain) = address.split_at(at);
    let mut domains = NAMES.iter();
    let of_domain = domains.find(|(d, _)| domain.get(1..) == Some(d.as_bytes()));
    let plain = match local {
        [b'+' | b'^' | b'!', rest @ ..] => rest,
        local => local,
    };
    of_domain.is_some_and(|(_, names)| {
        let mut names = names.iter().map(|name| name.as_bytes());
        names.any(|name| plain == name || name.len() >= LONG && local.ends_with(name))
    })
}

/// Whether what has the form of a provider's key is how one of OpenSSH's names begins, up to its `@`;
/// at the end of a text, whose rest may not have come, a beginning of that. It is as public as the whole
/// name.
pub(super) fn is_kind_of_key(value: &[u8], at_end: bool) -> bool {
    let mut names = OPENSSH.iter().map(|name| name.as_bytes());
    names.any(|name| name == value || at_end && name.starts_with(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::detect::{Detector, Detectors, Kind, Spec};

    fn all() -> impl Iterator<Item = String> {
        NAMES
            .iter()
            .flat_map(|(domain, names)| names.iter().map(move |name| format!("{name}@{domain}")))
    }

    fn found(text: &str) -> Vec<&str> {
        let specs = [Kind::Email, Kind::ApiKey].map(|kind| Spec {
            detector: Detector::Kind(kind),
            shows: 1,
        });
        let mut hits = Vec::new();
        Detectors::new(specs).scan_all(text.as_bytes(), &mut hits);
        hits.iter().map(|hit| &text[hit.range.clone()]).collect()
    }

    /// RFC 4251, section 6.
    #[test]
    fn names_are_names() {
        for name in all() {
            assert!(name.len() <= 64, "{name}");
            let plain = |b: u8| b.is_ascii_graphic() && b != b',';
            assert!(name.bytes().all(plain), "{name}");
            assert_eq!(name.matches('@').count(), 1, "{name}");
        }
    }

    #[test]
    fn names_are_left_alone_wherever_they_stand() {
        let every: Vec<String> = all().collect();
        let texts = [
            every.join(","),
            every.join("\n"),
            every.join("\0"),
            every.join(" "),
            format!("Ciphers +{}", every.join(",+")),
            format!("MACs -{}", every.join(",-")),
            format!("KexAlgorithms ^{}", every.join(",^")),
            format!("[\"{}\"]", every.join("\", \"")),
            format!("cipher: {}.", every.join(". cipher: ")),
            "\x00\x000123456789abcdefsk-provider@openssh.com\x00".to_owned(),
        ];
        for text in &texts {
            assert_eq!(found(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn whoever_has_a_mailbox_there_is_found() {
        for address in [
            "ada@openssh.com",
            "info@openssh.com",
            "ada.byron@libssh.org",
            "ada@ssh.com",
            "ada.eow@openssh.com",
            "azlib@openssh.com",
            "zlib+ada@openssh.com",
            "++zlib@openssh.com",
            "Keepalive@openssh.com",
            "keepalive@OpenSSH.com",
            "keepalive@example.com",
            "chacha20-poly1305@example.com",
            "chacha20-poly1305@openssh.com.example",
            "chacha20-poly1305@mail.openssh.com",
            "chacha20-poly1305@openssh.co",
            "curve25519-sha256@openssh.com",
            "ada@chacha20-poly1305.openssh.com",
        ] {
            assert_eq!(found(address), [address]);
            let listed = format!("zlib@openssh.com,{address},eow@openssh.com");
            assert_eq!(found(&listed), [address]);
        }
    }

    #[test]
    fn a_key_that_begins_like_a_name_is_a_key() {
        for key in [
            "sk-ssh-ed25519-cert-v01a2b3",
            "sk-ssh-ed25519-cert-v01-4f9a81",
            "sk-ecdsa-sha2-nistp256-cert-v0181",
            "sk-ssh-4f9a81c07d3be6524f9a81c07d3be652",
        ] {
            assert_eq!(found(key), [key]);
            let behind = format!("{key} sk-ssh-ed25519-cert-v01@openssh.com");
            assert_eq!(found(&behind), [key]);
        }
        // What stands in front of a name is looked at for itself.
        let text = "sk-4f9a81c07d3be6524f9a81c07d3be652sk-ssh-ed25519-cert-v01@openssh.com";
        assert_eq!(found(text).len(), 1);
    }

    #[test]
    fn a_name_whose_rest_has_not_come_is_no_key() {
        assert!(found("sk-ecdsa-sha2-nistp256-ce").is_empty());
        assert_eq!(found("sk-ecdsa-sha2-nistp256-ce ").len(), 1);
    }
}
