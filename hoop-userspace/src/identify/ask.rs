//! One question to an issuer about one token: RFC 7662 introspection, and OpenID Connect Core §5.3
//! userinfo where it is configured. The answer must be about the token that was asked about.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use url::Url;
use zeroize::Zeroizing;

use super::Identity;
use super::discovery::Discovery;
use super::error::Quoted;
use super::http::{Answer, Client};
use super::object::Object;
use super::obtain::{Endpoint, Proof};
use super::pace::Pacer;

/// A token that no issuer gave anybody.
const NOBODYS: &str = "hoop-asks-whether-you-answer";

/// What the issuer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Active,
    /// Revoked, suspended, withdrawn or expired: RFC 7662 §2.2 says no more.
    Inactive,
    /// It has nowhere to ask, and nobody demanded that it be asked.
    Silent,
    /// It does not know the agent's own client any more: its application was withdrawn, or its key.
    Disowned,
}

/// Asks one issuer in the name of one client.
pub(super) struct Asker {
    pub client: Client,
    pub discovery: Arc<Discovery>,
    /// Who asks, and how it proves itself; `None` where only userinfo is asked.
    pub introspects: Option<(String, Arc<Proof>)>,
    /// Whether the configuration demands it: an issuer without the endpoint is then no issuer.
    pub demanded: bool,
    pub userinfo: bool,
}

impl Asker {
    /// The issuer's word, or why there is none. At most about ten seconds.
    pub async fn ask(&self, token: &str, about: &Identity, pacer: &Pacer) -> Result<Word, String> {
        let mut word = Word::Silent;
        if let Some((client_id, proof)) = &self.introspects
            && (self.demanded || self.discovery.endpoints().await?.introspection.is_some())
        {
            word = self
                .introspect(client_id, proof, token, about, pacer)
                .await?;
        }
        if self.userinfo && !matches!(word, Word::Inactive | Word::Disowned) {
            word = self.userinfo(token, about, pacer).await?;
        }
        Ok(word)
    }

    async fn introspect(
        &self,
        client_id: &str,
        proof: &Proof,
        token: &str,
        about: &Identity,
        pacer: &Pacer,
    ) -> Result<Word, String> {
        let (url, answer) = self.post(client_id, proof, token).await?;
        pacer.heard(answer.status, &answer.headers);
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED if !self.demanded => return Ok(Word::Disowned),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "{url} answers {} to the client {client_id}: compare its key or secret with the issuer's, and let it introspect",
                    answer.status
                ));
            }
            status => return Err(format!("{url} answers {status} instead of 200")),
        }
        read_introspection(&answer.body, about).map_err(|why| format!("{url} {why}"))
    }

    async fn post(
        &self,
        client_id: &str,
        proof: &Proof,
        token: &str,
    ) -> Result<(Url, Answer), String> {
        let url = self.discovery.introspection().await?;
        let endpoint = Endpoint {
            issuer: self.discovery.issuer(),
            url: url.as_str(),
        };
        let question = [("token", token), ("token_type_hint", "access_token")];
        let request = proof.request(client_id, &endpoint, &question, SystemTime::now())?;
        let answer = self.client.post(&url, request).await?;
        Ok((url, answer))
    }

    /// Asks about a token that nobody was given, to learn whether the issuer answers this client.
    /// `None` where no introspection is asked for. At most about ten seconds.
    pub async fn prove(&self) -> Option<(&str, Result<(), String>)> {
        let (client_id, proof) = self.introspects.as_ref()?;
        if !self.demanded
            && let Ok(endpoints) = self.discovery.endpoints().await
            && endpoints.introspection.is_none()
        {
            return None;
        }
        let answer = self.post(client_id, proof, NOBODYS).await;
        let judged = answer.and_then(|(url, answer)| match answer.status {
            StatusCode::OK => is_inactive(&answer.body).map_err(|why| format!("{url} {why}")),
            status => Err(format!("{url} answers {status} to the client {client_id}")),
        });
        Some((client_id, judged))
    }

    async fn userinfo(&self, token: &str, about: &Identity, pacer: &Pacer) -> Result<Word, String> {
        let url = self.discovery.userinfo().await?;
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        let answer = self.client.get_as(&url, &bearer).await?;
        pacer.heard(answer.status, &answer.headers);
        match answer.status {
            StatusCode::OK => {}
            // RFC 6750 §3.1: the token is expired, revoked or malformed.
            StatusCode::UNAUTHORIZED => return Ok(Word::Inactive),
            StatusCode::FORBIDDEN => {
                return Err(format!(
                    "{url} answers 403: the token lacks the scope `openid`, which userinfo demands"
                ));
            }
            status => return Err(format!("{url} answers {status} instead of 200")),
        }
        read_userinfo(&answer.body, about).map_err(|why| format!("{url} {why}"))
    }
}

fn is_inactive(body: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Said {
        active: bool,
    }
    match serde_json::from_slice(body) {
        Ok(Said { active: false }) => Ok(()),
        Ok(Said { active: true }) => Err("calls a token active that nobody was given".into()),
        Err(_) => Err("answers with no introspection (RFC 7662 §2.2)".into()),
    }
}

fn read_introspection(body: &[u8], about: &Identity) -> Result<Word, String> {
    let answer = object(body)?;
    match answer.get("active").and_then(serde_json::Value::as_bool) {
        Some(true) => {}
        Some(false) => return Ok(Word::Inactive),
        None => return Err("answers without `active`".into()),
    }
    same(&answer, "sub", about.subject())?;
    same(&answer, "client_id", about.client_id())?;
    Ok(Word::Active)
}

fn read_userinfo(body: &[u8], about: &Identity) -> Result<Word, String> {
    let answer = object(body)?;
    // OpenID Connect Core §5.3.2: it must be there, and be the token's.
    if answer.get("sub").is_none() {
        return Err("answers without `sub`".into());
    }
    same(&answer, "sub", about.subject())?;
    Ok(Word::Active)
}

fn object(body: &[u8]) -> Result<Object, String> {
    Object::parse(body).ok_or_else(|| "answers no JSON object with each name once".into())
}

/// An answer about somebody else's token is no answer.
fn same(answer: &Object, member: &str, expected: &str) -> Result<(), String> {
    match answer.text(member) {
        Ok(None) => Ok(()),
        Ok(Some(found)) if found == expected => Ok(()),
        Ok(Some(found)) => Err(format!(
            "answers about {member} {}, not {}",
            Quoted::new(found),
            Quoted::new(expected)
        )),
        Err(_) => Err(format!("answers with a {member} that is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_nobodys_is_inactive() {
        assert!(is_inactive(br#"{"active":false}"#).is_ok());
        for bad in [&br#"{"active":true}"#[..], b"{}", b"<html>"] {
            assert!(is_inactive(bad).is_err());
        }
    }

    #[test]
    fn what_an_introspection_may_say() {
        let about = Identity::for_test("0oa1", &[]);
        let read = |text: &str| read_introspection(text.as_bytes(), &about);
        assert_eq!(read(r#"{"active":true}"#), Ok(Word::Active));
        assert_eq!(
            read(r#"{"active":true,"sub":"0oa1","client_id":"0oa1","exp":1}"#),
            Ok(Word::Active)
        );
        assert_eq!(read(r#"{"active":false}"#), Ok(Word::Inactive));
        for (lie, why) in [
            ("<html>", "no JSON object"),
            ("[true]", "no JSON object"),
            (r#"{"active":"true"}"#, "without `active`"),
            (r#"{"active":1}"#, "without `active`"),
            ("{}", "without `active`"),
            (r#"{"active":false,"active":true}"#, "no JSON object"),
            (r#"{"active":true,"sub":"other"}"#, "about sub"),
            (r#"{"active":true,"client_id":"other"}"#, "about client_id"),
            (r#"{"active":true,"sub":7}"#, "no text"),
        ] {
            let error = read(lie).unwrap_err();
            assert!(error.contains(why), "{lie}: {error}");
        }
    }

    #[test]
    fn what_userinfo_may_say() {
        let about = Identity::for_test("ada", &[]);
        let read = |text: &str| read_userinfo(text.as_bytes(), &about);
        assert_eq!(read(r#"{"sub":"ada","email":"a@b"}"#), Ok(Word::Active));
        assert!(read("{}").is_err());
        assert!(read(r#"{"sub":"eve"}"#).is_err());
    }
}
