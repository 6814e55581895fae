//! The end of a session: the client is told why, and what runs at the server is ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::requests::words;
use super::{BATCH, Out, REFUSED, Said, Session, State, Step, ToServer, saying};
use crate::decide::Refusal;
use crate::terminate::ssh::front::Opening;
use crate::terminate::{End, Stopped};
use crate::wire::ssh::channel::Message;

/// What a client has to take its last words, and a server to confirm that it closed the channel.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Session {
    /// Answers whatever is asked for first on a channel with a refusal, and closes it.
    pub(in crate::terminate::ssh) async fn refused(opening: Opening, refusal: &Refusal) {
        let Opening::Session { client, mut heard } = opening else {
            // A connection that is not accepted: dropping the handle says no.
            return;
        };
        let mut client = Out::new(Some(Arc::new(client)), None);
        let mut terminal = false;
        let asked = async {
            loop {
                let messages = heard.take(BATCH).await;
                terminal |= messages.iter().any(|m| matches!(m, Message::Pty(_)));
                let asks = |m: &Message| {
                    matches!(
                        m,
                        Message::Exec(_) | Message::Shell | Message::Subsystem(_) | Message::Closed
                    )
                };
                if messages.is_empty() || messages.iter().any(asks) {
                    return;
                }
            }
        };
        if tokio::time::timeout(LAST_WORDS, asked).await.is_err() {
            return;
        }
        client.push(Message::ErrorOutput(words(refusal, terminal)));
        client.push(Message::OutputEnd);
        client.push(Message::Exit(REFUSED));
        client.push(Message::Closed);
        let said = async {
            // A client that is gone needs no words.
            let _ = client.flush().await;
            heard.gone().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
    }

    pub(super) async fn end(mut self, why: &End) -> Stopped {
        self.say(why);
        let running = self.runs();
        let interrupted = running && *why != End::Finished;
        if interrupted {
            // Without a terminal, sshd ends a command only by a signal.
            self.server
                .push(Message::Signal(Bytes::from_static(b"TERM")));
        }
        if running {
            self.server.push(Message::Closed);
        }
        let told = async {
            if !self.client_gone {
                // A client that takes nothing more needs no words.
                let _ = tokio::time::timeout(LAST_WORDS, self.client.flush()).await;
            }
        };
        let ended = async {
            match running {
                true => {
                    let ended = end(&mut self.server, &mut self.said);
                    tokio::time::timeout(LAST_WORDS, ended).await
                }
                false => Ok(()),
            }
        };
        let ((), ended) = tokio::join!(told, ended);
        match (running, ended) {
            (false, _) => Stopped::Idle,
            (true, Ok(())) => Stopped::Cancelled,
            (true, Err(_)) => Stopped::Unknown,
        }
    }

    pub(super) fn runs(&self) -> bool {
        let begun = matches!(self.state, State::Running | State::Sftp(_) | State::Scp(_));
        begun && !matches!(self.said, Said::Gone | Said::NotOpen)
    }

    fn say(&mut self, why: &End) {
        let reason = match why {
            End::Finished => None,
            End::Identity(why) => Some(format!("the agent's identity no longer holds: {why}")),
            End::Killed(why) => Some(format!("an operator ended this session: {why}")),
            End::Drained => Some("hoop is stopping; try again in a moment".to_owned()),
            End::Unrecordable(why) => Some(format!("the session cannot be recorded: {why}")),
            End::Broken(why) => Some(why.clone()),
        };
        if self.closing.take().is_some() || matches!(self.state, State::Refused | State::Over) {
            return;
        }
        match reason {
            Some(reason) => self.tell_end(&format!("this session has ended: {reason}")),
            None => self.client.push(Message::Closed),
        }
    }
}

/// Sends what is left, and waits until the server has closed the channel.
async fn end(server: &mut Out<ToServer>, said: &mut Said) {
    if !server.is_open() || server.flush().await.is_err() {
        return;
    }
    while let Step::Said(messages) = saying(said, true, BATCH).await {
        if messages.is_empty() || messages.contains(&Message::Closed) {
            return;
        }
    }
}
