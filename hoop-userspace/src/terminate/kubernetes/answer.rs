//! The client's side of one request: the answer, as it is made.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};

/// Pieces of a body on their way to the connection.
const PIECES: usize = 4;
/// Texts that one answer warns of.
const MAX_WARNINGS: usize = 8;
/// Bytes of each.
const MAX_WARNING: usize = 1024;

/// The answer's content ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut off")]
pub struct Broken;

/// What is sent: at once, or as it comes.
pub enum AnswerBody {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Result<Bytes, Broken>>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => pieces
                .poll_recv(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub(super) struct Gone;

/// Where the answer goes.
pub(super) struct Answer {
    head: Option<oneshot::Sender<Response<AnswerBody>>>,
    body: Option<mpsc::Sender<Result<Bytes, Broken>>>,
    waiting: VecDeque<Result<Bytes, Broken>>,
    /// Bytes that wait to be taken by the connection.
    queued: usize,
    warnings: Vec<HeaderValue>,
    /// Nothing more comes.
    ended: bool,
}

impl Answer {
    pub fn new(head: oneshot::Sender<Response<AnswerBody>>) -> Self {
        Self {
            head: Some(head),
            body: None,
            waiting: VecDeque::new(),
            queued: 0,
            warnings: Vec::new(),
            ended: false,
        }
    }

    /// Whether the head is still to be sent.
    pub fn is_open(&self) -> bool {
        self.head.is_some()
    }

    /// Something that the client's user should read beside the answer; whether there is room for it.
    pub fn warn(&mut self, text: &str) -> bool {
        if self.head.is_none() {
            return false;
        }
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.extend(warning(text));
        }
        true
    }

    /// Sends head and content at once.
    pub fn whole(&mut self, status: StatusCode, headers: HeaderMap, content: Bytes) {
        self.send(status, headers, AnswerBody::Whole(Some(content)));
        self.ended = true;
    }

    /// Says that from here on the connection is another protocol's.
    pub fn switch(&mut self, headers: HeaderMap) {
        self.send(
            StatusCode::SWITCHING_PROTOCOLS,
            headers,
            AnswerBody::Whole(None),
        );
        self.ended = true;
    }

    /// Sends the head of an answer whose content comes by [`Answer::push`].
    pub fn begin(&mut self, status: StatusCode, headers: HeaderMap) {
        let (body, pieces) = mpsc::channel(PIECES);
        self.body = Some(body);
        self.send(status, headers, AnswerBody::Stream(pieces));
    }

    fn send(&mut self, status: StatusCode, mut headers: HeaderMap, body: AnswerBody) {
        let Some(head) = self.head.take() else {
            return;
        };
        for text in self.warnings.drain(..) {
            headers.append(header::WARNING, text);
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        // Whoever has gone needs no answer; that it has is seen elsewhere.
        let _ = head.send(response);
    }

    pub fn push(&mut self, piece: Bytes) {
        if self.body.is_some() && !piece.is_empty() {
            self.queued += piece.len();
            self.waiting.push_back(Ok(piece));
        }
    }

    /// No more comes. Broken off, the client must not take what it has for all.
    pub fn end(&mut self, broken: bool) {
        if broken && self.body.is_some() {
            self.waiting.push_back(Err(Broken));
        }
        self.ended = true;
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether everything has been handed to the connection, and no more comes.
    pub fn is_done(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Hands on what waits; returns when nothing is left, or when less than `low` bytes wait that
    /// had been more. Where nothing waits it resolves only when the client is no longer there.
    /// Cancel-safe.
    pub async fn drive(&mut self, low: usize) -> Result<(), Gone> {
        let body = match (&mut self.head, &self.body) {
            (Some(head), _) => {
                head.closed().await;
                return Err(Gone);
            }
            // All was said at once.
            (None, None) => return std::future::pending().await,
            (None, Some(body)) if self.waiting.is_empty() => {
                body.closed().await;
                return Err(Gone);
            }
            (None, Some(body)) => body,
        };
        loop {
            let place = body.reserve().await.map_err(|_| Gone)?;
            let Some(piece) = self.waiting.pop_front() else {
                return Ok(());
            };
            let before = self.queued;
            self.queued -= piece.as_ref().map_or(0, Bytes::len);
            place.send(piece);
            if before >= low && self.queued < low || self.waiting.is_empty() {
                return Ok(());
            }
        }
    }
}

/// A `Warning` header as kubectl prints it (RFC 7234, 5.5; code 299 is "miscellaneous, persistent").
fn warning(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if quoted.len() >= MAX_WARNING {
            quoted.push_str("...");
            break;
        }
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            // What is beyond a header's characters does not survive every client.
            ' '..='~' => quoted.push(c),
            c if c.is_control() => quoted.push(' '),
            _ => quoted.push('?'),
        }
    }
    HeaderValue::from_str(&format!("299 hoop \"{quoted}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_quoted_text() {
        let value = warning("say \"hi\"\nto ü\\").unwrap();
        assert_eq!(value, r#"299 hoop "say \"hi\" to ?\\""#);
        let long = warning(&"x".repeat(5000)).unwrap();
        assert!(long.len() < 1100 && long.to_str().unwrap().ends_with("...\""));
    }

    #[tokio::test]
    async fn what_waits_is_handed_on_in_order_and_a_broken_answer_ends_so() {
        use http_body_util::BodyExt;
        let (head, answered) = oneshot::channel();
        let mut answer = Answer::new(head);
        assert!(answer.warn("one"));
        answer.begin(StatusCode::OK, HeaderMap::new());
        assert!(!answer.warn("late"));
        for n in 0..3 {
            answer.push(Bytes::from(vec![b'a' + n; 10]));
        }
        answer.end(true);
        assert!(!answer.is_done());
        while !answer.is_done() {
            answer.drive(1).await.unwrap();
        }
        assert_eq!(answer.queued(), 0);
        let mut response = answered.await.unwrap();
        assert_eq!(response.headers()[header::WARNING], "299 hoop \"one\"");
        for n in 0..3 {
            let piece = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(piece.into_data().unwrap(), vec![b'a' + n; 10]);
        }
        assert!(response.body_mut().frame().await.unwrap().is_err());
    }
}
