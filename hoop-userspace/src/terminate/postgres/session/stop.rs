//! The end of a session: the client is told, the server's work is cancelled and waited for.
//!
//! Closing the server's connection would not do: PostgreSQL goes on with a statement whose client
//! is gone, and commits it.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Session, refusals};
use crate::terminate::{End, SessionError, Stopped};
use crate::wire::postgres::frame;
use crate::wire::postgres::frontend::tag;

/// How long cancelled work may take to end.
const SETTLE: Duration = Duration::from_secs(5);

/// A cancel that came before its statement began is lost; so it is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a peer may take to read the last words.
const GOODBYE: Duration = Duration::from_secs(1);

const QUERY_CANCELED: [u8; 5] = *b"57014";

pub(super) async fn stop<C, U>(mut session: Session<C, U>, why: &End) -> Stopped
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    if let Some(words) = refusals::farewell(why)
        && session.client.is_between_messages()
        && !session.ledger.fatal
    {
        // A message of hoop's own is well formed.
        let _ = session.client.push(words);
    }
    let running = !session.ledger.is_idle();
    let outcome = match running {
        true => settle(&mut session).await,
        false => Stopped::Idle,
    };
    let Session {
        mut client,
        mut upstream,
        ..
    } = session;
    let goodbye_client = async {
        poll_fn(|context| client.poll_write(context)).await?;
        client.stream.shutdown().await?;
        // Closing with unread bytes resets the connection, and the last words are lost.
        let mut scratch = [0; 4096];
        while client.stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    let goodbye_upstream = async {
        if upstream.is_between_messages() && upstream.is_written() {
            let _ = upstream.push(frame::message(tag::TERMINATE, &[]));
            poll_fn(|context| upstream.poll_write(context)).await?;
        }
        upstream.stream.shutdown().await
    };
    // Peers that are gone already need no goodbye.
    let _ = tokio::join!(
        tokio::time::timeout(GOODBYE, goodbye_client),
        tokio::time::timeout(GOODBYE, goodbye_upstream),
    );
    outcome
}

/// Cancels what runs and waits until the server has answered everything.
async fn settle<C, U>(session: &mut Session<C, U>) -> Stopped
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    session.ledger.last_error = [0; 5];
    if session.upstream.is_between_messages() {
        // A server that waits for COPY data does not look at cancels.
        let end = match session.ledger.copying() {
            Some(_) => frame::message(tag::COPY_FAIL, &[b"hoop ended the session\0"]),
            // What is not followed by Sync is answered only when asked for.
            None => frame::message(tag::FLUSH, &[]),
        };
        let _ = session.upstream.push(end);
    }
    let target = session.cancel.clone();
    let cancels = async {
        loop {
            if let Err(error) = target.send(SETTLE).await {
                tracing::warn!(%error, "a CancelRequest could not be sent to the server");
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let answers = poll_fn(|context| {
        loop {
            let _ = session.client.poll_write(context);
            let _ = session.upstream.poll_write(context);
            loop {
                match session
                    .replies
                    .take(&mut session.upstream.input, &mut session.ledger)
                {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if session.ledger.is_idle() {
                return Poll::Ready(Ok(()));
            }
            if session.upstream.ended {
                return Poll::Ready(Err(SessionError::UpstreamProtocol("closed".into())));
            }
            match session.upstream.poll_read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(SessionError::UpstreamIo(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let answered = tokio::select! {
        biased;
        answered = answers => answered.is_ok(),
        () = cancels => false,
        () = tokio::time::sleep(SETTLE) => false,
    };
    match answered {
        // An error of any kind undid the statement; the cancel's own says that it was the cause.
        true if session.ledger.last_error == QUERY_CANCELED => Stopped::Cancelled,
        true if session.ledger.last_error != [0; 5] => Stopped::Cancelled,
        true => Stopped::Completed,
        false => Stopped::Unknown,
    }
}
