//! SCRAM-SHA-256(-PLUS) with a client that insists on it (`channel_binding=require`,
//! `require_auth`). The password is a configured dummy: it proves nothing about the agent, whose
//! identity was verified by other means; it only lets such a client go on.

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};

use crate::secret::Secret;
use crate::wire::scram::{Binding, Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const NONCE_BYTES: usize = 18;
const MAX_MESSAGE: usize = 4096;

/// A resource's `agent_password`, made ready once: deriving the keys costs a millisecond.
#[derive(Clone)]
pub struct AgentPassword(Arc<Prepared>);

struct Prepared {
    keys: Keys,
    salt: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientScramError {
    #[error("the system has no randomness")]
    NoRandomness,
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    #[error("the client chose a mechanism that was not offered")]
    Mechanism,
    #[error("the client saw no offer of channel binding, but one was made: somebody is in between")]
    Downgrade,
    #[error("the client's channel binding is to another certificate")]
    Binding,
    #[error("the password is not the resource's agent_password")]
    Password,
}

impl AgentPassword {
    pub fn derive(password: &Secret) -> Result<Self, ClientScramError> {
        let mut salt = [0; 16];
        fill(&mut salt)?;
        let keys = Keys::derive(password.expose(), &salt, ITERATIONS);
        Ok(Self(Arc::new(Prepared { keys, salt })))
    }
}

/// A server that awaits the client's last message.
pub(super) struct AwaitClientFinal {
    password: AgentPassword,
    binding: Binding,
    nonce: String,
    /// client-first-message-bare and server-first-message.
    first_messages: String,
}

/// The mechanisms to offer, best first.
pub(super) fn mechanisms(end_point: Option<&[u8]>) -> &'static [&'static str] {
    match end_point {
        Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        None => &[SCRAM_SHA_256],
    }
}

/// Takes the client-first-message; returns the server-first-message too.
pub(super) fn client_first(
    password: &AgentPassword,
    mechanism: &str,
    message: &[u8],
    end_point: Option<&[u8]>,
) -> Result<(AwaitClientFinal, String), ClientScramError> {
    let message = text(message)?;
    let bad = ClientScramError::Malformed;
    let mut parts = message.splitn(3, ',');
    let (flag, authorise_as) = (parts.next(), parts.next());
    let bare = parts.next().ok_or(bad("no client-first-message"))?;
    if authorise_as != Some("") {
        return Err(bad("it asks to act as somebody else"));
    }
    let binding = match (mechanism, flag, end_point) {
        (SCRAM_SHA_256, Some("n"), _) => Binding::Unsupported,
        (SCRAM_SHA_256, Some("y"), None) => Binding::NotOffered,
        (SCRAM_SHA_256, Some("y"), Some(_)) => return Err(ClientScramError::Downgrade),
        (SCRAM_SHA_256_PLUS, Some("p=tls-server-end-point"), Some(hash)) => {
            Binding::EndPoint(hash.to_vec())
        }
        _ => return Err(ClientScramError::Mechanism),
    };
    // The user name is not looked at: the start-up message has said it (as PostgreSQL does).
    let nonce = bare.split(',').nth(1).and_then(|a| a.strip_prefix("r="));
    let nonce = nonce.filter(|n| !n.is_empty()).ok_or(bad("no nonce"))?;
    let mut random = [0; NONCE_BYTES];
    fill(&mut random)?;
    let nonce = format!("{nonce}{}", BASE64.encode(random));
    let salt = BASE64.encode(password.0.salt);
    let answer = format!("r={nonce},s={salt},i={ITERATIONS}");
    let first_messages = format!("{bare},{answer}");
    let password = password.clone();
    Ok((
        AwaitClientFinal {
            password,
            binding,
            nonce,
            first_messages,
        },
        answer,
    ))
}

impl AwaitClientFinal {
    /// Returns the server-final-message if the client knows the password.
    pub fn client_final(self, message: &[u8]) -> Result<String, ClientScramError> {
        let message = text(message)?;
        let bad = ClientScramError::Malformed;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(bad("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        if binding != Some(self.binding.attribute().as_str()) {
            return Err(ClientScramError::Binding);
        }
        if attributes.next().and_then(|a| a.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(bad("another nonce"));
        }
        let proof = BASE64.decode(proof).map_err(|_| bad("the proof"))?;
        let auth_message = format!("{},{without_proof}", self.first_messages);
        let keys = &self.password.0.keys;
        match keys.verify_client_proof(&auth_message, &proof) {
            true => Ok(format!(
                "v={}",
                BASE64.encode(keys.server_signature(&auth_message))
            )),
            false => Err(ClientScramError::Password),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, ClientScramError> {
    match std::str::from_utf8(message) {
        Ok(text) if text.len() <= MAX_MESSAGE => Ok(text),
        _ => Err(ClientScramError::Malformed("too long, or not UTF-8")),
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), ClientScramError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| ClientScramError::NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scram::AwaitServerFirst;
    use proptest::prelude::*;

    fn log_in(
        client_password: &str,
        binding: Binding,
        end_point: Option<&[u8]>,
    ) -> Result<(), ClientScramError> {
        let password = AgentPassword::derive(&Secret::new("dummy".into()))?;
        let mechanism = binding.mechanism();
        let (client, first) = AwaitServerFirst::new(binding, "abcdefghijklmnopqrstuvwx".into());
        let (server, answer) = client_first(&password, mechanism, first.as_bytes(), end_point)?;
        let exchange = client.server_first(answer.as_bytes()).unwrap();
        let keys = Keys::derive(client_password, &exchange.salt, exchange.iterations);
        let (client, last) = exchange.with_keys(&keys);
        let answer = server.client_final(last.as_bytes())?;
        client.server_final(answer.as_bytes()).unwrap();
        Ok(())
    }

    #[test]
    fn clients_with_the_dummy_password_pass() {
        assert_eq!(log_in("dummy", Binding::Unsupported, None), Ok(()));
        assert_eq!(log_in("dummy", Binding::Unsupported, Some(b"hash")), Ok(()));
        assert_eq!(
            log_in("dummy", Binding::EndPoint(b"hash".to_vec()), Some(b"hash")),
            Ok(())
        );
        assert_eq!(log_in("dummy", Binding::NotOffered, None), Ok(()));
    }

    #[test]
    fn others_do_not() {
        use ClientScramError as E;
        assert_eq!(
            log_in("other", Binding::Unsupported, None),
            Err(E::Password)
        );
        assert_eq!(
            log_in("dummy", Binding::NotOffered, Some(b"hash")),
            Err(E::Downgrade)
        );
        let other = Binding::EndPoint(b"other".to_vec());
        assert_eq!(
            log_in("dummy", other.clone(), Some(b"hash")),
            Err(E::Binding)
        );
        assert_eq!(log_in("dummy", other, None), Err(E::Mechanism));
    }

    proptest! {
        #[test]
        fn no_message_panics(first in "[npy=,ra-z]{0,30}", last in "[cprv=,a-z]{0,30}") {
            let keys = Keys::derive("x", b"y", NonZeroU32::MIN);
            let password = AgentPassword(Arc::new(Prepared { keys, salt: [0; 16] }));
            if let Ok((server, _)) = client_first(&password, SCRAM_SHA_256, first.as_bytes(), None) {
                let _ = server.client_final(last.as_bytes());
            }
        }
    }
}
