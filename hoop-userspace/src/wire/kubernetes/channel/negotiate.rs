//! Which protocol a session speaks: what the headers of an upgrade offer, and what they agree on.
//!
//! hoop offers the API server what the client offered and hoop speaks, in the client's order, and
//! answers the client what the API server chose, so that both sides speak the same.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};

use super::super::websocket;

/// How SPDY clients and servers name the protocol.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Names in one offer that are looked at.
const MAX_NAMES: usize = 32;

/// The headers of an upgrade: to be taken out of a request or an answer before those of
/// [`Upgrade::ask`] or [`Upgrade::answer`] are put in.
pub const HEADERS: [HeaderName; 8] = [
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
    STREAM_PROTOCOL,
];

/// What the request is: the same name means different protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// exec and attach.
    Command,
    PortForward,
}

/// What carries the protocol after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Spdy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// exec and attach on WebSocket; can end standard input.
    V5,
    /// The same without.
    V4,
    /// The same as text.
    V4Base64,
    /// exec and attach on SPDY; a status as JSON at the end.
    SpdyV4,
    /// An error as text at the end.
    SpdyV3,
    /// The same without a terminal's size.
    SpdyV2,
    PortForwardSpdy,
    /// SPDY in WebSocket messages.
    PortForwardTunnel,
    /// Two WebSocket channels for each port of the query.
    PortForwardV4,
    PortForwardV4Base64,
}

const ALL: [Protocol; 10] = [
    Protocol::V5,
    Protocol::V4,
    Protocol::V4Base64,
    Protocol::SpdyV4,
    Protocol::SpdyV3,
    Protocol::SpdyV2,
    Protocol::PortForwardSpdy,
    Protocol::PortForwardTunnel,
    Protocol::PortForwardV4,
    Protocol::PortForwardV4Base64,
];

impl Protocol {
    /// As headers name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 | Self::SpdyV4 | Self::PortForwardV4 => "v4.channel.k8s.io",
            Self::V4Base64 | Self::PortForwardV4Base64 => "v4.base64.channel.k8s.io",
            Self::SpdyV3 => "v3.channel.k8s.io",
            Self::SpdyV2 => "v2.channel.k8s.io",
            Self::PortForwardSpdy => "portforward.k8s.io",
            Self::PortForwardTunnel => "SPDY/3.1+portforward.k8s.io",
        }
    }

    pub fn transport(self) -> Transport {
        match self {
            Self::SpdyV4 | Self::SpdyV3 | Self::SpdyV2 | Self::PortForwardSpdy => Transport::Spdy,
            Self::V5
            | Self::V4
            | Self::V4Base64
            | Self::PortForwardTunnel
            | Self::PortForwardV4
            | Self::PortForwardV4Base64 => Transport::WebSocket,
        }
    }

    fn operation(self) -> Operation {
        match self {
            Self::V5 | Self::V4 | Self::V4Base64 | Self::SpdyV4 | Self::SpdyV3 | Self::SpdyV2 => {
                Operation::Command
            }
            Self::PortForwardSpdy
            | Self::PortForwardTunnel
            | Self::PortForwardV4
            | Self::PortForwardV4Base64 => Operation::PortForward,
        }
    }

    fn known(name: &str, operation: Operation, transport: Transport) -> Option<Self> {
        ALL.into_iter().find(|known| {
            known.name() == name && known.operation() == operation && known.transport() == transport
        })
    }
}

/// Why an upgrade cannot be. Names of the other end are quoted and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    #[error("an upgrade to {0:?} is not spoken here; ask for websocket or SPDY/3.1")]
    Unknown(String),
    #[error("of the protocols {0:?} none is spoken here; ask for {1}")]
    Protocols(String, &'static str),
    #[error("the upgrade names no protocol; ask for {0}")]
    NoProtocol(&'static str),
    #[error("the WebSocket key is missing, repeated, or not 16 bytes in base64")]
    Key,
    #[error("the WebSocket version is not {}", websocket::VERSION)]
    Version,
    #[error("the server answers an upgrade to something that was not asked for")]
    OtherUpgrade,
    #[error("the server's answer to the WebSocket key is wrong")]
    Accept,
    #[error("the server uses a WebSocket extension that was not asked for")]
    Extension,
    #[error("the server chose {0:?}, which was not offered")]
    NotOffered(String),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    transport: Transport,
    /// In the client's order; never empty.
    offered: Vec<Protocol>,
    /// On WebSocket.
    key: Option<String>,
}

impl Upgrade {
    /// Reads a request's headers. `None` if it asks for no upgrade.
    pub fn read(headers: &HeaderMap, of: Operation) -> Result<Option<Self>, UpgradeError> {
        if !tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Ok(None);
        }
        let wanted: Vec<&str> = tokens(headers, UPGRADE).take(MAX_NAMES).collect();
        let transport = match wanted.as_slice() {
            [one] if one.eq_ignore_ascii_case("websocket") => Transport::WebSocket,
            [one] if one.eq_ignore_ascii_case("SPDY/3.1") => Transport::Spdy,
            others => return Err(UpgradeError::Unknown(quoted(others))),
        };
        let key = match transport {
            Transport::Spdy => None,
            Transport::WebSocket => Some(client_key(headers)?),
        };
        let names: Vec<&str> = tokens(headers, names_header(transport))
            .take(MAX_NAMES)
            .collect();
        let mut offered = Vec::new();
        for name in &names {
            let known = Protocol::known(name, of, transport);
            offered.extend(known.filter(|known| !offered.contains(known)));
        }
        match (names.is_empty(), offered.is_empty()) {
            (true, _) => Err(UpgradeError::NoProtocol(best(of, transport))),
            (_, true) => Err(UpgradeError::Protocols(quoted(&names), best(of, transport))),
            _ => Ok(Some(Self {
                transport,
                offered,
                key,
            })),
        }
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// In the client's order; never empty.
    pub fn offered(&self) -> &[Protocol] {
        &self.offered
    }

    /// The headers by which hoop asks the API server for the same, and what its answer is held
    /// against. `nonce` is one that nobody can foretell.
    pub fn ask(&self, nonce: [u8; 16]) -> (Question, HeaderMap) {
        let mut headers = upgrade_headers(self.transport);
        let accept = match self.transport {
            Transport::Spdy => {
                // One header each, as client-go sends them.
                for protocol in &self.offered {
                    let name = HeaderValue::from_static(protocol.name());
                    headers.append(STREAM_PROTOCOL, name);
                }
                None
            }
            Transport::WebSocket => {
                let key = websocket::key(nonce);
                let names: Vec<&str> = self.offered.iter().map(|p| p.name()).collect();
                let version = HeaderValue::from_static(websocket::VERSION);
                headers.insert(SEC_WEBSOCKET_VERSION, version);
                put(&mut headers, SEC_WEBSOCKET_PROTOCOL, &names.join(", "));
                put(&mut headers, SEC_WEBSOCKET_KEY, &key);
                Some(websocket::accept(&key))
            }
        };
        let question = Question {
            transport: self.transport,
            offered: self.offered.clone(),
            accept,
        };
        (question, headers)
    }

    /// The headers of the answer (status 101) to the client.
    pub fn answer(&self, chosen: Protocol) -> Result<HeaderMap, UpgradeError> {
        if !self.offered.contains(&chosen) {
            return Err(UpgradeError::NotOffered(quoted(&[chosen.name()])));
        }
        let mut headers = upgrade_headers(self.transport);
        let name = HeaderValue::from_static(chosen.name());
        headers.insert(names_header(self.transport), name);
        if let Some(key) = &self.key {
            put(&mut headers, SEC_WEBSOCKET_ACCEPT, &websocket::accept(key));
        }
        Ok(headers)
    }
}

/// What hoop asked the API server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    transport: Transport,
    offered: Vec<Protocol>,
    /// The right answer to the WebSocket key.
    accept: Option<String>,
}

impl Question {
    /// Reads the headers of an answer whose status is 101.
    pub fn chosen(&self, headers: &HeaderMap) -> Result<Protocol, UpgradeError> {
        let (upgrade, expected) = (tokens(headers, UPGRADE), upgrade_name(self.transport));
        let upgrade: Vec<&str> = upgrade.take(MAX_NAMES).collect();
        let switches = matches!(upgrade.as_slice(), [one] if one.eq_ignore_ascii_case(expected));
        let connection = tokens(headers, CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
        if !switches || !connection {
            return Err(UpgradeError::OtherUpgrade);
        }
        if let Some(accept) = &self.accept {
            if only(headers, SEC_WEBSOCKET_ACCEPT) != Some(accept.as_str()) {
                return Err(UpgradeError::Accept);
            }
            if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
                return Err(UpgradeError::Extension);
            }
        }
        let names: Vec<&str> = tokens(headers, names_header(self.transport))
            .take(MAX_NAMES)
            .collect();
        let chosen = match names.as_slice() {
            [one] => self.offered.iter().find(|known| known.name() == *one),
            _ => None,
        };
        chosen
            .copied()
            .ok_or_else(|| UpgradeError::NotOffered(quoted(&names)))
    }
}

fn names_header(transport: Transport) -> HeaderName {
    match transport {
        Transport::WebSocket => SEC_WEBSOCKET_PROTOCOL,
        Transport::Spdy => STREAM_PROTOCOL,
    }
}

fn upgrade_name(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => "websocket",
        Transport::Spdy => "SPDY/3.1",
    }
}

fn upgrade_headers(transport: Transport) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let name = HeaderValue::from_static(upgrade_name(transport));
    headers.insert(UPGRADE, name);
    headers
}

/// What a client of that kind should ask for.
fn best(of: Operation, transport: Transport) -> &'static str {
    match (of, transport) {
        (Operation::Command, Transport::WebSocket) => "v5.channel.k8s.io or v4.channel.k8s.io",
        (Operation::Command, Transport::Spdy) => "v4.channel.k8s.io",
        (Operation::PortForward, Transport::WebSocket) => {
            "SPDY/3.1+portforward.k8s.io or v4.channel.k8s.io"
        }
        (Operation::PortForward, Transport::Spdy) => "portforward.k8s.io",
    }
}

/// RFC 6455, section 4.2.1.
fn client_key(headers: &HeaderMap) -> Result<String, UpgradeError> {
    if only(headers, SEC_WEBSOCKET_VERSION) != Some(websocket::VERSION) {
        return Err(UpgradeError::Version);
    }
    match only(headers, SEC_WEBSOCKET_KEY) {
        Some(key) if websocket::is_key(key) => Ok(key.to_owned()),
        _ => Err(UpgradeError::Key),
    }
}

/// The value of a header that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// What is between commas in all headers of that name.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let tokens = texts.flat_map(|text| text.split(',')).map(str::trim);
    tokens.filter(|token| !token.is_empty())
}

/// Values here are base64 and names of protocols: always fit for a header.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn quoted(names: &[&str]) -> String {
    let joined = names.join(", ");
    let cut = joined.floor_char_boundary(200);
    joined.get(..cut).unwrap_or_default().to_owned()
}
