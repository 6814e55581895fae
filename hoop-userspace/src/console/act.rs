//! What people do: the same by a form and by the API. The keeper does it, and decides whether.

use serde_json::{Value, json};

use super::fields::Fields;
use super::serve::Asked;
use crate::ask::Verdict;
use crate::handover::console::{Denied, Wish};
use crate::trial::policy::Supposed;
use crate::trial::{self, Unusable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Vote,
    Revoke,
    Kill,
    /// Has a session stand still.
    Freeze,
    Thaw,
    Suspend,
    Resume,
    /// Decides a statement that somebody supposes.
    TryPolicy,
    /// Masks a value that somebody supposes.
    TryMask,
}

impl Act {
    /// The page that shows what came of it; `None` where that is the answer itself.
    pub fn then(self, parameter: &str) -> Option<String> {
        match self {
            Self::Vote | Self::Revoke => Some(format!("/approvals/{}", segment(parameter))),
            Self::Freeze | Self::Thaw => Some(format!("/sessions/{}", segment(parameter))),
            Self::Kill | Self::Suspend | Self::Resume => Some("/".to_owned()),
            Self::TryPolicy | Self::TryMask => None,
        }
    }
}

/// Of a statement that somebody tries.
const MAX_TRIED: usize = 256 << 10;

impl Asked<'_> {
    pub async fn act(&self, act: Act, fields: &Fields) -> Result<Value, Denied> {
        let reason = fields.get("reason").to_owned();
        let about = self.parameter.to_owned();
        let wish = match act {
            Act::Vote => Wish::Vote {
                question: about,
                verdict: match fields.get("verdict") {
                    "approve" => Verdict::Approve,
                    "refuse" => Verdict::Refuse,
                    _ => return Err(Denied::Bad("`verdict` is `approve` or `refuse`".into())),
                },
                reason,
                break_glass: fields.is_set("break_glass"),
            },
            Act::Revoke => Wish::Revoke {
                question: about,
                reason,
            },
            Act::Kill => Wish::Kill {
                session: about,
                reason: given(reason)?,
            },
            Act::Freeze => Wish::Freeze {
                session: about,
                reason: given(reason)?,
            },
            Act::Thaw => Wish::Thaw {
                session: about,
                reason: given(reason)?,
            },
            Act::Suspend => Wish::Suspend {
                agent: about,
                reason: given(reason)?,
            },
            Act::Resume => Wish::Resume {
                agent: about,
                reason: given(reason)?,
            },
            Act::TryPolicy => return self.try_policy(fields).await,
            Act::TryMask => return self.try_mask(fields).await,
        };
        self.ask(wish).await
    }

    async fn try_policy(&self, fields: &Fields) -> Result<Value, Denied> {
        let word = |name: &str| fields.get(name).trim().to_owned();
        let groups = word("groups");
        let groups = groups
            .split(',')
            .map(str::trim)
            .filter(|group| !group.is_empty());
        let database = match word("database") {
            none if none.is_empty() => "postgres".to_owned(),
            named => named,
        };
        let supposed = Supposed {
            agent: word("agent"),
            resource: word("resource"),
            database,
            groups: groups.map(str::to_owned).collect(),
            host: None,
            executable: None,
        };
        let (config, text) = (self.site.config.clone(), fields.get("sql").to_owned());
        if text.len() > MAX_TRIED {
            return Err(Denied::Bad(format!(
                "a statement of more than {MAX_TRIED} bytes is not tried here"
            )));
        }
        // The parser is C, and cannot be told to stop: what is given up goes on and keeps its place.
        let place = self.server.trials.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            Denied::Failed("others try statements right now: try again in a moment".into())
        })?;
        let decided = tokio::task::spawn_blocking(move || {
            let _place = place;
            let tester = trial::policy::Tester::new(&config, supposed)?;
            Ok(serde_json::to_value(tester.text(&text)?)?)
        });
        tried(decided.await)
    }

    async fn try_mask(&self, fields: &Fields) -> Result<Value, Denied> {
        let column = Some(fields.get("column").trim()).filter(|column| !column.is_empty());
        let question = json!({ "column": column, "value": fields.get("value") }).to_string();
        let (config, resource) = (self.site.config.clone(), fields.get("resource").to_owned());
        let masked = tokio::task::spawn_blocking(move || {
            let tester = trial::mask::Tester::new(&config, &resource)?;
            Ok(serde_json::to_value(tester.answer(question.as_bytes())?)?)
        });
        tried(masked.await)
    }
}

fn tried(
    outcome: Result<Result<Value, Unusable>, tokio::task::JoinError>,
) -> Result<Value, Denied> {
    let outcome = outcome.map_err(|error| Denied::Failed(error.to_string()))?;
    outcome.map_err(|why| Denied::Bad(why.to_string()))
}

/// What takes something from an agent says why.
fn given(reason: String) -> Result<String, Denied> {
    match reason.trim().is_empty() {
        true => Err(Denied::Bad("this needs a reason".into())),
        false => Ok(reason),
    }
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}
