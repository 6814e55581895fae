//! What pages show and the API answers: the same, fetched in one place.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::recordings::{self, Search};
use super::serve::Asked;
use crate::config::Config;
use crate::decide::PACKS;
use crate::handover::console::{Denied, Wish};
use crate::replay::{Event, Reader, Story, Told};

/// Events of a recording on one page.
pub const EVENTS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Whoami,
    Status,
    Questions,
    Question,
    /// A search over what was recorded.
    Sessions,
    /// One recording, from an event on.
    Session,
    /// What it looked like on the terminal.
    Cast,
    Policy,
    Masks,
    Audit,
}

impl Asked<'_> {
    pub async fn fetch(&self, data: Data) -> Result<Value, Denied> {
        match data {
            Data::Whoami => self.whoami(),
            Data::Status => self.ask(Wish::Status).await,
            Data::Questions => {
                let all = self.query.is_set("all");
                let from = self.query.get("from").parse().unwrap_or(0);
                self.ask(Wish::Questions { all, from }).await
            }
            Data::Question => self.question().await,
            Data::Sessions => self.sessions(),
            Data::Session => self.session().await,
            Data::Cast => self.cast().await,
            Data::Policy => Ok(policy(&self.site.config)),
            Data::Masks => Ok(masks(&self.site.config)),
            Data::Audit => {
                let all = self.query.is_set("all");
                self.ask(Wish::Audit { all }).await
            }
        }
    }

    fn sessions(&self) -> Result<Value, Denied> {
        let search = Search::of(&self.query).map_err(Denied::Bad)?;
        let index = self
            .server
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(search.run(&index))
    }

    async fn session(&self) -> Result<Value, Denied> {
        let from = self.query.get("from").parse().unwrap_or(0);
        let reader = recordings::open(&self.server.link, self.parameter).await?;
        let session = self.parameter.to_owned();
        let read = tokio::task::spawn_blocking(move || recording(reader, &session, from)).await;
        read.map_err(|error| Denied::Failed(error.to_string()))
    }

    fn whoami(&self) -> Result<Value, Denied> {
        let person = self.person.as_ref().ok_or(Denied::SignIn)?;
        let is = &person.is;
        Ok(json!({
            "name": is.name, "roles": is.roles, "groups": is.groups, "seconds_left": is.left,
            "csrf": person.csrf,
        }))
    }

    /// One question, with earlier ones that are like it.
    async fn question(&self) -> Result<Value, Denied> {
        let question = self.parameter.to_owned();
        let wish = Wish::Similar {
            question: question.clone(),
        };
        let mut shown = self.ask(Wish::Question { question }).await?;
        let similar = self.ask(wish).await?;
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("similar".into(), similar);
        }
        Ok(shown)
    }
}

/// One page of a recording's events.
fn recording(mut reader: Reader, session: &str, from: usize) -> Value {
    let mut story = Story::default();
    let (mut header, mut events, mut seen, mut over) = (Value::Null, Vec::new(), 0_usize, false);
    let (mut problem, mut next) = (None, None);
    'read: loop {
        match reader.next_event() {
            Ok(Some(event)) => {
                over |= matches!(event.told, Told::Seal(..));
                for line in story.tell(event) {
                    if let Event::Session(session) = &line.event {
                        header.clone_from(session);
                    }
                    seen += 1;
                    if seen <= from {
                        continue;
                    }
                    if events.len() >= EVENTS {
                        next = Some(from + EVENTS);
                        break 'read;
                    }
                    events.extend(serde_json::to_value(&line).ok());
                }
            }
            Ok(None) => break,
            // What stands before it is whole, and shown.
            Err(error) => {
                problem = Some(error.to_string());
                break;
            }
        }
    }
    json!({
        "session": session, "header": header, "events": events, "from": from, "next": next,
        "over": over, "problem": problem,
    })
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> Value {
    names.map(Value::from).collect()
}

fn policy(config: &Config) -> Value {
    let packs = config.policy.packs.iter().map(|name| {
        let text = PACKS.iter().find(|(known, _)| known == name);
        json!({ "name": name, "text": text.map(|(_, text)| *text) })
    });
    let files = config.policy.files.iter();
    let files = files.map(|file| json!({ "name": file.name, "text": file.text }));
    json!({
        "packs": packs.collect::<Vec<_>>(),
        "files": files.collect::<Vec<_>>(),
        "agents": names(config.agents.iter().map(|agent| agent.name.as_str())),
        "resources": names(config.resources.iter().map(|resource| resource.name.as_str())),
    })
}

fn masks(config: &Config) -> Value {
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".into());
    let masks = config.masks.iter().map(|mask| {
        let columns = mask.columns.iter();
        let columns: Vec<String> = columns
            .map(|c| [part(&c.schema), part(&c.table), part(&c.column)].join("."))
            .collect();
        let detect: Vec<String> = mask.detect.iter().map(|d| d.name().to_owned()).collect();
        json!({
            "resource": mask.resource.as_str(), "columns": columns, "detect": detect, "how": mask.how,
        })
    });
    json!({
        "masks": masks.collect::<Vec<_>>(),
        "resources": names(config.resources.iter().map(|resource| resource.name.as_str())),
    })
}
