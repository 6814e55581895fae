//! Proving to a server that hoop may log in: every credential in its order, until it is content.

use std::sync::Arc;
use std::time::SystemTime;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Answer};
use russh::keys::PrivateKeyWithHashAlg;
use russh::{MethodKind, MethodSet};

use super::SshError;
use crate::config::{Ssh, SshCredential};
use crate::secret::Secret;
use crate::terminate::ssh::{Back, Keys};

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
        SshCredential::Minted => {
            let (key, certificate) = keys.mint(user, key_id, SystemTime::now())?;
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
            answer(handle, user, password).await
        }
        _ => Ok(tried),
    }
}

/// Answers what is asked: the password to every question whose answer is not shown.
async fn answer(
    handle: &mut Handle<Back>,
    user: &str,
    password: &Secret,
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
        let answers = prompts.iter().map(|prompt| match prompt.echo {
            true => user.to_owned(),
            false => password.expose().to_owned(),
        });
        asked = handle
            .authenticate_keyboard_interactive_respond(answers.collect())
            .await?;
    }
    Ok(AuthResult::Failure {
        remaining_methods: MethodSet::empty(),
        partial_success: false,
    })
}
