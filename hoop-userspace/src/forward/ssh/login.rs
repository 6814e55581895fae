//! Proving to a server that hoop may log in: every credential in its order, until it is content.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Answer};
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::{MethodKind, MethodSet};

use super::SshError;
use crate::config::{Ssh, SshAnswer, SshCredential};
use crate::secret::Secret;
use crate::terminate::ssh::{Back, Keys};

/// Keys of an agent that are tried; servers end a login after few.
const MAX_KEYS: usize = 6;
/// Rounds of questions that a server may ask.
const MAX_ROUNDS: usize = 8;

pub async fn log_in(
    handle: &mut Handle<Back>,
    ssh: &Ssh,
    user: &str,
    key_id: &str,
    keys: &Keys,
) -> Result<(), SshError> {
    let mut wanted = MethodSet::empty();
    for credential in &ssh.credentials {
        match offer(handle, credential, user, key_id, keys).await? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure {
                remaining_methods, ..
            } => wanted = remaining_methods,
        }
    }
    let wants: Vec<&str> = wanted.iter().map(Into::into).collect();
    Err(SshError::Refused {
        user: user.to_owned(),
        wants: wants.join(", "),
    })
}

async fn offer(
    handle: &mut Handle<Back>,
    credential: &SshCredential,
    user: &str,
    key_id: &str,
    keys: &Keys,
) -> Result<AuthResult, SshError> {
    Ok(match credential {
        SshCredential::Minted(minted) => {
            let (key, certificate) = keys.mint(minted, user, key_id, SystemTime::now())?;
            handle
                .authenticate_openssh_cert(user, key, certificate)
                .await?
        }
        SshCredential::Key {
            key,
            certificate: Some(certificate),
        } => {
            let (key, certificate) = (Arc::clone(key), (**certificate).clone());
            handle
                .authenticate_openssh_cert(user, key, certificate)
                .await?
        }
        SshCredential::Key {
            key,
            certificate: None,
        } => {
            // Of RSA the newest hash that both know; other keys have none to choose.
            let hash = handle.best_supported_rsa_hash().await?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            handle.authenticate_publickey(user, key).await?
        }
        SshCredential::Password(password) => by_password(handle, user, password).await?,
        SshCredential::Answers(answers) => answer(handle, user, answers, None).await?,
        SshCredential::Agent(socket) => by_agent(handle, user, socket).await?,
    })
}

async fn by_password(
    handle: &mut Handle<Back>,
    user: &str,
    password: &Secret,
) -> Result<AuthResult, SshError> {
    let tried = handle
        .authenticate_password(user, password.expose())
        .await?;
    match &tried {
        AuthResult::Failure {
            remaining_methods,
            partial_success: false,
        } if remaining_methods.contains(&MethodKind::KeyboardInteractive) => {
            answer(handle, user, &[], Some(password)).await
        }
        _ => Ok(tried),
    }
}

/// Offers the keys that an agent holds, one by one.
async fn by_agent(
    handle: &mut Handle<Back>,
    user: &str,
    socket: &Path,
) -> Result<AuthResult, SshError> {
    let broken = |error: &dyn std::fmt::Display| SshError::Agent {
        socket: socket.to_owned(),
        why: error.to_string(),
    };
    let connected = AgentClient::connect_uds(socket).await;
    let mut agent = connected.map_err(|error| broken(&error))?;
    let held = agent.request_identities().await;
    let held = held.map_err(|error| broken(&error))?;
    let hash = handle.best_supported_rsa_hash().await?.flatten();
    let mut last = AuthResult::Failure {
        remaining_methods: MethodSet::empty(),
        partial_success: false,
    };
    for identity in held.into_iter().take(MAX_KEYS) {
        let tried = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                handle
                    .authenticate_publickey_with(user, key, hash, &mut agent)
                    .await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                handle
                    .authenticate_certificate_with(user, certificate, hash, &mut agent)
                    .await
            }
        };
        last = tried.map_err(|error| broken(&error))?;
        if matches!(last, AuthResult::Success) {
            break;
        }
    }
    Ok(last)
}

/// Answers what is asked: by what the question holds, or with the password where the answer is not
/// shown. A question that nothing answers ends the login.
async fn answer(
    handle: &mut Handle<Back>,
    user: &str,
    answers: &[SshAnswer],
    password: Option<&Secret>,
) -> Result<AuthResult, SshError> {
    let mut asked = handle
        .authenticate_keyboard_interactive_start(user, None::<String>)
        .await?;
    for _ in 0..MAX_ROUNDS {
        let prompts = match asked {
            Answer::Success => return Ok(AuthResult::Success),
            Answer::Failure {
                remaining_methods,
                partial_success,
            } => {
                return Ok(AuthResult::Failure {
                    remaining_methods,
                    partial_success,
                });
            }
            Answer::InfoRequest { prompts, .. } => prompts,
        };
        let mut given = Vec::with_capacity(prompts.len());
        for prompt in &prompts {
            let asks = prompt.prompt.to_lowercase();
            let stored = answers.iter().find(|answer| asks.contains(&answer.prompt));
            given.push(match (stored, prompt.echo, password) {
                (Some(stored), _, _) => stored.answer.expose().to_owned(),
                (None, true, _) => user.to_owned(),
                (None, false, Some(password)) => password.expose().to_owned(),
                (None, false, None) => return Err(SshError::Question(prompt.prompt.clone())),
            });
        }
        asked = handle
            .authenticate_keyboard_interactive_respond(given)
            .await?;
    }
    Ok(AuthResult::Failure {
        remaining_methods: MethodSet::empty(),
        partial_success: false,
    })
}
