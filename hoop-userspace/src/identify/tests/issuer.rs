//! An issuer in a few lines: keys made on the spot, discovery and key set over HTTP, faults.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub struct Key {
    pub kid: String,
    algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub fn es256(kid: &str) -> Self {
        Self::ec(kid, "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn es384(kid: &str) -> Self {
        Self::ec(kid, "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ec(
        kid: &str,
        algorithm: &'static str,
        kind: &'static ring::signature::EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap();
        Self {
            kid: kid.to_owned(),
            algorithm,
            pair: Pair::Ec(pair),
        }
    }

    pub fn ed25519(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            kid: kid.to_owned(),
            algorithm: "EdDSA",
            pair: Pair::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()),
        }
    }

    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn jwk(&self) -> Value {
        let public = self.public();
        match &self.pair {
            Pair::Ed(_) => json!({
                "kty": "OKP", "crv": "Ed25519", "x": encode(&public), "kid": self.kid, "use": "sig",
            }),
            Pair::Ec(_) => {
                let (x, y) = public[1..].split_at((public.len() - 1) / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({
                    "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y),
                    "kid": self.kid, "alg": self.algorithm,
                })
            }
        }
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid })
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_texts(&header.to_string(), &claims.to_string())
    }

    pub fn sign_texts(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Status,
    Redirect,
    ContentType,
    Huge,
    OtherIssuer,
    Garbage,
    KeysElsewhere,
    Hangup,
    /// A key set without end, as far as the client takes it.
    Endless,
    /// One byte of the answer now and then.
    Slow,
    /// Members that stand twice in the description.
    Twice,
}

#[derive(Default)]
struct State {
    keys: Mutex<Vec<Value>>,
    fault: Mutex<Option<Fault>>,
    asked: AtomicUsize,
    /// Bytes of [`Fault::Endless`] that were taken.
    taken: AtomicUsize,
    /// What the token endpoint answers: status and body.
    grant: Mutex<(u16, String)>,
    /// What the introspection and userinfo endpoints answer: status, headers and body.
    word: Mutex<(u16, String, String)>,
    /// Requests that these two had.
    questions: Mutex<Vec<String>>,
    /// Whether the description leaves the introspection endpoint out.
    silent: AtomicBool,
    /// What the token endpoint was sent, head and body.
    requests: Mutex<Vec<String>>,
}

pub struct Issuer {
    pub url: String,
    state: Arc<State>,
}

impl Issuer {
    pub async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth2/aus1", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let issuer = Self {
            url: url.clone(),
            state: state.clone(),
        };
        issuer.publish(keys);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let answer = answer(&url, &state, &request);
                let state = state.clone();
                tokio::spawn(async move { send(&mut stream, &state, &request, &answer).await });
            }
        });
        issuer
    }

    pub fn publish(&self, keys: &[&Key]) {
        *self.state.keys.lock().unwrap() = keys.iter().map(|key| key.jwk()).collect();
    }

    pub fn fail(&self, fault: Option<Fault>) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// How often the key set was fetched.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Bytes of an endless answer that were taken.
    pub fn taken(&self) -> usize {
        self.state.taken.load(Ordering::SeqCst)
    }

    /// What the token endpoint answers from now on.
    pub fn grant(&self, status: u16, body: impl ToString) {
        *self.state.grant.lock().unwrap() = (status, body.to_string());
    }

    /// The requests that the token endpoint had.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// What it says of tokens from now on; `headers` as they stand in the answer.
    pub fn say(&self, status: u16, headers: &str, body: impl ToString) {
        *self.state.word.lock().unwrap() = (status, headers.to_owned(), body.to_string());
    }

    /// The questions about tokens that it had.
    pub fn questions(&self) -> Vec<String> {
        self.state.questions.lock().unwrap().clone()
    }

    /// From now on it describes no introspection endpoint.
    pub fn hide_introspection(&self) {
        self.state.silent.store(true, Ordering::SeqCst);
    }

    /// Claims as Okta's custom authorisation servers write them.
    pub fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": "api://hoop", "sub": "0oa1", "cid": "0oa1",
            "scp": ["db.read"], "iat": now(), "nbf": now(), "exp": now() + 300,
            "ver": 1, "jti": "AT.x",
        })
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = stream.read(&mut part).await.unwrap_or(0);
        request.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&request);
        let length = text
            .to_ascii_lowercase()
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split_once('\r')?.0.parse::<usize>().ok());
        let whole = text
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| body.len() >= length.unwrap_or(0));
        if n == 0 || whole {
            return text.into_owned();
        }
    }
}

async fn send(stream: &mut tokio::net::TcpStream, state: &State, request: &str, answer: &str) {
    let fault = *state.fault.lock().unwrap();
    if matches!(fault, Some(Fault::Slow)) {
        for byte in answer.as_bytes() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
    if matches!(fault, Some(Fault::Endless)) && request.contains("/v1/keys ") {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        let part = vec![b' '; 64 << 10];
        for _ in 0..(100 << 20) / part.len() {
            if stream.write_all(&part).await.is_err() {
                return;
            }
            state.taken.fetch_add(part.len(), Ordering::SeqCst);
        }
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(url: &str, state: &State, request: &str) -> String {
    let fault = *state.fault.lock().unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let body = match path {
        "/oauth2/aus1/.well-known/openid-configuration" => {
            let issuer = match fault {
                Some(Fault::OtherIssuer) => "https://elsewhere.example",
                _ => url,
            };
            let jwks = match fault {
                Some(Fault::KeysElsewhere) => "http://elsewhere.example/keys".to_owned(),
                _ => format!("{url}/v1/keys"),
            };
            let mut description = json!({
                "issuer": issuer, "jwks_uri": jwks,
                "authorization_endpoint": format!("{url}/v1/authorize"),
                "token_endpoint": format!("{url}/v1/token"),
                "introspection_endpoint": format!("{url}/v1/introspect"),
                "userinfo_endpoint": format!("{url}/v1/userinfo"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            });
            if state.silent.load(Ordering::SeqCst) {
                let members = description.as_object_mut().unwrap();
                members.remove("introspection_endpoint");
            }
            description
        }
        "/.well-known/ssf-configuration/oauth2/aus1" => {
            json!({ "issuer": url, "jwks_uri": format!("{url}/v1/keys") })
        }
        "/oauth2/aus1/v1/keys" => {
            state.asked.fetch_add(1, Ordering::SeqCst);
            json!({ "keys": *state.keys.lock().unwrap() })
        }
        "/oauth2/aus1/v1/token" => {
            state.requests.lock().unwrap().push(request.to_owned());
            let (status, body) = state.grant.lock().unwrap().clone();
            return format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nlocation: /oauth2/aus1/v1/keys\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        "/oauth2/aus1/v1/introspect" | "/oauth2/aus1/v1/userinfo" => {
            state.questions.lock().unwrap().push(request.to_owned());
            let (status, headers, body) = state.word.lock().unwrap().clone();
            if status == 0 {
                return String::new();
            }
            return format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        _ => return "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    let (mut status, mut kind, mut body) = ("200 OK", "application/json", body.to_string());
    match fault {
        Some(Fault::Status) => status = "500 Oops",
        Some(Fault::Redirect) => {
            status = "302 Found\r\nlocation: /oauth2/aus1/.well-known/openid-configuration";
        }
        Some(Fault::ContentType) => {
            kind = "text/html";
            body = "<html>log in</html>".to_owned();
        }
        Some(Fault::Twice) => body = body.replacen('{', "{\"issuer\":\"https://a.example\",", 1),
        Some(Fault::Huge) => body = " ".repeat(2 << 20),
        Some(Fault::Garbage) => body = "{\"issuer\":".to_owned(),
        Some(Fault::Hangup) => return String::new(),
        _ => {}
    }
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
