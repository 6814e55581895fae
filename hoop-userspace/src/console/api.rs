//! What programs send here that nobody has signed in for (issuers, Slack), and the description of
//! what people's programs may ask.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{self, HeaderMap, HeaderName};
use ::http::request::Parts;
use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::respond::{self, Answer};
use super::serve::Server;
use crate::handover::console::{Denied, Wish};

/// The whole of a request that is passed on, there and back.
const PASSED_WITHIN: Duration = Duration::from_secs(12);
const MAX_ANSWER: usize = 64 << 10;

/// What an issuer's report brings with it.
const PASSED: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-okta-verification-challenge"),
];

/// Passes a report of an issuer's on to the worker, which knows who it takes something from.
pub async fn pass_on(server: &Arc<Server>, head: &Parts, body: Bytes) -> Answer {
    match tokio::time::timeout(PASSED_WITHIN, passed(server, head, body)).await {
        Ok(Ok(answer)) => answer,
        failed => {
            if let Ok(Err(error)) = failed {
                tracing::debug!(error, "a report of an issuer could not be passed on");
            }
            respond::plain(StatusCode::SERVICE_UNAVAILABLE, "try again\n")
        }
    }
}

async fn passed(server: &Arc<Server>, head: &Parts, body: Bytes) -> Result<Answer, String> {
    let (_, socket) = server
        .link
        .ask_for_file(None, Wish::Worker)
        .await
        .map_err(|denied| denied.to_string())?;
    let socket = UnixStream::from(socket.ok_or("the keeper sent no socket")?);
    socket
        .set_nonblocking(true)
        .map_err(|error| error.to_string())?;
    let socket = tokio::net::UnixStream::from_std(socket).map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(&head.method)
        .uri(head.uri.path())
        .header(header::HOST, "worker");
    for name in PASSED {
        if let Some(value) = head.headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let request = request
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    driving.abort();
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let mut made = Response::new(respond::Body::Whole(Some(body)));
    *made.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        made.headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(made)
}

/// A button in Slack: the keeper checks that it is Slack who says so, and whom it names.
pub async fn slack(server: &Arc<Server>, head: &Parts, body: Bytes) -> Answer {
    let text = |name: &str| text(&head.headers, name);
    let wish = Wish::Slack {
        timestamp: text("x-slack-request-timestamp"),
        signature: text("x-slack-signature"),
        body: body.to_vec(),
    };
    match server.link.ask(None, wish).await {
        Ok(pressed) => {
            if let Some(url) = pressed.get("response_url").and_then(Value::as_str) {
                let (url, message) = (url.to_owned(), replaced(&pressed));
                // Slack waits for three seconds, and then shows a warning.
                tokio::spawn(async move {
                    if let Err(error) = replace(&url, &message).await {
                        tracing::warn!(error, "a message in Slack could not be replaced");
                    }
                });
            }
            respond::plain(StatusCode::OK, "")
        }
        Err(Denied::Failed(_)) => respond::plain(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
        Err(_) => respond::plain(StatusCode::UNAUTHORIZED, "not taken\n"),
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// What the message says then: everybody sees what became of the question, and whoever pressed in
/// vain alone why.
fn replaced(pressed: &Value) -> Value {
    let word = |path: &str| {
        pressed
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if let Some(problem) = pressed.get("problem").and_then(Value::as_str) {
        let text = format!("{} stands as it did: {problem}", word("/question"));
        return json!({ "response_type": "ephemeral", "replace_original": false, "text": text });
    }
    let needs = pressed.pointer("/voted/needs").and_then(Value::as_array);
    let needs: Vec<&str> = needs
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let by = pressed
        .pointer("/voted/approved_by")
        .and_then(Value::as_array);
    let by: Vec<&str> = by.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!(
        "*{}* is {}\n{}",
        word("/question"),
        word("/voted/state"),
        escaped(word("/voted/message"))
    );
    if !by.is_empty() {
        text = format!("{text}\napproved by {}", escaped(&by.join(", ")));
    }
    if !needs.is_empty() {
        text = format!("{text}\nstill needs {}", escaped(&needs.join("; ")));
    }
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
    let mut blocks = vec![section];
    if word("/voted/state") == "pending" {
        blocks.push(crate::ask::notice::buttons(word("/button")));
    }
    json!({ "replace_original": true, "text": text, "blocks": blocks })
}

/// As Slack wants it, so that no text is a link or a mention.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

async fn replace(url: &str, message: &Value) -> Result<(), String> {
    let url = url::Url::parse(url).map_err(|error| error.to_string())?;
    // Slack signed it; other places are asked nothing all the same.
    let ours = url.scheme() == "https" && url.host_str() == Some("hooks.slack.com");
    if !ours {
        return Err(format!(
            "{} is not Slack's",
            url.host_str().unwrap_or_default()
        ));
    }
    let client = crate::identify::https(None)?;
    let sent = client
        .post(url)
        .header("content-type", "application/json")
        .body(message.to_string())
        .send()
        .await
        .map_err(|error| crate::identify::chain(&error.without_url()))?;
    match sent.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answers {}", sent.status())),
    }
}

/// OpenAPI 3.1 of everything below `/api/v1`, from the table of routes.
pub fn document() -> Value {
    super::document::document()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_slack_is_replaced_by_what_became_of_the_question() {
        let voted = |state: &str, needs: Value| {
            json!({
                "question": "k3v9t0m2qf", "button": "k3v9t0m2qf.00",
                "voted": {
                    "state": state, "needs": needs, "approved_by": ["ada"],
                    "message": "bot needs <!channel> & more",
                },
            })
        };
        let done = replaced(&voted("used", json!([])));
        assert_eq!(done["replace_original"], true);
        assert_eq!(done["blocks"].as_array().unwrap().len(), 1);
        let text = done["text"].as_str().unwrap();
        assert!(
            text.contains("bot needs &lt;!channel&gt; &amp; more\napproved by ada"),
            "{text}"
        );
        let open = replaced(&voted("pending", json!(["security"])));
        assert_eq!(open["blocks"][1]["elements"].as_array().unwrap().len(), 2);
        let vain = replaced(&json!({ "question": "q", "problem": "one person counts once" }));
        assert_eq!(vain["response_type"], "ephemeral");
        assert_eq!(vain["replace_original"], false);
    }
}
