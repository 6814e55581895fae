//! The ways in, and out: a code of `hoop console login`, or the issuer.

use ::http::StatusCode;
use serde_json::Value;

use super::fields::{Fields, cookie};
use super::pages;
use super::respond::{self, Answer};
use super::routes::SignIn;
use super::serve::Asked;
use crate::handover::console::{Denied, Wish};

/// How long somebody may take at the issuer, in seconds.
pub const AT_ISSUER: u64 = 600;

impl Asked<'_> {
    pub async fn sign_in(&self, step: SignIn, fields: &Fields) -> Result<Answer, Denied> {
        match step {
            SignIn::Choose if self.person.is_some() => {
                Ok(respond::redirect(self.query.get("next")))
            }
            SignIn::Choose => Ok(respond::html(StatusCode::OK, pages::sign_in(self, None))),
            SignIn::Code => Ok(respond::html(StatusCode::OK, pages::code(self))),
            SignIn::Redeem => self.redeem(fields).await,
            SignIn::Leave => self.leave().await,
            SignIn::Return => self.come_back().await,
            SignIn::Out => self.out().await,
        }
    }

    async fn redeem(&self, fields: &Fields) -> Result<Answer, Denied> {
        let code = fields.get("code").to_owned();
        // In nobody's name yet.
        match self.server.link.ask(None, Wish::Redeem { code }).await {
            Ok(begun) => self.begun(&begun, "/"),
            Err(denied) => Ok(self.refused(&denied)),
        }
    }

    async fn leave(&self) -> Result<Answer, Denied> {
        let oidc = self.site.oidc.as_ref();
        let oidc =
            oidc.ok_or_else(|| Denied::Absent("nobody signs in by an issuer here".into()))?;
        let next = self.query.get("next").to_owned();
        match oidc.leave(&self.server.pending, next).await {
            Ok((url, ticket)) => {
                let cookie = self
                    .site
                    .set_cookie(self.site.sign_in_cookie(), &ticket, AT_ISSUER);
                Ok(respond::with_cookie(respond::leave(url.as_str()), &cookie))
            }
            Err(why) => Ok(self.refused(&Denied::Failed(why))),
        }
    }

    async fn come_back(&self) -> Result<Answer, Denied> {
        let oidc = self.site.oidc.as_ref();
        let oidc =
            oidc.ok_or_else(|| Denied::Absent("nobody signs in by an issuer here".into()))?;
        let ticket = cookie(self.head, self.site.sign_in_cookie()).unwrap_or_default();
        let back = oidc
            .come_back(&self.server.pending, ticket, &self.query)
            .await;
        let (login, groups, next) = match back {
            Ok(back) => back,
            Err(why) => {
                tracing::warn!(why, "a sign-in at the console failed");
                return Ok(self.refused(&Denied::Bad(why)));
            }
        };
        match self
            .server
            .link
            .ask(None, Wish::SignIn { login, groups })
            .await
        {
            Ok(begun) => {
                let answer = self.begun(&begun, &next)?;
                let spent = self.site.set_cookie(self.site.sign_in_cookie(), "", 0);
                Ok(respond::with_cookie(answer, &spent))
            }
            Err(Denied::Role(roles)) => Ok(self.refused(&Denied::Role(roles))),
            Err(denied) => Ok(self.refused(&denied)),
        }
    }

    async fn out(&self) -> Result<Answer, Denied> {
        self.ask(Wish::SignOut).await?;
        let spent = self.site.set_cookie(self.site.cookie(), "", 0);
        Ok(respond::with_cookie(respond::redirect("/sign-in"), &spent))
    }

    fn begun(&self, begun: &Value, next: &str) -> Result<Answer, Denied> {
        let token = begun.get("session").and_then(Value::as_str);
        let token = token.ok_or_else(|| Denied::Failed("the daemon began no session".into()))?;
        let seconds = begun.get("seconds").and_then(Value::as_u64).unwrap_or(0);
        let cookie = self.site.set_cookie(self.site.cookie(), token, seconds);
        Ok(respond::with_cookie(respond::redirect(next), &cookie))
    }

    fn refused(&self, denied: &Denied) -> Answer {
        let why = match denied {
            Denied::Role(roles) => format!(
                "you are signed in at the issuer, but none of your groups has a role here ({roles}): see [console] roles"
            ),
            other => other.to_string(),
        };
        let status = match denied {
            Denied::Role(_) => StatusCode::FORBIDDEN,
            Denied::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        respond::html(status, pages::sign_in(self, Some(&why)))
    }
}
