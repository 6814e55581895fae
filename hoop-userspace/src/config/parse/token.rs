//! `token`, `instance_claim` and `required_claims` of `[[agent]]`, and how `[issuer]` is asked
//! whether a token still holds.

use std::time::Duration;

use toml::Spanned;

use super::super::bundle::UNREAD;
use super::super::{ClientAuth, Exec, Introspection, Kind, RequiredClaim, TokenSource, raw, text};
use super::Parser;
use crate::identify::SigningKey;

const MAX_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REFRESH: Duration = Duration::from_secs(24 * 3600);
const MAX_SCOPE: usize = 1000;
const MAX_CLAIMS: usize = 32;
const RECHECK: Duration = Duration::from_secs(2);
const SHORTEST_RECHECK: Duration = Duration::from_secs(1);
const LONGEST_RECHECK: Duration = Duration::from_secs(300);
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Claims that tell one user from another.
const PERSONAL: [&str; 4] = ["sub", "uid", "email", "preferred_username"];

/// What `client_credentials` and `saml` have in common.
struct Proof<'r> {
    key: Option<&'r Spanned<raw::KeyRef>>,
    alg: Option<super::super::SigningAlgorithm>,
    kid: Option<&'r raw::Text>,
    audience: Option<super::super::AssertionAudience>,
    secret: Option<&'r Spanned<raw::SecretRef>>,
    auth: Option<raw::SecretAuth>,
}

impl Parser<'_> {
    /// Exactly one source, or a problem.
    pub(super) fn token(&mut self, raw: &Spanned<raw::Token>, named: bool) -> Option<TokenSource> {
        let token = raw.get_ref();
        let given = [
            token.file.is_some(),
            token.credential.is_some(),
            token.env.is_some(),
            token.client_credentials.is_some(),
            token.exec.is_some(),
            token.saml.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let what =
                "give one token source: file, credential, env, client_credentials, exec or saml";
            self.problems.add(raw.span(), what);
            return None;
        }
        if let Some(file) = &token.file {
            return Some(TokenSource::File(self.absolute(Some(file), "")));
        }
        if let Some(name) = &token.credential {
            return self.credential(name);
        }
        if let Some(name) = &token.env {
            return Some(self.variable(name));
        }
        if let Some(exec) = &token.exec {
            return Some(TokenSource::Exec(self.exec(exec.get_ref())));
        }
        if !named {
            let what = "hoop obtains this token in the name of the agent's `client_id`: give one";
            self.problems.add(raw.span(), what);
        }
        if let Some(written) = &token.client_credentials {
            return self.client_credentials(written);
        }
        self.saml(token.saml.as_ref()?)
    }

    fn credential(&mut self, name: &raw::Text) -> Option<TokenSource> {
        if !text::is_name(name.get_ref()) {
            let what = format!("{:?} is no credential name", name.get_ref());
            self.problems.add(name.span(), what);
            return None;
        }
        Some(TokenSource::Credential(name.get_ref().clone()))
    }

    fn variable(&mut self, env: &raw::Text) -> TokenSource {
        let name = env.get_ref();
        if name.is_empty() || name.len() > 256 || name.contains(['=', '\0']) {
            let what = format!("{name:?} is no name of an environment variable");
            self.problems.add(env.span(), what);
        }
        TokenSource::Env(name.clone())
    }

    fn exec(&mut self, raw: &raw::Exec) -> Exec {
        let command = raw.command.get_ref();
        let absolute = command.first().is_some_and(|path| path.starts_with('/'));
        if !absolute || command.len() > 64 || command.iter().any(|word| word.contains('\0')) {
            self.problems.add_with_fix(
                raw.command.span(),
                "`command` is an absolute path and its arguments, at most 64 words",
                "write command = [\"/usr/bin/print-token\", \"--for\", \"bot\"]",
            );
        }
        Exec {
            command: command.clone(),
            timeout: self.span(raw.timeout.as_ref(), Duration::from_secs(5), MAX_TIMEOUT),
            refresh: self.span(raw.refresh.as_ref(), Duration::from_secs(300), MAX_REFRESH),
        }
    }

    pub(super) fn span(
        &mut self,
        written: Option<&Spanned<raw::Span>>,
        default: Duration,
        most: Duration,
    ) -> Duration {
        let Some(written) = written else {
            return default;
        };
        let span = written.get_ref().0;
        if span.is_zero() || span > most {
            let what = format!("give more than 0 and at most {}s", most.as_secs());
            self.problems.add(written.span(), what);
        }
        span
    }

    fn client_credentials(
        &mut self,
        written: &Spanned<raw::ClientCredentials>,
    ) -> Option<TokenSource> {
        let raw = written.get_ref();
        let proof = Proof {
            key: raw.key.as_ref(),
            alg: raw.alg,
            kid: raw.kid.as_ref(),
            audience: raw.audience,
            secret: raw.secret.as_ref(),
            auth: raw.auth,
        };
        if raw.key.is_none() && raw.secret.is_none() {
            let what = "give `key` (better) or `secret`: the issuer must know whose token it is";
            self.problems.add(written.span(), what);
        }
        let scope = self.scope(raw.scope.as_ref());
        let client = self.client(written.span(), &proof)?;
        Some(TokenSource::ClientCredentials { client, scope })
    }

    fn saml(&mut self, written: &Spanned<raw::Saml>) -> Option<TokenSource> {
        let raw = written.get_ref();
        let proof = Proof {
            key: raw.key.as_ref(),
            alg: raw.alg,
            kid: raw.kid.as_ref(),
            audience: raw.audience,
            secret: raw.secret.as_ref(),
            auth: raw.auth,
        };
        let file = self.absolute(Some(&raw.file), "");
        let scope = self.scope(raw.scope.as_ref());
        let client = self.client(written.span(), &proof);
        Some(TokenSource::Saml {
            file,
            client,
            scope,
        })
    }

    fn client(&mut self, span: std::ops::Range<usize>, proof: &Proof<'_>) -> Option<ClientAuth> {
        let of_key = proof.alg.is_some() || proof.kid.is_some() || proof.audience.is_some();
        match (proof.key, proof.secret) {
            (Some(_), Some(_)) => self.problems.add(span, "give `key` or `secret`, not both"),
            (None, _) if of_key => self
                .problems
                .add(span, "`alg`, `kid` and `audience` go with a `key`"),
            (_, None) if proof.auth.is_some() => {
                self.problems.add(span, "`auth` goes with a `secret`");
            }
            (Some(written), None) => {
                let key = self.secret(&raw::KeyRef::spanned(written))?;
                if key.expose() != UNREAD
                    && let Err(why) = SigningKey::read(key.expose(), proof.alg)
                {
                    self.problems.add(written.span(), why);
                }
                return Some(ClientAuth::Key {
                    key,
                    algorithm: proof.alg,
                    kid: proof.kid.map(|kid| kid.get_ref().clone()),
                    audience: proof.audience.unwrap_or_default(),
                });
            }
            (None, Some(written)) => {
                return Some(ClientAuth::Secret {
                    secret: self.secret(written)?,
                    post: proof.auth == Some(raw::SecretAuth::Post),
                });
            }
            (None, None) => {}
        }
        None
    }

    pub(super) fn introspection(
        &mut self,
        written: Option<&Spanned<raw::Introspection>>,
    ) -> Introspection {
        let Some(written) = written else {
            return Introspection::Own;
        };
        let raw = match written.get_ref() {
            raw::Introspection::Off => return Introspection::Off,
            raw::Introspection::As(client) => client,
        };
        let proof = Proof {
            key: raw.key.as_ref(),
            alg: raw.alg,
            kid: raw.kid.as_ref(),
            audience: raw.audience,
            secret: raw.secret.as_ref(),
            auth: raw.auth,
        };
        if raw.client_id.get_ref().is_empty() {
            self.problems
                .add(raw.client_id.span(), "the client id is empty");
        }
        if raw.key.is_none() && raw.secret.is_none() {
            let what = "give `key` (better) or `secret`: an issuer tells nobody else about tokens";
            self.problems.add(written.span(), what);
        }
        match self.client(written.span(), &proof) {
            Some(auth) => Introspection::As {
                client_id: raw.client_id.get_ref().clone(),
                auth,
            },
            // A problem says why.
            None => Introspection::Own,
        }
    }

    pub(super) fn recheck(&mut self, written: Option<&Spanned<raw::Span>>) -> Duration {
        let recheck = self.span(written, RECHECK, LONGEST_RECHECK);
        if let Some(written) = written.filter(|_| recheck < SHORTEST_RECHECK) {
            let what = "`recheck` is at least 1s: every token in use costs the issuer a question";
            self.problems.add(written.span(), what);
        }
        recheck
    }

    pub(super) fn grace(
        &mut self,
        written: Option<&Spanned<raw::Unreachable>>,
    ) -> Option<Duration> {
        let written = written?;
        let raw::Unreachable::Grace(grace) = written.get_ref() else {
            return None;
        };
        if grace.0.is_zero() || grace.0 > MAX_GRACE {
            let what = "`grace` is more than 0 and at most 1h";
            self.problems.add(written.span(), what);
        }
        Some(grace.0)
    }

    /// A user's token comes from an application that many use.
    pub(super) fn kind(&mut self, raw: &raw::Agent, span: std::ops::Range<usize>) -> Kind {
        let kind = raw.kind.unwrap_or_default();
        let pinned = raw.required_claims.as_ref().is_some_and(|claims| {
            let mut names = claims.get_ref().keys();
            names.any(|name| PERSONAL.contains(&name.as_str()))
        });
        if kind == Kind::User && !pinned && raw.instance_claim.is_none() {
            self.problems.add_with_fix(
                span,
                format!(
                    "agent `{}` acts for a user, and every user of that client would be taken for this one",
                    raw.name.get_ref()
                ),
                "name the user: required_claims = { sub = \"ada@acme.example\" }",
            );
        }
        kind
    }

    fn scope(&mut self, written: Option<&raw::Text>) -> Option<String> {
        let written = written?;
        let scope = written.get_ref();
        if scope.is_empty() || scope.len() > MAX_SCOPE || scope.contains(char::is_control) {
            let what = "`scope` is one or several scopes with spaces between";
            self.problems.add(written.span(), what);
        }
        Some(scope.clone())
    }

    pub(super) fn instance_claim(&mut self, raw: &raw::Agent) -> Option<String> {
        let written = raw.instance_claim.as_ref()?;
        let pattern = raw.cgroup.get_ref();
        if pattern.matches('*').count() != 1 || pattern.contains('?') {
            self.problems.add_with_fix(
                written.span(),
                "`instance_claim` needs a cgroup with exactly one `*` and no `?`",
                "write cgroup = \"agents.slice/agent-*.service\"",
            );
        }
        if written.get_ref().is_empty() {
            self.problems.add(written.span(), "the claim has no name");
        }
        Some(written.get_ref().clone())
    }

    pub(super) fn required_claims(&mut self, raw: &raw::Agent) -> Vec<RequiredClaim> {
        let Some(written) = &raw.required_claims else {
            return Vec::new();
        };
        let claims = written.get_ref();
        let sound = |(name, any): (&String, &raw::OneOrMany)| !name.is_empty() && !any.0.is_empty();
        if claims.len() > MAX_CLAIMS || !claims.iter().all(sound) {
            let what = format!(
                "give at most {MAX_CLAIMS} claims, each with a value or a list of at least one"
            );
            self.problems.add(written.span(), what);
        }
        claims
            .iter()
            .map(|(name, any)| RequiredClaim {
                name: name.clone(),
                any: any.0.clone(),
            })
            .collect()
    }
}
