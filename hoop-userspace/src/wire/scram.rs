//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the messages and the proofs, without I/O and without a
//! source of randomness. PostgreSQL's use of it differs in one point: the user name in the message
//! is empty, because the start-up message has said it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Iterations that a server may demand. PostgreSQL's default is 4,096; this many take half a second.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// The longest message that is read. Real ones are under 200 bytes.
const MAX_MESSAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    #[error("the server's SCRAM nonce does not continue ours")]
    Nonce,
    #[error("the server demands {0} SCRAM iterations; 1 to {MAX_ITERATIONS} are accepted")]
    Iterations(u32),
    #[error("the server does not know the password: its SCRAM signature is wrong")]
    ServerSignature,
    #[error("the server ended SCRAM with an error of its own")]
    ServerError,
}

/// What the client says about channel binding (RFC 5802 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The client could not bind: no TLS, or a certificate whose hash is not defined.
    Unsupported,
    /// The client could, and the server did not offer to.
    NotOffered,
    /// `tls-server-end-point` (RFC 5929 §4): the hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::EndPoint(_) => SCRAM_SHA_256_PLUS,
            Self::Unsupported | Self::NotOffered => SCRAM_SHA_256,
        }
    }

    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The `c=` attribute: header and data, in base64.
    pub fn attribute(&self) -> String {
        let mut bytes = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            bytes.extend_from_slice(hash);
        }
        BASE64.encode(bytes)
    }
}

/// What a password comes to under one salt: everything that both sides need, without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Takes about 1 ms per 4,096 iterations (RFC 5802 §3).
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // PostgreSQL takes a password that SASLprep refuses as it stands.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            prepared.as_bytes(),
            salted.as_mut_slice(),
        );
        Self {
            client: Zeroizing::new(sign(salted.as_slice(), b"Client Key")),
            server: Zeroizing::new(sign(salted.as_slice(), b"Server Key")),
        }
    }

    /// The `p=` attribute's bytes for this exchange.
    pub fn client_proof(&self, auth_message: &str) -> [u8; 32] {
        let mut proof = sign(&self.stored(), auth_message.as_bytes());
        for (byte, key) in proof.iter_mut().zip(self.client.iter()) {
            *byte ^= key;
        }
        proof
    }

    /// For a server: whether a client's proof shows that it knows the password.
    pub fn verify_client_proof(&self, auth_message: &str, proof: &[u8]) -> bool {
        let signature = sign(&self.stored(), auth_message.as_bytes());
        if proof.len() != signature.len() {
            return false;
        }
        let key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        // Compared as hashes, so that the time it takes says nothing about the key.
        digest::digest(&digest::SHA256, &key).as_ref() == self.stored().as_slice()
    }

    /// The `v=` attribute's bytes for this exchange.
    pub fn server_signature(&self, auth_message: &str) -> [u8; 32] {
        sign(self.server.as_slice(), auth_message.as_bytes())
    }

    fn stored(&self) -> [u8; 32] {
        let hash = digest::digest(&digest::SHA256, self.client.as_slice());
        hash.as_ref().try_into().unwrap_or([0; 32])
    }
}

fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().unwrap_or([0; 32])
}

/// A client that has yet to hear the server's first message.
pub struct AwaitServerFirst {
    binding: Binding,
    nonce: String,
    user: String,
}

/// A client that needs [`Keys`] to go on.
pub struct AwaitKeys {
    pub salt: Vec<u8>,
    pub iterations: NonZeroU32,
    first_messages: String,
    final_without_proof: String,
}

/// A client that has yet to hear whether the server knows the password too.
pub struct AwaitServerFinal {
    signature: [u8; 32],
}

impl AwaitServerFirst {
    /// `nonce`: at least 18 random bytes in base64. Returns the client-first-message too.
    pub fn new(binding: Binding, nonce: String) -> (Self, String) {
        Self::for_user(binding, nonce, "")
    }

    fn for_user(binding: Binding, nonce: String, user: &str) -> (Self, String) {
        let message = format!("{}n={user},r={nonce}", binding.header());
        (
            Self {
                binding,
                nonce,
                user: user.into(),
            },
            message,
        )
    }

    pub fn server_first(self, message: &[u8]) -> Result<AwaitKeys, ScramError> {
        let message = text(message)?;
        let mut attributes = message.split(',');
        let mut next = |prefix| attributes.next().and_then(|a: &str| a.strip_prefix(prefix));
        let nonce = next("r=").ok_or(ScramError::Malformed("no nonce"))?;
        let salt = next("s=").ok_or(ScramError::Malformed("no salt"))?;
        let iterations = next("i=").ok_or(ScramError::Malformed("no iteration count"))?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64
            .decode(salt)
            .map_err(|_| ScramError::Malformed("the salt"))?;
        let iterations = iterations
            .parse()
            .map_err(|_| ScramError::Malformed("the iteration count"))?;
        let iterations = NonZeroU32::new(iterations)
            .filter(|i| i.get() <= MAX_ITERATIONS)
            .ok_or(ScramError::Iterations(iterations))?;
        let final_without_proof = format!("c={},r={nonce}", self.binding.attribute());
        let first_messages = format!("n={},r={},{message}", self.user, self.nonce);
        Ok(AwaitKeys {
            salt,
            iterations,
            first_messages,
            final_without_proof,
        })
    }
}

impl AwaitKeys {
    /// Returns the client-final-message too.
    pub fn with_keys(self, keys: &Keys) -> (AwaitServerFinal, String) {
        let auth_message = format!("{},{}", self.first_messages, self.final_without_proof);
        let proof = BASE64.encode(keys.client_proof(&auth_message));
        let message = format!("{},p={proof}", self.final_without_proof);
        (
            AwaitServerFinal {
                signature: keys.server_signature(&auth_message),
            },
            message,
        )
    }
}

impl AwaitServerFinal {
    /// Whether the server proved that it knows the password.
    pub fn server_final(self, message: &[u8]) -> Result<(), ScramError> {
        let first = text(message)?.split(',').next().unwrap_or_default();
        if first.starts_with("e=") {
            return Err(ScramError::ServerError);
        }
        let signature = first
            .strip_prefix("v=")
            .ok_or(ScramError::Malformed("no signature"))?;
        match BASE64.decode(signature) {
            Ok(signature) if signature == self.signature => Ok(()),
            _ => Err(ScramError::ServerSignature),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE {
        return Err(ScramError::Malformed("too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 7677 §3.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn exchange() -> AwaitKeys {
        let (client, first) =
            AwaitServerFirst::for_user(Binding::Unsupported, CLIENT_NONCE.into(), "user");
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        client.server_first(SERVER_FIRST.as_bytes()).unwrap()
    }

    #[test]
    fn the_rfcs_own_exchange() {
        let exchange = exchange();
        let keys = Keys::derive("pencil", &exchange.salt, exchange.iterations);
        let (last, client_final) = exchange.with_keys(&keys);
        assert_eq!(client_final, CLIENT_FINAL);
        assert_eq!(last.server_final(SERVER_FINAL.as_bytes()), Ok(()));
    }

    #[test]
    fn both_sides_agree_and_a_wrong_password_is_seen_by_both() {
        let exchange = exchange();
        let right = Keys::derive("pencil", &exchange.salt, exchange.iterations);
        let wrong = Keys::derive("pencils", &exchange.salt, exchange.iterations);
        let message = "n=,r=a,r=ab,s=,i=1,c=biws,r=ab";
        assert!(right.verify_client_proof(message, &right.client_proof(message)));
        assert!(!right.verify_client_proof(message, &wrong.client_proof(message)));
        assert!(!right.verify_client_proof(message, b"short"));
        let (last, _) = exchange.with_keys(&wrong);
        assert_eq!(
            last.server_final(SERVER_FINAL.as_bytes()),
            Err(ScramError::ServerSignature)
        );
    }

    #[test]
    fn a_server_that_does_not_play_fair() {
        let first = |message: &str| {
            let (client, _) = AwaitServerFirst::new(Binding::NotOffered, "abc".into());
            client.server_first(message.as_bytes()).map(|_| ())
        };
        assert_eq!(first("r=abc,s=AAAA,i=4096"), Err(ScramError::Nonce));
        assert_eq!(first("r=xbcd,s=AAAA,i=4096"), Err(ScramError::Nonce));
        assert_eq!(first("r=abcd,s=AAAA,i=0"), Err(ScramError::Iterations(0)));
        assert_eq!(
            first("r=abcd,s=AAAA,i=4000000000"),
            Err(ScramError::Iterations(4_000_000_000))
        );
        assert_eq!(
            first("r=abcd,s=A,i=1"),
            Err(ScramError::Malformed("the salt"))
        );
        assert_eq!(
            first("m=x,r=abcd,s=AAAA,i=1"),
            Err(ScramError::Malformed("no nonce"))
        );
        let last = || AwaitServerFinal { signature: [0; 32] };
        assert_eq!(
            last().server_final(b"e=other-error"),
            Err(ScramError::ServerError)
        );
        assert_eq!(
            last().server_final(b"v=AAAA"),
            Err(ScramError::ServerSignature)
        );
    }

    #[test]
    fn channel_binding_is_spelled_as_rfc_5802_says() {
        assert_eq!(Binding::Unsupported.attribute(), "biws");
        assert_eq!(Binding::NotOffered.attribute(), "eSws");
        let bound = Binding::EndPoint(vec![1, 2, 3]);
        assert_eq!(bound.mechanism(), SCRAM_SHA_256_PLUS);
        assert_eq!(
            BASE64.decode(bound.attribute()).unwrap(),
            b"p=tls-server-end-point,,\x01\x02\x03"
        );
    }

    proptest! {
        #[test]
        fn no_message_panics(message: Vec<u8>, tail in ".{0,40}") {
            let (client, _) = AwaitServerFirst::new(Binding::Unsupported, "abc".into());
            let _ = client.server_first(&message);
            let (client, _) = AwaitServerFirst::new(Binding::Unsupported, "abc".into());
            let _ = client.server_first(format!("r=abc{tail}").as_bytes());
            let _ = AwaitServerFinal { signature: [0; 32] }.server_final(&message);
        }
    }
}
