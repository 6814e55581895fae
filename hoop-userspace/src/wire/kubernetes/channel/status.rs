//! What is said on the error and the resize stream: how a command ended, and a terminal's size.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::negotiate::Protocol;
use super::{ChannelError, MAX_WHOLE, Stream};

/// As `metav1.Status` names it when the command has ended with another code than 0.
const NON_ZERO: &str = "NonZeroExitCode";
/// The cause whose message is the code.
const EXIT_CODE: &str = "ExitCode";
/// One size is at most this long: `{"Width":65535,"Height":65535}` and white space.
const MAX_SIZE: usize = 1024;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// With that code, which is not 0.
    Exit(u8),
    /// It did not run, or not to its end.
    Failure {
        reason: String,
        message: String,
    },
    /// The stream ended without a word. client-go takes this for success.
    Unsaid,
}

#[derive(Deserialize, Serialize)]
struct Status {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(
        default,
        rename = "apiVersion",
        skip_serializing_if = "Option::is_none"
    )]
    api_version: Option<String>,
    metadata: Option<Metadata>,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Default, Deserialize, Serialize)]
struct Metadata {}

#[derive(Deserialize, Serialize)]
struct Details {
    #[serde(default)]
    causes: Option<Vec<Cause>>,
}

#[derive(Deserialize, Serialize)]
struct Cause {
    /// The type of a cause is called so on the wire.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// Reads all bytes of an error stream.
///
/// A status that says failure with a code that is missing or no byte is an error, as it is to
/// client-go.
pub fn outcome(protocol: Protocol, bytes: &[u8]) -> Result<Outcome, ChannelError> {
    if bytes.is_empty() {
        return Ok(Outcome::Unsaid);
    }
    if matches!(protocol, Protocol::SpdyV3 | Protocol::SpdyV2) {
        return Ok(Outcome::Failure {
            reason: String::new(),
            message: String::from_utf8_lossy(bytes).into_owned(),
        });
    }
    let status: Status =
        serde_json::from_slice(bytes).map_err(|_| ChannelError::Status("it is no JSON of one"))?;
    match status.status.as_str() {
        "Success" => Ok(Outcome::Success),
        "Failure" if status.reason == NON_ZERO => {
            let causes = status.details.and_then(|details| details.causes);
            let mut causes = causes.into_iter().flatten();
            let code = causes.find(|cause| cause.reason == EXIT_CODE);
            let code = code.ok_or(ChannelError::Status("there is no exit code in it"))?;
            let code = code.message.parse();
            code.map(Outcome::Exit)
                .map_err(|_| ChannelError::Status("the exit code is no byte"))
        }
        "Failure" => Ok(Outcome::Failure {
            reason: status.reason,
            message: status.message,
        }),
        _ => Err(ChannelError::Status("it is neither success nor failure")),
    }
}

/// What the server says of a command that ended with 0.
pub fn success() -> Bytes {
    encode("Success", None, "", String::new(), &[])
}

/// What the server says of a command that ended with another code.
pub fn exited(code: u8) -> Bytes {
    let message = format!(
        "command terminated with non-zero exit code: command terminated with exit code {code}"
    );
    let cause = (EXIT_CODE, code.to_string());
    encode("Failure", None, NON_ZERO, message, &[cause])
}

/// A failure in the words of whoever refuses; `code` is an HTTP status, `causes` are type and
/// message of each.
pub fn failed(code: u16, reason: &str, message: &str, causes: &[(&str, &str)]) -> Bytes {
    let own = causes
        .iter()
        .map(|(kind, text)| (*kind, (*text).to_owned()));
    let own: Vec<(&str, String)> = own.collect();
    encode("Failure", Some(code), reason, message.to_owned(), &own)
}

fn encode(
    status: &str,
    code: Option<u16>,
    reason: &str,
    message: String,
    causes: &[(&str, String)],
) -> Bytes {
    let own = |(kind, message): &(&str, String)| Cause {
        reason: (*kind).to_owned(),
        message: message.clone(),
    };
    let causes: Vec<Cause> = causes.iter().map(own).collect();
    let status = Status {
        kind: None,
        api_version: None,
        metadata: Some(Metadata {}),
        status: status.to_owned(),
        message,
        reason: reason.to_owned(),
        details: (!causes.is_empty()).then_some(Details {
            causes: Some(causes),
        }),
        code,
    };
    // Texts and numbers always are JSON.
    serde_json::to_vec(&status).unwrap_or_default().into()
}

/// Collects an error stream, at most [`MAX_WHOLE`] bytes.
#[derive(Debug, Default)]
pub struct Collected(Vec<u8>);

impl Collected {
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        if self.0.len() + bytes.len() > MAX_WHOLE {
            return Err(ChannelError::TooLarge(Stream::Error));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    #[serde(rename = "Width")]
    pub width: u16,
    #[serde(rename = "Height")]
    pub height: u16,
}

impl Size {
    /// Go reads names whatever their case, and what is missing as 0.
    fn of(object: BTreeMap<String, u16>) -> Result<Self, ChannelError> {
        let mut size = Self::default();
        for (name, number) in object {
            match name.to_ascii_lowercase().as_str() {
                "width" => size.width = number,
                "height" => size.height = number,
                _ => return Err(ChannelError::Resize),
            }
        }
        Ok(size)
    }

    pub fn to_json(self) -> Bytes {
        // Two numbers always are JSON.
        serde_json::to_vec(&self).unwrap_or_default().into()
    }
}

/// Reads sizes from a resize stream: JSON objects one after the other, in any pieces.
#[derive(Debug, Default)]
pub struct Resizes(Vec<u8>);

impl Resizes {
    /// The sizes that `bytes` complete. What is longer than any size is an error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Size>, ChannelError> {
        self.0.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut values = serde_json::Deserializer::from_slice(&self.0).into_iter();
        let taken = loop {
            match values.next() {
                Some(Ok(object)) => sizes.push(Size::of(object)?),
                Some(Err(why)) if !why.is_eof() => return Err(ChannelError::Resize),
                _ => break values.byte_offset(),
            }
        };
        self.0.drain(..taken.min(self.0.len()));
        match self.0.len() > MAX_SIZE {
            true => Err(ChannelError::Resize),
            false => Ok(sizes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_servers_write_is_read() {
        // The kubelet's streaming library and the API server's translator.
        for (text, expected) in [
            (
                &br#"{"metadata":{},"status":"Success"}"#[..],
                Outcome::Success,
            ),
            (br#"{"status":"Success"}"#, Outcome::Success),
            (
                br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
                Outcome::Exit(3),
            ),
            (
                br#"{"metadata":{},"status":"Failure","message":"Internal error occurred: error executing command in container: no such file","reason":"InternalError","details":{"causes":[{"message":"no such file"}]},"code":500}"#,
                Outcome::Failure {
                    reason: "InternalError".into(),
                    message: "Internal error occurred: error executing command in container: no such file".into(),
                },
            ),
            (b"", Outcome::Unsaid),
        ] {
            assert_eq!(outcome(Protocol::V5, text), Ok(expected.clone()));
            assert_eq!(outcome(Protocol::SpdyV4, text), Ok(expected));
        }
        assert_eq!(
            outcome(Protocol::SpdyV3, b"exit status 3"),
            Ok(Outcome::Failure {
                reason: String::new(),
                message: "exit status 3".into()
            })
        );
    }

    #[test]
    fn what_client_go_takes_for_an_error_is_one() {
        let why = |text: &str| outcome(Protocol::V4, text.as_bytes()).unwrap_err();
        for (text, expected) in [
            ("exit status 3", "it is no JSON of one"),
            ("{}", "it is neither success nor failure"),
            (
                r#"{"status":"Failure","reason":"NonZeroExitCode"}"#,
                "there is no exit code in it",
            ),
            (
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"256"}]}}"#,
                "the exit code is no byte",
            ),
        ] {
            assert_eq!(why(text), ChannelError::Status(expected));
        }
    }

    #[test]
    fn what_is_written_is_what_the_server_would_write() {
        assert_eq!(success(), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(
            exited(7),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#
        );
        let refusal = failed(403, "Forbidden", "no \"x\"", &[("hoop", "{}")]);
        assert_eq!(
            refusal,
            r#"{"metadata":{},"status":"Failure","message":"no \"x\"","reason":"Forbidden","details":{"causes":[{"reason":"hoop","message":"{}"}]},"code":403}"#
        );
        assert_eq!(
            outcome(Protocol::V4, &refusal),
            Ok(Outcome::Failure {
                reason: "Forbidden".into(),
                message: "no \"x\"".into()
            })
        );
        for code in 1..=255 {
            assert_eq!(
                outcome(Protocol::V5, &exited(code)),
                Ok(Outcome::Exit(code))
            );
        }
    }

    #[test]
    fn an_error_stream_is_bounded() {
        let mut collected = Collected::default();
        collected.push(&vec![b'x'; MAX_WHOLE]).unwrap();
        assert_eq!(
            collected.push(b"x"),
            Err(ChannelError::TooLarge(Stream::Error))
        );
        assert_eq!(collected.bytes().len(), MAX_WHOLE);
    }

    #[test]
    fn sizes_are_bounded_and_nothing_else_passes() {
        let mut resizes = Resizes::default();
        assert_eq!(resizes.push(&[b' '; 4 * MAX_SIZE]), Ok(vec![]));
        let twice = resizes.push(b"{\"Width\":80,\"Height\":24}\n{\"height\":1,\"width\":2}");
        let sizes = vec![
            Size {
                width: 80,
                height: 24,
            },
            Size {
                width: 2,
                height: 1,
            },
        ];
        assert_eq!(twice, Ok(sizes));
        for bad in [
            "[1]",
            "{\"Width\":70000}",
            "{\"Width\":-1}",
            "{\"X\":1}",
            "7",
            "nul?",
        ] {
            let mut resizes = Resizes::default();
            assert_eq!(resizes.push(bad.as_bytes()), Err(ChannelError::Resize));
        }
        let mut endless = Resizes::default();
        let mut text = b"{".to_vec();
        text.resize(MAX_SIZE + 1, b' ');
        assert_eq!(endless.push(&text), Err(ChannelError::Resize));
    }

    proptest! {
        #[test]
        fn sizes_in_any_cut(sizes: Vec<(u16, u16)>, chunk in 1usize..40) {
            let sizes: Vec<Size> = sizes.into_iter().map(|(width, height)| Size { width, height }).collect();
            let text: Vec<u8> = sizes.iter().flat_map(|size| size.to_json()).collect();
            let mut resizes = Resizes::default();
            let mut found = Vec::new();
            for piece in text.chunks(chunk) {
                found.extend(resizes.push(piece).unwrap());
            }
            prop_assert_eq!(found, sizes);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = outcome(Protocol::V5, &bytes);
            let _ = Resizes::default().push(&bytes);
        }
    }
}
