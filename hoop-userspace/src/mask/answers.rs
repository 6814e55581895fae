//! Objects that an API server answers with, under the masks of its resource.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Detection;
use super::kubernetes::{KubernetesMasks, Place};
use crate::terminate::{HttpPart, PartKind, Replies};
use crate::wire::kubernetes::http::RequestHead;
use crate::wire::kubernetes::request::{self, RequestInfo};
use crate::wire::kubernetes::status::{Reason, Status};
use crate::wire::ssh::channel::{MAX_BODY, Message};

/// One session's answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    masks: Option<Arc<KubernetesMasks>>,
    /// What was asked for.
    info: RequestInfo,
}

impl Answers {
    pub fn set_masks(&mut self, masks: Option<Arc<KubernetesMasks>>) {
        self.masks = masks;
    }

    /// A request is about to be forwarded.
    pub fn begin(&mut self, wire: &Bytes) {
        if self.masks.is_some() {
            self.info = asked_for(wire).unwrap_or_default();
        }
    }

    /// Masks whole objects. One that cannot be masked does not pass: an error stands in its place.
    pub fn mask(&self, detection: Option<&Detection>, replies: Replies) -> (Replies, u64) {
        let Some(masks) = &self.masks else {
            return (replies, 0);
        };
        let document = |kind: &PartKind| matches!(kind, PartKind::Http(HttpPart::Document));
        if !replies.parts.iter().any(|part| document(&part.kind)) {
            return (replies, 0);
        }
        let mut out = BytesMut::with_capacity(replies.wire.len() + 64);
        let (mut parts, mut from, mut values) = (replies.parts, 0, 0);
        for part in &mut parts {
            let mut bytes = replies.wire.slice(from..part.end.max(from));
            from = part.end;
            if document(&part.kind) {
                while let Ok(Some(message)) = Message::take(&mut bytes) {
                    match message {
                        Message::Document(object) => {
                            let (object, found) = self.object(masks, detection, object);
                            values += found;
                            Message::Document(object).put(&mut out);
                        }
                        other => other.put(&mut out),
                    }
                }
            } else {
                out.extend_from_slice(&bytes);
            }
            part.end = out.len();
        }
        let wire = out.freeze();
        (Replies { wire, parts }, values)
    }

    fn object(
        &self,
        masks: &KubernetesMasks,
        detection: Option<&Detection>,
        object: Bytes,
    ) -> (Bytes, u64) {
        let info = &self.info;
        match masks.json(&Place::of(info), &object) {
            Ok(shown) => (shown.body.map_or(object, Bytes::from), shown.values),
            // Old clients are told in plain words why a command did not run.
            Err(_) if is_streamed(info) && !object.starts_with(b"{") => {
                let masked = detection.and_then(|d| d.masked_text(&object));
                let values = u64::from(masked.is_some());
                (masked.map_or(object, Bytes::from), values)
            }
            Err(why) => (unmaskable(&why.to_string()), 1),
        }
    }
}

fn is_streamed(info: &RequestInfo) -> bool {
    matches!(&*info.subresource, "exec" | "attach" | "portforward")
}

impl KubernetesMasks {
    /// A request as a recording keeps it: its body without what the agent would not be shown. And whether
    /// anything of it is missing there.
    pub fn recorded_request(&self, detection: Option<&Detection>, wire: &Bytes) -> (Bytes, bool) {
        let (mut rest, mut masked) = (wire.clone(), false);
        let (mut out, mut content) = (BytesMut::with_capacity(wire.len()), BytesMut::new());
        let mut asked = (RequestInfo::default(), None);
        while let Ok(Some(message)) = Message::take(&mut rest) {
            match message {
                Message::RequestHead(bytes) => {
                    if let Ok(head) = RequestHead::read(&bytes) {
                        let kind = head.header("content-type").map(str::to_owned);
                        asked = (info_of(&head).unwrap_or_default(), kind);
                    }
                    let cut = detection.and_then(|d| d.masked_cut(&bytes));
                    masked |= cut.is_some();
                    Message::RequestHead(cut.unwrap_or(bytes)).put(&mut out);
                }
                Message::Content(piece) => content.extend_from_slice(&piece),
                Message::Exec(command) => {
                    let cut = detection.and_then(|d| d.masked_cut(&command));
                    masked |= cut.is_some();
                    Message::Exec(cut.unwrap_or(command)).put(&mut out);
                }
                other => other.put(&mut out),
            }
        }
        if !content.is_empty() {
            let (info, kind) = &asked;
            let (kept, missing) = self.recorded(&Place::of(info), kind.as_deref(), &content);
            masked |= missing;
            for piece in kept.chunks(MAX_BODY) {
                Message::Content(Bytes::copy_from_slice(piece)).put(&mut out);
            }
        }
        (out.freeze(), masked)
    }
}

/// What a request asks for, by its head.
fn asked_for(wire: &Bytes) -> Option<RequestInfo> {
    let Ok(Some(Message::RequestHead(head))) = Message::take(&mut wire.clone()) else {
        return None;
    };
    info_of(&RequestHead::read(&head).ok()?)
}

fn info_of(head: &RequestHead) -> Option<RequestInfo> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target.as_str(), None),
    };
    Some(request::read(&head.method, path, query).ok()?.info)
}

/// Clients take such an object for the error that it is, whatever the answer's status.
fn unmaskable(why: &str) -> Bytes {
    let why = format!("hoop: the answer cannot be masked, so it is not shown: {why}");
    Status::failure(Reason::InternalError, why).to_json().into()
}
