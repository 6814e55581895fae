//! What a check found: its state, what was seen, why it matters, and what mends it.

use serde::Serialize;

use crate::cli::visible::is_hidden;

/// Of what others have named, enough to know it by.
const LONGEST: usize = 4000;

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
    /// A command as it can be pasted, for root; `None` where no command alone mends it.
    pub mend: Option<String>,
    /// What to do in words: beside the command, or where there is none.
    pub advice: Option<String>,
}

/// A check by its name, and why anybody should care.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub name: &'static str,
    pub why: &'static str,
}

/// What is to be done. No text that an agent has chosen belongs into the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    command: Option<String>,
    words: Option<String>,
}

/// A command as it can be pasted.
pub fn run(command: impl Into<String>) -> Remedy {
    Remedy {
        command: Some(command.into()),
        words: None,
    }
}

/// What no command does.
pub fn advise(words: impl Into<String>) -> Remedy {
    Remedy {
        command: None,
        words: Some(words.into()),
    }
}

impl Remedy {
    /// What is to be done, or known, beside the command.
    pub fn and(mut self, words: impl Into<String>) -> Self {
        self.words = Some(words.into());
        self
    }
}

impl Check {
    pub const fn new(name: &'static str, why: &'static str) -> Self {
        Self { name, why }
    }

    pub fn ok(self, seen: impl Into<String>) -> Finding {
        self.found(State::Ok, &seen.into(), Remedy::default())
    }

    pub fn warn(self, seen: impl Into<String>, remedy: Remedy) -> Finding {
        self.found(State::Warn, &seen.into(), remedy)
    }

    pub fn fail(self, seen: impl Into<String>, remedy: Remedy) -> Finding {
        self.found(State::Fail, &seen.into(), remedy)
    }

    pub fn unknown(self, seen: impl Into<String>, remedy: Remedy) -> Finding {
        self.found(State::Unknown, &seen.into(), remedy)
    }

    /// Where only root can tell.
    pub fn needs_root(self) -> Finding {
        self.unknown("only root can tell", as_root())
    }

    fn found(self, state: State, seen: &str, remedy: Remedy) -> Finding {
        let Remedy { command, words } = remedy;
        Finding {
            check: self.name,
            about: None,
            state,
            seen: plain(seen),
            why: self.why,
            mend: command.as_deref().map(plain),
            advice: words.as_deref().map(plain),
        }
    }
}

pub fn as_root() -> Remedy {
    run("sudo hoop doctor")
}

impl Finding {
    pub fn about(mut self, what: impl AsRef<str>) -> Self {
        self.about = Some(plain(what.as_ref()));
        self
    }
}

/// One line that a terminal only shows: agents name files, variables and cgroups, and root reads this.
fn plain(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() > LONGEST {
            shown.push('…');
            break;
        }
        match is_hidden(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// A word of a command, whatever is in it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
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
        if let Some(advice) = &finding.advice {
            text += &format!("        do:   {advice}\n");
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
            CHECK.fail("broken", run("mend it").and("look again")),
            CHECK.warn("odd", advise("think")),
            CHECK.needs_root(),
        ];
        insta::assert_snapshot!(text(&findings), @r"
        ok      x.y (agent a): fine
        FAIL    x.y: broken
                why:  it matters
                mend: mend it
                do:   look again
        warn    x.y: odd
                why:  it matters
                do:   think
        unknown x.y: only root can tell
                why:  it matters
                mend: sudo hoop doctor
        1 failures, 1 warnings, 1 unknown, 1 well
        ");
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(json["state"], "fail");
        assert_eq!(json["about"], serde_json::Value::Null);
    }
    #[test]
    fn what_an_agent_has_named_moves_no_terminal_and_begins_no_line() {
        const CHECK: Check = Check::new("x.y", "it matters");
        let named = "/x\n        mend: rm -rf /\u{1b}[2J\u{9b}2K\u{202e}";
        let found = CHECK.fail(named, run("true")).about(named);
        let shown = text(std::slice::from_ref(&found));
        assert_eq!(shown.lines().count(), 4, "{shown}");
        let odd = |c: char| is_hidden(c) && c != '\n';
        assert!(!shown.contains(odd), "{shown:?}");
        assert!(!serde_json::to_string(&found).unwrap().contains(odd));
        let long = CHECK.ok("x".repeat(1 << 20));
        assert!(long.seen.len() < LONGEST + 8);
    }

    #[test]
    fn a_word_of_a_command_stays_one() {
        assert_eq!(quoted("/home/bot"), "/home/bot");
        assert_eq!(quoted("/a b; c"), "'/a b; c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
