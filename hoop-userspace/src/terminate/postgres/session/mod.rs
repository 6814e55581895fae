//! One PostgreSQL session: both connections, what was read from each, what waits for each, and what
//! the server still owes.

mod ledger;
mod names;
mod pipe;
mod replies;
mod requests;
mod sql_names;
mod stop;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::cancels::Registration;
use super::client::ClientStream;
use super::refusals;
use super::upstream::{CancelTarget, Upstream, UpstreamStream};
use crate::decide::{Permitted, Refusal};
use crate::ids::ExchangeId;
use crate::mask::Masked;
use crate::record::Recorded;
use crate::terminate::{
    Bulk, ClientGate, End, Event, Gate, Grant, Protocol, SessionError, Side, Stopped,
};
use crate::wire::postgres::backend::{self, Transaction};
use crate::wire::postgres::frame;
use crate::wire::postgres::frontend::tag;

use ledger::{Awaited, Kind, Ledger};
use pipe::Pipe;
use requests::{Ends, MAX_SEGMENT, Requests, Staged, Taken};

/// Messages that may wait for their answers before the client is read no further.
const MAX_AWAITED: usize = 8192;

/// Bytes that are read ahead of a client that may not send now, so that its hang-up is seen.
const READ_AHEAD: usize = 64 * 1024;

/// Beside one message of the largest size: the segment before it, and what follows.
const MORE_INPUT: usize = MAX_SEGMENT + READ_AHEAD;

const CANCEL: Duration = Duration::from_secs(5);

/// No identifier begins a statement, so this fails in the parser: it starts no transaction, runs
/// nothing, and aborts the block that it stands in.
const FORGED_QUERY: &[u8] = b"hoop_refused_this_statement\0";

/// Bounds and needs of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Largest whole message held in memory, in bytes.
    pub max_message: usize,
    /// Whether the masks need to know the columns of every row.
    pub attribute: bool,
}

/// A client and a server, both logged in.
pub struct Session<C = ClientStream, U = UpstreamStream> {
    client: Pipe<C>,
    upstream: Pipe<U>,
    requests: Requests,
    replies: replies::Reader,
    ledger: Ledger,
    /// Taken from the client; the loop has yet to say what becomes of it.
    staged: Option<Staged>,
    /// The client said goodbye; what it asked for before is still answered.
    leaving: bool,
    limits: Limits,
    /// The client is read up to this many bytes that have not been taken.
    most_input: usize,
    /// Names a portal that nobody can have made: executing it must fail.
    no_portal: Bytes,
    cancel: CancelTarget,
    cancelling: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    registration: Registration,
}

impl Session {
    pub(super) fn new(
        client: ClientStream,
        upstream: Upstream,
        registration: Registration,
        limits: Limits,
    ) -> Self {
        let Upstream {
            stream,
            parameters,
            cancel,
            leftover,
        } = upstream;
        Self::over(
            client,
            stream,
            leftover,
            &parameters,
            cancel,
            registration,
            limits,
        )
    }
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn over(
        client: C,
        upstream: U,
        leftover: BytesMut,
        parameters: &[(String, String)],
        cancel: CancelTarget,
        registration: Registration,
        limits: Limits,
    ) -> Self {
        let mut client = Pipe::new(client, BytesMut::new());
        let greeting = parameters
            .iter()
            .map(|(name, value)| backend::parameter_message(name, value))
            .chain([
                backend::key_message(registration.pid, registration.key),
                backend::ready_message(Transaction::Idle),
            ]);
        for message in greeting {
            // Messages of hoop's own are well formed.
            let _ = client.push(message);
        }
        Self {
            client,
            upstream: Pipe::new(upstream, leftover),
            requests: Requests::new(limits.max_message, limits.attribute),
            replies: replies::Reader::new(limits.max_message),
            ledger: Ledger::new(limits.attribute),
            staged: None,
            leaving: false,
            limits,
            most_input: READ_AHEAD,
            no_portal: no_portal(),
            cancel,
            cancelling: None,
            registration,
        }
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        gate: Gate,
    ) -> Poll<Result<Event, SessionError>> {
        loop {
            self.poll_output(context)?;
            if let Poll::Ready(Some(())) = self.registration.asked.poll_recv(context) {
                return Poll::Ready(Ok(Event::Cancel(self.ledger.current())));
            }
            if let Some(cancelling) = &mut self.cancelling
                && let Poll::Ready(sent) = cancelling.as_mut().poll(context)
            {
                self.cancelling = None;
                if let Err(error) = sent {
                    tracing::warn!(%error, "a CancelRequest could not be sent to the server");
                }
            }
            if let Some(event) = self.upstream_event(gate)? {
                return Poll::Ready(Ok(event));
            }
            if let Some(event) = self.client_event(gate)? {
                return Poll::Ready(Ok(event));
            }
            if !self.poll_input(context, gate)? {
                return Poll::Pending;
            }
        }
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> Result<(), SessionError> {
        match self.client.poll_write(context) {
            // A client that said goodbye need not hear the answers.
            Poll::Ready(Err(_)) if self.leaving => self.client.drop_output(),
            Poll::Ready(Err(error)) => return Err(SessionError::ClientIo(error)),
            _ => {}
        }
        if let Poll::Ready(Err(error)) = self.upstream.poll_write(context) {
            // What the server said before it closed is still worth reading; reading finds the end.
            tracing::debug!(%error, "the server takes no more");
            self.upstream.drop_output();
        }
        Ok(())
    }

    /// Reads each side once. Whether anything came.
    fn poll_input(&mut self, context: &mut Context<'_>, gate: Gate) -> Result<bool, SessionError> {
        let mut came = false;
        if gate.upstream && !self.client.is_full() {
            match self.upstream.poll_read(context) {
                Poll::Ready(Ok(())) => came = true,
                Poll::Ready(Err(error)) => return Err(SessionError::UpstreamIo(error)),
                Poll::Pending => {}
            }
        }
        let most = if self.may_ask(gate) {
            self.most_input
        } else {
            READ_AHEAD
        };
        if self.client.input.len() < most {
            match self.client.poll_read(context) {
                Poll::Ready(Ok(())) => came = true,
                Poll::Ready(Err(_)) if self.leaving => self.client.ended = true,
                Poll::Ready(Err(error)) => return Err(SessionError::ClientIo(error)),
                Poll::Pending => {}
            }
        }
        Ok(came)
    }

    fn upstream_event(&mut self, gate: Gate) -> Result<Option<Event>, SessionError> {
        if gate.upstream && !self.client.is_full() {
            let replies = self
                .replies
                .take(&mut self.upstream.input, &mut self.ledger)?;
            if let Some(replies) = replies {
                return Ok(Some(Event::Replies(replies)));
            }
            if self.upstream.ended && self.client.is_written() {
                return Ok(Some(Event::HalfClosed(Side::Upstream)));
            }
        }
        Ok(None)
    }

    /// Whether a new request may be taken from the client.
    fn may_ask(&self, gate: Gate) -> bool {
        gate.client == ClientGate::Open
            && self.staged.is_none()
            && !self.leaving
            && !self.upstream.is_full()
            && self.ledger.len() < MAX_AWAITED
    }

    fn client_event(&mut self, gate: Gate) -> Result<Option<Event>, SessionError> {
        if self.leaving {
            let done = self.ledger.is_idle() && self.staged.is_none() && self.client.is_written();
            return Ok(done.then_some(Event::Closed));
        }
        if self.may_ask(gate) {
            match self
                .requests
                .take(&mut self.client.input, &mut self.ledger)?
            {
                Taken::Request(request, staged) => {
                    self.staged = Some(staged);
                    return Ok(Some(Event::Request(request)));
                }
                Taken::Bulk(exchange, bulk) => return Ok(Some(Event::Bulk(exchange, bulk))),
                Taken::Terminate => {
                    self.leaving = true;
                    return self.client_event(gate);
                }
                Taken::Nothing => self.most_input = self.limits.max_message + MORE_INPUT,
                Taken::Blocked => self.most_input = READ_AHEAD,
            }
        }
        Ok(self.client.ended.then_some(Event::HalfClosed(Side::Client)))
    }

    /// Sends a message of hoop's own to the server.
    fn tell_server(&mut self, message: Bytes) -> Result<(), SessionError> {
        self.upstream.push(message).map_err(ours)
    }

    /// Sends the units that `wire` holds: all that is staged, those before a refused one, or those
    /// that were held until people had answered.
    fn carry(&mut self, exchange: ExchangeId, wire: &Bytes) -> Result<(), SessionError> {
        let Some(mut staged) = self.staged.take() else {
            return Err(out_of_step("nothing waits to be forwarded"));
        };
        let from = staged.forwarded;
        let end = from + wire.len();
        let first = staged.units.iter().take_while(|u| u.end <= from).count();
        let count = staged
            .units
            .iter()
            .position(|u| u.end == end)
            .map_or(0, |at| at + 1);
        let units = staged.units.get(first..count).unwrap_or_default();
        let same = staged.exchange == exchange
            && !units.is_empty()
            && staged.wire.get(from..end) == Some(wire);
        if !same || units.iter().any(|u| u.dropped) {
            return Err(out_of_step("what was permitted is not what was asked"));
        }
        if self.ledger.copy_in.is_some() {
            let why = "other messages came while the server waited for COPY data";
            return Err(SessionError::ClientProtocol(why.into()));
        }
        self.send(&staged, first..count)?;
        if count < staged.units.len() {
            staged.forwarded = end;
            self.staged = Some(staged);
        }
        Ok(())
    }

    /// Writes permitted units, and notes what each will be answered with.
    fn send(&mut self, staged: &Staged, units: Range<usize>) -> Result<(), SessionError> {
        let (mut from, mut sent) = (staged.forwarded, staged.forwarded);
        let exchange = staged.exchange;
        let until = staged.units.get(..units.end).unwrap_or_default();
        let last = until.iter().rposition(|u| u.kind.is_some());
        let ends_here = units.end == staged.units.len();
        for (index, unit) in until.iter().enumerate().skip(units.start) {
            let number = unit_number(index);
            if unit.attribute
                && let Some(Kind::Execute { portal, .. }) = &unit.kind
            {
                self.upstream
                    .push(staged.wire.slice(from..sent))
                    .map_err(ours)?;
                from = sent;
                let describe = frame::message(tag::DESCRIBE, &[b"P", portal, b"\0"]);
                self.tell_server(describe)?;
                let kind = Kind::Attribute {
                    portal: portal.clone(),
                };
                let exchange = staged.exchange;
                self.ledger.expect(Awaited {
                    exchange,
                    unit: number,
                    last: false,
                    kind,
                });
            }
            sent = unit.end;
            if let Some(kind) = unit.kind.clone() {
                let last = ends_here && last == Some(index);
                self.ledger.expect(Awaited {
                    exchange,
                    unit: number,
                    last,
                    kind,
                });
            }
        }
        self.upstream
            .push(staged.wire.slice(from..sent))
            .map_err(ours)
    }

    /// Puts a message that must fail in the place of a refused unit. What the client sent behind
    /// it is dropped, as the server would skip it; the segment's Sync or Flush is not.
    fn forge(&mut self, refusal: &Refusal) -> Result<(), SessionError> {
        let Some(staged) = self
            .staged
            .take()
            .filter(|s| s.exchange == refusal.exchange)
        else {
            return Err(out_of_step("nothing waits to be refused"));
        };
        let at = usize::from(refusal.unit);
        let refused = staged.units.get(at..).unwrap_or_default();
        let Some(unit) = refused.first() else {
            return Err(out_of_step(
                "a refusal of a unit that the request does not have",
            ));
        };
        for kind in refused.iter().filter_map(|u| u.kind.as_ref()) {
            self.ledger.unsettle(kind);
        }
        let ends_with_ready = unit.ends == Ends::Itself;
        let message = match ends_with_ready {
            true => frame::message(tag::QUERY, &[FORGED_QUERY]),
            false => frame::message(tag::EXECUTE, &[&self.no_portal, b"\0", &[0; 4]]),
        };
        self.tell_server(message)?;
        let tail = refused.last().map_or(Ends::No, |u| u.ends);
        let kind = Kind::Forged {
            error: refusals::error(refusal),
            ends_with_ready,
        };
        let (exchange, unit) = (staged.exchange, refusal.unit);
        self.ledger.expect(Awaited {
            exchange,
            unit,
            last: tail != Ends::Sync,
            kind,
        });
        match tail {
            Ends::Sync => {
                self.tell_server(frame::message(tag::SYNC, &[]))?;
                let unit = unit_number(staged.units.len().saturating_sub(1));
                self.ledger.expect(Awaited {
                    exchange,
                    unit,
                    last: true,
                    kind: Kind::Sync,
                });
            }
            Ends::Flush => self.tell_server(frame::message(tag::FLUSH, &[]))?,
            Ends::No | Ends::Itself => {}
        }
        Ok(())
    }
}

impl<C, U> Protocol for Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn next(&mut self, gate: Gate) -> Result<Event, SessionError> {
        poll_fn(|context| self.poll_next(context, gate)).await
    }

    fn forward(&mut self, request: Recorded<Permitted>) -> Result<Grant, SessionError> {
        let permitted = request.into_inner();
        self.carry(permitted.exchange(), permitted.wire())?;
        Ok(Grant::new(permitted.exchange()))
    }

    fn more(&mut self, grant: &mut Grant, bulk: Bulk) -> Result<(), SessionError> {
        // The COPY that it belonged to may have failed meanwhile; the server would ignore the data.
        let reads = self.ledger.copying() == Some(grant.exchange());
        match reads {
            true => self.tell_server(bulk.wire),
            false => Ok(()),
        }
    }

    fn reply(&mut self, reply: Recorded<Masked>) -> Result<(), SessionError> {
        self.client.push(reply.get().wire().clone()).map_err(ours)
    }

    fn refuse(&mut self, refusal: Recorded<Refusal>) -> Result<(), SessionError> {
        self.forge(refusal.get())
    }

    fn notify(&mut self, _: ExchangeId, notice: &str) -> bool {
        // A message of hoop's own is well formed.
        self.client.is_between_messages() && self.client.push(refusals::notice(notice)).is_ok()
    }

    fn awaits(&self, exchange: ExchangeId) -> bool {
        // Not Flush alone, nor what a server skips that has met an error.
        self.ledger.awaits(exchange)
    }

    fn in_transaction(&self) -> bool {
        self.ledger.in_transaction()
    }

    fn cancel(&mut self) {
        if self.cancelling.is_none() {
            let target = self.cancel.clone();
            self.cancelling = Some(Box::pin(async move { target.send(CANCEL).await }));
        }
    }

    async fn stop(self, why: &End) -> Stopped {
        stop::stop(self, why).await
    }
}

fn unit_number(index: usize) -> u16 {
    // A segment has at most 1,024 units.
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Bytes that hoop itself put together break the framing: nothing can be told the peer any more.
fn ours(error: crate::wire::postgres::WireError) -> SessionError {
    SessionError::Unfollowable(format!("a message to be sent is malformed: {error}"))
}

fn out_of_step(why: &str) -> SessionError {
    SessionError::Unfollowable(why.into())
}

/// 128 random bits: neither client nor server can have a portal of this name.
fn no_portal() -> Bytes {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0u8; 16];
    // Without randomness no TLS and no cancel key could have been made before this.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("hoop_{:032x}", u128::from_be_bytes(bytes)).into()
}
