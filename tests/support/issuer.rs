//! The OpenID provider of the tests: npm's certified `oidc-provider`, with Okta's claim names.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::place::Place;
use crate::settings::{AgentSettings, Settings};
use crate::{files, ran};

pub struct Issuer {
    url: String,
    folder: PathBuf,
}

impl Issuer {
    pub fn start(place: &Place, settings: &Settings) -> Result<Self> {
        let folder = place.path("issuer");
        std::fs::create_dir_all(&folder)?;
        let clients: Vec<&str> = settings
            .agents
            .iter()
            .map(|agent| agent.client_id)
            .collect();
        let log = File::create(folder.join("log"))?;
        let mut node = place.command("services", None, "node")?;
        node.arg(files::root().join("tests/issuer/server.mjs"));
        node.arg("--host").arg(place.address(20).to_string());
        node.arg("--keys")
            .arg(folder.join("keys"))
            .arg("--clients")
            .arg(clients.join(","));
        let auth: Vec<String> = settings
            .agents
            .iter()
            .filter(|agent| !agent.auth.is_empty())
            .map(|agent| format!("{}={}", agent.client_id, agent.auth))
            .collect();
        node.arg("--auth").arg(auth.join(","));
        node.arg("--client-keys").arg(folder.join("clients"));
        let people: Value = settings.people.iter().map(person).collect();
        node.arg("--console").arg(&settings.console);
        node.arg("--people").arg(people.to_string());
        node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = node.spawn().context("cannot start node")?;
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        out.read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).with_context(|| {
            let log = files::read(&folder.join("log")).unwrap_or_default();
            format!("the OpenID provider did not start: {line}{log}")
        })?;
        let Some(url) = ready["issuer"].as_str() else {
            bail!("no issuer in {ready}")
        };
        Ok(Self {
            url: url.to_owned(),
            folder,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Withdraws all keys; what is granted from now on is signed with a new one.
    pub fn rotate(&self) -> Result<()> {
        self.post("/test/rotate?alg=RS256")
    }

    /// Ends one token in the name of its client (RFC 7009).
    pub fn revoke(&self, client: &str, token: &str) -> Result<()> {
        let script = format!(
            "const answer = await fetch('{}/token/revocation', {{ method: 'POST', \
               headers: {{ authorization: 'Basic ' + btoa('{client}:{client}-secret') }}, \
               body: new URLSearchParams({{ token: '{}' }}) }}); \
             if (answer.status !== 200) throw new Error(await answer.text())",
            self.url,
            token.trim()
        );
        self.script(&script).map(drop)
    }

    /// Ends all tokens of a client, as withdrawing its application does.
    pub fn revoke_all(&self, client: &str) -> Result<()> {
        self.post(&format!("/test/revoke?client={client}"))
    }

    /// From now on introspection answers with this status; 0 lets questions hang.
    pub fn fail(&self, status: Option<u16>) -> Result<()> {
        let status = status.map_or(String::new(), |status| format!("?status={status}"));
        self.post(&format!("/test/fault{status}"))
    }

    /// How often introspection was asked.
    pub fn questions(&self) -> Result<u32> {
        let script = format!(
            "console.log(await (await fetch('{}/test/questions')).text())",
            self.url
        );
        Ok(self.script(&script)?.trim().parse()?)
    }

    fn post(&self, path: &str) -> Result<()> {
        let script = format!("await fetch('{}{path}', {{ method: 'POST' }})", self.url);
        self.script(&script).map(drop)
    }

    fn script(&self, script: &str) -> Result<String> {
        let mut node = Command::new("node");
        node.args(["--input-type=module", "-e", script]);
        let ran = ran::run(&mut node, "", Duration::from_secs(20))?;
        Ok(ran.ok()?.stdout)
    }

    /// Obtains a token with the agent's client credentials and writes it where the mapping looks.
    pub fn give_token(&self, place: &Place, agent: &AgentSettings) -> Result<()> {
        if !agent.auth.is_empty() {
            return Ok(());
        }
        let token = self.token(agent.client_id)?;
        files::write_secret(&place.path("tokens").join(agent.name), token)
    }

    /// A token that the provider grants to that client.
    pub fn token(&self, client: &str) -> Result<String> {
        self.node(client, &[])
    }

    /// A token that never was granted: these claims replace the usual ones. `forge` is empty for the
    /// provider's own signature, or `own-key`, `none`, `hs256`.
    pub fn made(&self, client: &str, claims: &Value, forge: &str) -> Result<String> {
        let (keys, claims) = (self.folder.join("keys"), claims.to_string());
        let keys = keys.to_string_lossy();
        self.node(
            client,
            &["--keys", &keys, "--claims", &claims, "--forge", forge],
        )
    }

    fn node(&self, client: &str, options: &[&str]) -> Result<String> {
        let mut node = Command::new("node");
        node.arg(files::root().join("tests/issuer/token.mjs"));
        node.arg("--issuer")
            .arg(&self.url)
            .arg("--client")
            .arg(client)
            .args(options);
        let ran = ran::run(&mut node, "", Duration::from_secs(20))?;
        Ok(ran
            .ok()
            .context("the OpenID provider gave no token")?
            .stdout
            .trim()
            .to_owned())
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Somebody who signs in by this name.
fn person((login, groups): &(&str, &[&str])) -> Value {
    json!({ "login": login, "groups": groups })
}
