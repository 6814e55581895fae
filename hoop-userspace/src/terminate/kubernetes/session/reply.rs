//! The server's answer, read as what it is: whole where it is masked whole, as it comes otherwise.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::EXCHANGE;
use crate::terminate::kubernetes::head::{Expected, answers};
use crate::terminate::kubernetes::status;
use crate::terminate::{Event, HttpPart, Part, PartKind, Printed, Replies, SessionError};
use crate::wire::kubernetes::documents::Documents;
use crate::wire::kubernetes::http::ResponseHead;
use crate::wire::ssh::channel::{MAX_BODY, Message};

/// What was heard of the server, for the loop.
pub(super) struct Heard {
    pub replies: Replies,
    /// The answer passes as it comes.
    pub streaming: bool,
    pub end: bool,
}

pub(super) struct Reply {
    /// Until it has been told.
    head: Option<ResponseHead>,
    body: Option<Incoming>,
    how: How,
    most: usize,
}

enum How {
    /// One object, so far.
    Whole(BytesMut),
    Objects(Documents),
    Text,
    Description,
    /// Nothing of it is kept.
    Nothing,
}

impl Reply {
    pub fn new(response: Response<Incoming>, expected: Expected, most: usize) -> Self {
        let (parts, body) = response.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let json = is_json(kind);
        let text = kind.trim_start().to_ascii_lowercase().starts_with("text/");
        let success = parts.status.is_success();
        let empty = hyper::body::Body::is_end_stream(&body);
        let how = match expected {
            _ if empty => How::Nothing,
            // Why a log, a watch or a schema is not there.
            _ if json && !success => How::Whole(BytesMut::new()),
            Expected::Description => How::Description,
            Expected::Document if json => How::Whole(BytesMut::new()),
            Expected::Documents if json => How::Objects(Documents::new(most)),
            // Errors of what stands before an API server come as text.
            Expected::Text => How::Text,
            _ if text => How::Text,
            Expected::Document | Expected::Documents => {
                let why = format!(
                    "the API server answered in {kind:?}, which hoop cannot read, and so not mask"
                );
                return Self::failed(StatusCode::BAD_GATEWAY, &why);
            }
        };
        Self {
            head: Some(head(parts.status, &parts.headers)),
            body: Some(body),
            how,
            most,
        }
    }

    /// An answer of hoop's own, since the server gave none.
    pub fn failed(code: StatusCode, why: &str) -> Self {
        let (headers, content) = status::failure(code, why);
        Self {
            head: Some(head(code, &headers)),
            body: None,
            how: How::Whole(BytesMut::from(&*content)),
            most: content.len(),
        }
    }

    /// What comes next. Cancel-safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            let mut told = Telling::default();
            let streams = !matches!(self.how, How::Whole(_) | How::Nothing);
            if streams && let Some(head) = self.head.take() {
                told.head(&head);
                return told.heard(true, false);
            }
            let Some(body) = &mut self.body else {
                return self.end(told);
            };
            match body.frame().await {
                None => return self.end(told),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if let Err(why) = self.take(&data, &mut told) {
                        return self.give_up(told, &why);
                    }
                    if !told.parts.is_empty() {
                        return told.heard(streams, false);
                    }
                }
                Some(Err(error)) => {
                    let why = format!("the API server broke off its answer: {error}");
                    return self.give_up(told, &why);
                }
            }
        }
    }

    fn take(&mut self, data: &Bytes, told: &mut Telling) -> Result<(), String> {
        match &mut self.how {
            How::Whole(content) => {
                if content.len() + data.len() > self.most {
                    return Err(format!(
                        "the answer is larger than the resource's max_message of {} bytes; ask for less at once (limit=500)",
                        self.most
                    ));
                }
                content.extend_from_slice(data);
            }
            How::Objects(documents) => {
                documents.push(data);
                while let Some(document) = documents.take().map_err(|e| e.to_string())? {
                    told.put(
                        &Message::Document(document),
                        PartKind::Http(HttpPart::Document),
                    );
                }
            }
            How::Text => told.pieces(data, Message::Output, || PartKind::Output(Printed::Text)),
            How::Description => told.pieces(data, Message::Described, || {
                PartKind::Http(HttpPart::Description)
            }),
            How::Nothing => {}
        }
        Ok(())
    }

    /// All of it is there.
    fn end(&mut self, mut told: Telling) -> Heard {
        let streams = !matches!(self.how, How::Whole(_) | How::Nothing);
        if let Some(head) = self.head.take() {
            told.head(&head);
        }
        match &mut self.how {
            How::Whole(content) if !content.is_empty() => {
                let document = Message::Document(content.split().freeze());
                told.put(&document, PartKind::Http(HttpPart::Document));
            }
            How::Objects(documents) => {
                let whole = documents.is_empty();
                if !whole {
                    let why = "the API server broke off its answer within an object";
                    return self.give_up(told, why);
                }
            }
            _ => {}
        }
        told.put(&Message::Closed, PartKind::Done);
        told.heard(streams, true)
    }

    /// It can't go on. What the client has of it must not pass for all.
    fn give_up(&mut self, mut told: Telling, why: &str) -> Heard {
        tracing::debug!(why, "an answer was given up");
        self.body = None;
        if self.head.take().is_some() {
            // Nothing was said yet.
            let (headers, content) = status::failure(StatusCode::BAD_GATEWAY, why);
            let mut told = Telling::default();
            told.head(&head(StatusCode::BAD_GATEWAY, &headers));
            told.put(
                &Message::Document(content),
                PartKind::Http(HttpPart::Document),
            );
            told.put(&Message::Closed, PartKind::Done);
            return told.heard(false, true);
        }
        told.put(&Message::Failed, PartKind::Done);
        told.heard(true, true)
    }
}

/// A batch of replies as it is made.
#[derive(Default)]
struct Telling {
    wire: BytesMut,
    parts: Vec<Part>,
}

impl Telling {
    fn head(&mut self, head: &ResponseHead) {
        let head = Message::ResponseHead(head.to_bytes());
        self.put(&head, PartKind::Http(HttpPart::Head));
    }

    fn put(&mut self, message: &Message, kind: PartKind) {
        message.put(&mut self.wire);
        self.parts.push(Part {
            exchange: EXCHANGE,
            unit: 0,
            end: self.wire.len(),
            kind,
        });
    }

    fn pieces(
        &mut self,
        data: &Bytes,
        message: impl Fn(Bytes) -> Message,
        kind: impl Fn() -> PartKind,
    ) {
        let mut rest = data.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(MAX_BODY));
            self.put(&message(piece), kind());
        }
    }

    fn heard(self, streaming: bool, end: bool) -> Heard {
        let replies = Replies {
            wire: self.wire.freeze(),
            parts: self.parts,
        };
        Heard {
            replies,
            streaming,
            end,
        }
    }
}

/// What the client is told when its connection becomes streams.
pub(super) fn switched(headers: &HeaderMap) -> Event {
    let mut told = Telling::default();
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| {
        (
            name.as_str().to_owned(),
            Bytes::copy_from_slice(value.as_bytes()),
        )
    });
    told.head(&ResponseHead {
        status: StatusCode::SWITCHING_PROTOCOLS.as_u16(),
        headers: headers.collect(),
    });
    Event::Replies(told.heard(true, false).replies)
}

fn head(status: StatusCode, headers: &HeaderMap) -> ResponseHead {
    let known = headers.iter().filter(|(name, _)| answers(name));
    let headers = known.map(|(name, value)| {
        (
            name.as_str().to_owned(),
            Bytes::copy_from_slice(value.as_bytes()),
        )
    });
    ResponseHead {
        status: status.as_u16(),
        headers: headers.collect(),
    }
}

/// A head as it is sent.
pub(super) fn parts(head: &ResponseHead) -> Result<(StatusCode, HeaderMap), SessionError> {
    let broken = || SessionError::UpstreamProtocol("the head of an answer is malformed".into());
    let status = StatusCode::from_u16(head.status).map_err(|_| broken())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let name: HeaderName = name.parse().map_err(|_| broken())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| broken())?;
        headers.append(name, value);
    }
    Ok((status, headers))
}

/// `application/json`, with any parameters, and its kin.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
