//! Agents that may do nothing until somebody lets them go on. The keeper keeps the list, on disk; the
//! worker refuses by it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Reason;
use crate::ids::AgentName;

/// One agent, or one instance of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub agent: AgentName,
    /// Only this instance; `None` suspends all.
    pub instance: Option<String>,
    pub since: SystemTime,
    pub by: By,
    /// Why; agents and operators read it.
    pub why: String,
}

/// Who suspended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Somebody on the command line.
    Operator,
    /// The issuer, which called its token inactive.
    Issuer,
    /// An event that the issuer sent.
    Event,
}

/// All that are suspended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspensions(Vec<Suspension>);

impl Suspensions {
    /// Adds one, unless it is suspended already. Says whether that changed anything.
    pub fn add(&mut self, suspension: Suspension) -> bool {
        let same = |known: &Suspension| {
            known.agent == suspension.agent
                && (known.instance.is_none() || known.instance == suspension.instance)
                // An operator's word counts where the issuer's does not.
                && (known.by == By::Operator || suspension.by != By::Operator)
        };
        let new = !self.0.iter().any(same);
        if new {
            self.0.push(suspension);
        }
        new
    }

    /// Takes away those of the agent, or of one instance; says how many there were.
    pub fn remove(&mut self, agent: &str, instance: Option<&str>) -> usize {
        let before = self.0.len();
        self.0.retain(|known| {
            let meant = instance.is_none() || known.instance.as_deref() == instance;
            known.agent.as_str() != agent || !meant
        });
        before - self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Suspension> {
        self.0.iter()
    }

    /// Why this agent may do nothing, if that is so.
    pub fn find(&self, agent: &AgentName, instance: Option<&str>) -> Option<&Suspension> {
        let mut found = self.0.iter().filter(|known| {
            known.agent == *agent
                && (known.instance.is_none() || known.instance.as_deref() == instance)
        });
        let first = found.next()?;
        let operator = found.find(|known| known.by == By::Operator);
        Some(
            operator
                .filter(|_| first.by != By::Operator)
                .unwrap_or(first),
        )
    }
}

impl Suspension {
    pub fn reason(&self) -> Reason {
        let since = OffsetDateTime::from(self.since);
        let since = since.replace_nanosecond(0).unwrap_or(since);
        Reason::Suspended {
            since: since.format(&Rfc3339).unwrap_or_default(),
            why: self.why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspension(agent: &str, instance: Option<&str>) -> Suspension {
        Suspension {
            agent: agent.into(),
            instance: instance.map(str::to_owned),
            since: SystemTime::UNIX_EPOCH,
            by: By::Operator,
            why: "test".into(),
        }
    }

    #[test]
    fn an_agent_and_its_instances() {
        let mut all = Suspensions::default();
        assert!(all.add(suspension("bot", Some("1"))));
        assert!(!all.add(suspension("bot", Some("1"))));
        assert!(all.find(&"bot".into(), Some("1")).is_some());
        assert!(all.find(&"bot".into(), Some("2")).is_none());
        assert!(all.find(&"bot".into(), None).is_none());
        assert!(all.add(suspension("bot", None)));
        assert!(!all.add(suspension("bot", Some("3"))), "all are");
        assert!(all.find(&"bot".into(), Some("2")).is_some());
        assert!(all.find(&"other".into(), None).is_none());
        assert_eq!(all.remove("bot", Some("1")), 1);
        assert_eq!(all.remove("bot", None), 1);
        assert_eq!(all.remove("bot", None), 0);
    }

    #[test]
    fn the_reason_says_since_when_and_what_to_do() {
        let said = suspension("bot", None).reason().to_string();
        assert!(said.contains("1970-01-01T00:00:00Z: test"), "{said}");
        assert!(said.contains("hoop agent resume"), "{said}");
    }
}
