//! One request: read whole, decided, sent, and answered as the answer comes.
//!
//! It is one exchange. A request for streams goes on as [`streams::Streams`] once the server has
//! agreed to them: what is typed is [`crate::terminate::Bulk`] of it, what is printed are its replies.

mod drive;
mod foresee;
mod forwards;
mod half;
mod pieces;
mod reply;
mod streams;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, Response, StatusCode, header,
};
use http_body_util::Full;
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use ring::rand::{SecureRandom, SystemRandom};
use smallvec::smallvec;
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::answer::Answer;
use super::asked::KubernetesAsked;
use super::front::Opening;
use super::head::{Expected, Head, MAX_BODY, Objection, Upgrade};
use super::{Added, Answering, Server, ServerError, status};
use crate::decide::Refusal;
use crate::ids::ExchangeId;
use crate::terminate::{
    Asked, ClientGate, End, Event, Gate, Request, SessionError, Side, Undecidable, Unit,
};
use crate::wire::kubernetes::channel::negotiate::Question;
use crate::wire::kubernetes::http::{RequestHead, ResponseHead};
use crate::wire::kubernetes::request::RequestInfo;
use crate::wire::ssh::channel::{MAX_BODY as MAX_PIECE, Message};

use reply::{Heard, Reply};
use streams::{Moved, Streams};

/// Of one session there is one exchange.
const EXCHANGE: ExchangeId = ExchangeId(1);
/// While more than this waits to be sent to one side, nothing is taken from the other.
const WAITING: usize = 1 << 20;
/// For a request's body to come whole.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// For the server to say what became of a change whose client has gone.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a session needs beside its request.
pub struct Reach {
    pub server: Arc<dyn Server>,
    /// Whom hoop speaks for, as headers.
    pub added: Added,
    /// Bytes of an answer that is masked as a whole.
    pub max_document: usize,
    /// How long a request is held for people.
    pub patience: Duration,
    /// What a held request would change is found out, so many at once; `None` where the server is
    /// not to be asked.
    pub foresees: Option<Arc<Semaphore>>,
}

/// A request that a client has made.
pub struct Session {
    reach: Reach,
    line: String,
    head: Option<Box<Head>>,
    /// What it is forwarded with, once it may be.
    upgrade: Option<Upgrade>,
    client: Option<OnUpgrade>,
    answer: Answer,
    /// The head of the answer, until its content follows.
    answered: Option<(StatusCode, HeaderMap)>,
    whole: Option<Bytes>,
    state: State,
    events: VecDeque<Event>,
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether what was sent changes something.
    changes: bool,
    /// How its answer is read.
    expected: Option<(Expected, Arc<KubernetesAsked>)>,
    /// The client's program, as it names itself.
    user_agent: Option<Bytes>,
    /// The answer passes as it comes.
    streaming: bool,
    /// What the client is told when its connection becomes streams.
    switching: Option<HeaderMap>,
}

enum State {
    Reading {
        body: Incoming,
        content: BytesMut,
        by: Pin<Box<Sleep>>,
    },
    /// The loop decides.
    Deciding,
    Sending(Answering, Option<Box<(Upgrade, Question)>>),
    Answering(Box<Reply>),
    Streaming(Box<Streams>),
    /// Nothing more comes; what came is on its way to the client.
    Over,
}

impl Session {
    pub fn new(opening: Opening, reach: Reach) -> Self {
        let mut session = Self {
            reach,
            line: opening.line,
            head: None,
            upgrade: None,
            client: Some(opening.upgrade),
            answer: Answer::new(opening.answer),
            answered: None,
            whole: None,
            state: State::Reading {
                body: opening.body,
                content: BytesMut::new(),
                by: Box::pin(tokio::time::sleep(BODY_WITHIN)),
            },
            events: VecDeque::new(),
            patience: None,
            changes: false,
            expected: None,
            user_agent: None,
            streaming: false,
            switching: None,
        };
        match opening.head {
            Ok(head) => session.head = Some(head),
            Err(objection) => session.object(&objection),
        }
        session
    }

    /// Answers a request that gets no session.
    pub fn refused(opening: Opening, refusal: &Refusal) {
        let mut answer = Answer::new(opening.answer);
        let info = match &opening.head {
            Ok(head) => head.info.clone(),
            Err(_) => RequestInfo::default(),
        };
        let (code, headers, content) = status::refusal(refusal, &info);
        answer.whole(code, headers, content);
    }

    /// It is not served, whatever the policy says.
    fn object(&mut self, objection: &Objection) {
        self.state = State::Deciding;
        let why = match objection {
            Objection::TooLarge => Undecidable::TooLarge {
                bytes: MAX_BODY + 1,
                most: MAX_BODY,
            },
            objection => Undecidable::NotServed(format!("{}: {objection}", self.line)),
        };
        let unit = Unit {
            end: 0,
            asked: Asked::Undecidable(why),
        };
        self.events.push_back(Event::Request(Request {
            exchange: EXCHANGE,
            wire: Bytes::new(),
            units: smallvec![unit],
        }));
    }

    /// The body has come whole: now it can be decided.
    fn request(&mut self, content: Bytes) {
        self.state = State::Deciding;
        let Some(head) = self.head.take() else {
            return;
        };
        let Head {
            forwarded,
            info,
            options,
            upgrade,
            expected,
        } = *head;
        let mut wire = BytesMut::with_capacity(content.len() + 1024);
        Message::RequestHead(forwarded.to_bytes()).put(&mut wire);
        let mut rest = content.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(MAX_PIECE));
            Message::Content(piece).put(&mut wire);
        }
        if upgrade.is_some() {
            // For whoever plays the recording: streams, and what runs at their other end.
            Message::Exec(options.command.join(" ").into()).put(&mut wire);
        }
        self.changes = !matches!(forwarded.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        let asked = KubernetesAsked {
            content_type: forwarded
                .header("content-type")
                .map(|kind| kind.to_ascii_lowercase().into()),
            method: forwarded.method.as_str().into(),
            target: forwarded.target.as_str().into(),
            info,
            options,
            body: content,
            upgrade: upgrade.is_some(),
        };
        let asked = Arc::new(asked);
        let mut headers = forwarded.headers.into_iter();
        self.user_agent = headers.find_map(|(name, value)| {
            let names = name == header::USER_AGENT.as_str();
            names.then_some(value)
        });
        self.upgrade = upgrade;
        self.expected = Some((expected, asked.clone()));
        let unit = Unit {
            end: wire.len(),
            asked: Asked::Kubernetes(asked),
        };
        self.events.push_back(Event::Request(Request {
            exchange: EXCHANGE,
            wire: wire.freeze(),
            units: smallvec![unit],
        }));
    }

    /// Sends what was permitted: what was parsed, and the headers by which hoop is known.
    fn send(&mut self, mut wire: Bytes) -> Result<(), SessionError> {
        let broken = || SessionError::ClientProtocol("a request does not decode".into());
        let (mut head, mut content) = (None, BytesMut::new());
        while let Some(message) = Message::take(&mut wire).map_err(|_| broken())? {
            match message {
                Message::RequestHead(bytes) => head = RequestHead::read(&bytes).ok(),
                Message::Content(piece) => content.extend_from_slice(&piece),
                _ => {}
            }
        }
        let head = head.ok_or_else(broken)?;
        let mut request = HttpRequest::new(Full::new(content.freeze()));
        *request.method_mut() = head.method.parse().map_err(|_| broken())?;
        *request.uri_mut() = head.target.parse().map_err(|_| broken())?;
        let headers = request.headers_mut();
        for (name, value) in &head.headers {
            let name: HeaderName = name.parse().map_err(|_| broken())?;
            headers.append(name, HeaderValue::from_bytes(value).map_err(|_| broken())?);
        }
        for (name, value) in self.reach.added.drain(..) {
            headers.append(name, value);
        }
        let streams = match self.upgrade.take() {
            None => None,
            Some(upgrade) => {
                let (question, more) = upgrade.ask(nonce());
                headers.extend(more);
                Some(Box::new((upgrade, question)))
            }
        };
        let sending = self.reach.server.send(request, streams.is_some());
        self.state = State::Sending(sending, streams);
        Ok(())
    }

    /// The server has answered, or cannot be asked.
    fn answered(&mut self, answered: Result<Response<Incoming>, ServerError>) {
        let streams = match std::mem::replace(&mut self.state, State::Over) {
            State::Sending(_, streams) => streams,
            _ => None,
        };
        let Some((expected, asked)) = self.expected.take() else {
            return;
        };
        let reply = match (answered, streams) {
            (Err(error), _) => Reply::failed(StatusCode::BAD_GATEWAY, &error.0),
            (Ok(response), Some(streams))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
            {
                match self.stream(response, *streams, &asked) {
                    Ok(()) => return,
                    Err(why) => Reply::failed(StatusCode::BAD_GATEWAY, &why),
                }
            }
            (Ok(response), _) if response.status().is_informational() => {
                let why = "the API server turned the request into another protocol";
                Reply::failed(StatusCode::BAD_GATEWAY, why)
            }
            (Ok(response), _) => Reply::new(response, expected, self.reach.max_document),
        };
        self.state = State::Answering(Box::new(reply));
    }

    /// The server agrees to streams.
    fn stream(
        &mut self,
        mut response: Response<Incoming>,
        (upgrade, question): (Upgrade, Question),
        asked: &KubernetesAsked,
    ) -> Result<(), String> {
        let chosen = question.chosen(response.headers()).map_err(|error| {
            format!("the API server agrees to no streams that hoop knows: {error}")
        })?;
        let headers = upgrade.answer(chosen).map_err(|error| error.to_string())?;
        let server = hyper::upgrade::on(&mut response);
        let client = self.client.take().ok_or("the connection has no streams")?;
        let streams = Streams::new(chosen, asked, client, server)?;
        self.events.push_back(reply::switched(&headers));
        self.switching = Some(headers);
        self.state = State::Streaming(Box::new(streams));
        Ok(())
    }

    fn next_event(&mut self, gate: Gate) -> Option<Event> {
        let open = gate.client == ClientGate::Open;
        let passes = |event: &Event| match event {
            Event::Request(_) | Event::Bulk(..) => open,
            Event::Replies(_) => gate.upstream,
            _ => true,
        };
        let at = self.events.iter().position(passes)?;
        self.events.remove(at)
    }

    /// Passes on what the loop has let through.
    fn tell_client(&mut self, message: Message) -> Result<(), SessionError> {
        if let State::Streaming(streams) = &mut self.state {
            return match message {
                Message::ResponseHead(_) => {
                    if let Some(headers) = self.switching.take() {
                        self.answer.switch(headers);
                    }
                    Ok(())
                }
                message => streams.tell_client(message),
            };
        }
        match message {
            Message::ResponseHead(bytes) => {
                let head = ResponseHead::read(&bytes).map_err(|_| unreadable())?;
                let (status, headers) = reply::parts(&head)?;
                match self.streaming {
                    true => self.answer.begin(status, headers),
                    false => self.answered = Some((status, headers)),
                }
            }
            Message::Document(bytes) if self.streaming => {
                self.answer.push(bytes);
                self.answer.push(Bytes::from_static(b"\n"));
            }
            Message::Document(bytes) => self.whole = Some(bytes),
            Message::Output(bytes) | Message::Described(bytes) => self.answer.push(bytes),
            Message::Closed => {
                match self.answered.take() {
                    Some((status, headers)) => {
                        let content = self.whole.take().unwrap_or_default();
                        self.answer.whole(status, headers, content);
                    }
                    None => self.answer.end(false),
                }
                self.state = State::Over;
            }
            Message::Failed => {
                self.answer.end(true);
                self.state = State::Over;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Session {
    /// Where nothing was answered yet.
    fn say(&mut self, code: StatusCode, words: &str) {
        if self.answer.is_open() {
            let (headers, content) = status::failure(code, words);
            self.answer.whole(code, headers, content);
        }
    }

    /// What waits may go on its way, if the client takes it.
    async fn flush(&mut self) {
        let flushed = async {
            while !self.answer.is_done() {
                if self.answer.drive(1).await.is_err() {
                    return;
                }
            }
        };
        // A client that takes nothing needs no more.
        let _ = tokio::time::timeout(LAST_WORDS, flushed).await;
    }

    fn read(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let State::Reading { content, .. } = &mut self.state else {
            return;
        };
        match frame {
            None => {
                let content = content.split().freeze();
                self.request(content);
            }
            Some(Ok(frame)) => {
                // Trailers belong to no request that an API server knows.
                let data = frame.into_data().unwrap_or_default();
                match content.len() + data.len() > MAX_BODY {
                    true => self.object(&Objection::TooLarge),
                    false => content.extend_from_slice(&data),
                }
            }
            Some(Err(error)) => self.object(&Objection::Body(error.to_string())),
        }
    }

    fn heard(&mut self, heard: Heard) {
        self.streaming |= heard.streaming;
        self.events.push_back(Event::Replies(heard.replies));
        if heard.end {
            self.state = State::Over;
        }
    }

    fn moved(&mut self, moved: Moved) -> Option<Event> {
        match moved {
            Moved::Nothing => None,
            Moved::Typed(bulk) => Some(Event::Bulk(EXCHANGE, bulk)),
            Moved::Printed(replies) => Some(Event::Replies(replies)),
            Moved::ClientGone => Some(Event::HalfClosed(Side::Client)),
            Moved::Over => Some(Event::Closed),
        }
    }
}

fn last_words(why: &End) -> (StatusCode, String) {
    let (code, why) = match why {
        End::Finished => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the request was ended".into(),
        ),
        End::Identity(why) => (
            StatusCode::FORBIDDEN,
            format!("the agent's identity no longer holds: {why}"),
        ),
        End::Killed(why) => (
            StatusCode::FORBIDDEN,
            format!("an operator ended this request: {why}"),
        ),
        End::Drained => (
            StatusCode::SERVICE_UNAVAILABLE,
            "hoop is stopping; try again in a moment".into(),
        ),
        End::Unrecordable(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the request cannot be recorded: {why}"),
        ),
        End::Broken(why) => (StatusCode::BAD_GATEWAY, why.clone()),
    };
    (code, why)
}

fn unreadable() -> SessionError {
    SessionError::UpstreamProtocol("an answer does not decode".into())
}

fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    // It is compared with nothing but its own echo: zeros would do no harm.
    let _ = SystemRandom::new().fill(&mut nonce);
    nonce
}
