//! What a recorded request to an API server asked for.

use bytes::{Bytes, BytesMut};

use super::asked::{KubernetesAsked, NO_CONTENT_TYPE, SHOWN, WITH_STREAMS, digest};
use crate::terminate::Asked;
use crate::terminate::again::{Again, Lost};
use crate::wire::kubernetes::http::RequestHead;
use crate::wire::kubernetes::request;
use crate::wire::ssh::channel::Message;

/// A request that was permitted is one unit: its head, its content, and a mark of streams.
pub(in crate::terminate) fn request(kept: &[u8], whole: bool) -> Again {
    if !whole {
        return Again::Lost(Lost::Cut);
    }
    let mut rest = Bytes::copy_from_slice(kept);
    let (mut head, mut content, mut upgrade) = (None, BytesMut::new(), false);
    loop {
        match Message::take(&mut rest) {
            Ok(Some(Message::RequestHead(bytes))) => head = RequestHead::read(&bytes).ok(),
            Ok(Some(Message::Content(piece))) => content.extend_from_slice(&piece),
            Ok(Some(Message::Exec(_))) => upgrade = true,
            Ok(Some(_)) => return Again::Lost(Lost::Words),
            Ok(None) if rest.is_empty() => break,
            Ok(None) | Err(_) => return Again::Lost(Lost::Redacted),
        }
    }
    let Some(head) = head else {
        return Again::Lost(Lost::Redacted);
    };
    let kind = head.header("content-type").map(str::to_ascii_lowercase);
    let line = (head.method.as_str(), head.target.as_str());
    asked(line, kind.as_deref(), content.freeze(), upgrade)
}

/// By the text of a refusal or a question, which is that of [`KubernetesAsked::text`].
pub(in crate::terminate) fn text(text: &str) -> Again {
    let (line, mut rest) = cut(text);
    let Some(line) = line.split_once(' ') else {
        return Again::Lost(Lost::Words);
    };
    let upgrade = cut(rest).0 == WITH_STREAMS;
    if upgrade {
        rest = cut(rest).1;
    }
    if rest.is_empty() {
        return asked(line, None, Bytes::new(), upgrade);
    }
    let (kind, rest) = cut(rest);
    let (told, body) = cut(rest);
    let bytes = told.split_once(" bytes, SHA-256 ");
    let bytes = bytes.and_then(|(bytes, digest)| Some((bytes.parse::<usize>().ok()?, digest)));
    let Some((bytes, expected)) = bytes else {
        return Again::Lost(Lost::Redacted);
    };
    // What was not shown is not there, and what a mask changed is another body.
    if body.len() != bytes || digest(body.as_bytes()) != expected {
        return Again::Lost(match bytes > SHOWN {
            true => Lost::Cut,
            false => Lost::Redacted,
        });
    }
    let kind = Some(kind).filter(|kind| *kind != NO_CONTENT_TYPE);
    asked(line, kind, Bytes::copy_from_slice(body.as_bytes()), upgrade)
}

/// A line, and what follows it.
fn cut(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

fn asked(
    (method, target): (&str, &str),
    content_type: Option<&str>,
    body: Bytes,
    upgrade: bool,
) -> Again {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Ok(read) = request::read(method, path, query) else {
        return Again::Lost(Lost::Redacted);
    };
    Again::Asked(Asked::Kubernetes(
        KubernetesAsked {
            method: method.into(),
            target: target.into(),
            info: read.info,
            options: read.options,
            content_type: content_type.map(Into::into),
            body,
            upgrade,
        }
        .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(again: Again) -> String {
        match again {
            Again::Asked(Asked::Kubernetes(asked)) => asked.text().text.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn of(target: &str, body: &'static str, upgrade: bool) -> KubernetesAsked {
        let kind = (!body.is_empty()).then_some("application/json");
        let line = ("POST", target);
        match asked(line, kind, Bytes::from_static(body.as_bytes()), upgrade) {
            Again::Asked(Asked::Kubernetes(asked)) => std::sync::Arc::unwrap_or_clone(asked),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_is_read_as_what_it_was_made_of() {
        let pods = "/api/v1/namespaces/shop/pods";
        for (target, body, upgrade) in [
            (pods, "", false),
            (pods, "{\"kind\":\"Pod\"}", false),
            (pods, "{\n\"kind\":\"Pod\"\n}\n", false),
            ("/api/v1/namespaces/shop/pods/a/exec?command=ls", "", true),
        ] {
            let was = of(target, body, upgrade).text().text.to_string();
            assert_eq!(told(text(&was)), was);
        }
        let changed = of(pods, "{\"a\":1}", false).text().text.replace('1', "2");
        assert!(matches!(text(&changed), Again::Lost(Lost::Redacted)));
        let secret = of("/api/v1/namespaces/shop/secrets", "{}", false);
        let withheld = text(&secret.text().text);
        assert!(matches!(withheld, Again::Lost(Lost::Redacted)));
        assert!(matches!(text("nothing"), Again::Lost(Lost::Words)));
    }

    #[test]
    fn what_was_kept_of_a_request_is_that_request() {
        let head = RequestHead {
            method: "POST".to_owned(),
            target: "/api/v1/namespaces/shop/pods".to_owned(),
            headers: vec![("content-type".to_owned(), "Application/JSON".into())],
        };
        let mut wire = BytesMut::new();
        Message::RequestHead(head.to_bytes()).put(&mut wire);
        Message::Content(Bytes::from_static(b"{\"kind\":")).put(&mut wire);
        Message::Content(Bytes::from_static(b"\"Pod\"}")).put(&mut wire);
        let was = of(&head.target, "{\"kind\":\"Pod\"}", false);
        assert_eq!(told(request(&wire, true)), &*was.text().text);
        assert!(matches!(request(&wire, false), Again::Lost(Lost::Cut)));
        let half = &wire[..wire.len() - 1];
        assert!(matches!(request(half, true), Again::Lost(Lost::Redacted)));
        Message::Exec(Bytes::new()).put(&mut wire);
        assert!(told(request(&wire, true)).contains("with streams"));
    }
}
