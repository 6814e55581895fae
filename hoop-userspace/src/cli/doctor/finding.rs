//! What a check found: its state, what was seen, why it matters, and the command that mends it.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Something works as it is, and could be better.
    Warn,
    /// Something does not work, or a way past hoop is open.
    Fail,
    /// It could not be told, which is never taken for well.
    Unknown,
}

/// One finding. The keys are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    /// Which agent, resource, issuer or hook; `None`: the host.
    pub about: Option<String>,
    pub state: State,
    pub seen: String,
    pub why: &'static str,
    /// A command, or what to change; `None` where nothing is to be done.
    pub mend: Option<String>,
}

/// A check by its name, and why anybody should care.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub name: &'static str,
    pub why: &'static str,
}

impl Check {
    pub const fn new(name: &'static str, why: &'static str) -> Self {
        Self { name, why }
    }

    pub fn ok(self, seen: impl Into<String>) -> Finding {
        self.found(State::Ok, seen.into(), None)
    }

    pub fn warn(self, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.found(State::Warn, seen.into(), Some(mend.into()))
    }

    pub fn fail(self, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.found(State::Fail, seen.into(), Some(mend.into()))
    }

    pub fn unknown(self, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.found(State::Unknown, seen.into(), Some(mend.into()))
    }

    /// Where only root can tell.
    pub fn needs_root(self) -> Finding {
        self.unknown("only root can tell", "sudo hoop doctor")
    }

    fn found(self, state: State, seen: String, mend: Option<String>) -> Finding {
        Finding {
            check: self.name,
            about: None,
            state,
            seen,
            why: self.why,
            mend,
        }
    }
}

impl Finding {
    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }
}

/// How many there are of each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub ok: usize,
    pub warn: usize,
    pub fail: usize,
    pub unknown: usize,
}

impl Summary {
    pub fn of(findings: &[Finding]) -> Self {
        let count = |state| findings.iter().filter(|f| f.state == state).count();
        Self {
            ok: count(State::Ok),
            warn: count(State::Warn),
            fail: count(State::Fail),
            unknown: count(State::Unknown),
        }
    }
}

/// For people: what is well in a line, the rest with its reason and its remedy.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Warn => "warn   ",
            State::Fail => "FAIL   ",
            State::Unknown => "unknown",
        };
        let about = finding.about.as_ref();
        let about = about.map_or(String::new(), |about| format!(" ({about})"));
        text += &format!("{mark} {}{about}: {}\n", finding.check, finding.seen);
        if finding.state == State::Ok {
            continue;
        }
        text += &format!("        why:  {}\n", finding.why);
        if let Some(mend) = &finding.mend {
            text += &format!("        mend: {mend}\n");
        }
    }
    let Summary {
        ok,
        warn,
        fail,
        unknown,
    } = Summary::of(findings);
    text + &format!("{fail} failures, {warn} warnings, {unknown} unknown, {ok} well\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_is_shown_with_reason_and_remedy() {
        const CHECK: Check = Check::new("x.y", "it matters");
        let findings = [
            CHECK.ok("fine").about("agent a"),
            CHECK.fail("broken", "mend it"),
            CHECK.needs_root(),
        ];
        insta::assert_snapshot!(text(&findings), @r"
        ok      x.y (agent a): fine
        FAIL    x.y: broken
                why:  it matters
                mend: mend it
        unknown x.y: only root can tell
                why:  it matters
                mend: sudo hoop doctor
        1 failures, 0 warnings, 1 unknown, 1 well
        ");
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(json["state"], "fail");
        assert_eq!(json["about"], serde_json::Value::Null);
    }
}
