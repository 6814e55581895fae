//! A keeper that is played: it knows one session, and grants what the real one would.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::console::link::Link;
use crate::handover::console::{Denied, FromConsole, Role, ToConsole, Wish};
use crate::handover::{Channel, Side, pair};

/// What was granted.
#[derive(Clone, Default)]
pub struct Played(Arc<Mutex<Vec<Wish>>>);

impl Played {
    pub fn granted(&self) -> Vec<Wish> {
        self.0.lock().unwrap().clone()
    }
}

pub fn play(roles: Option<Vec<Role>>) -> (Arc<Link>, Played) {
    let (keeper, console) = pair().unwrap();
    let keeper = Channel::new(keeper, Side::Keeper).unwrap();
    let console = Arc::new(Channel::new(console, Side::Worker).unwrap());
    let link = Arc::new(Link::new(console.clone()));
    let played = Played::default();
    let granted = played.clone();
    tokio::spawn(async move {
        while let Ok(Some((wish, _))) = keeper.receive::<FromConsole>().await {
            let FromConsole {
                number,
                session,
                wish,
                ..
            } = wish;
            let known = session
                .as_deref()
                .is_some_and(|token| token == super::TOKEN);
            let roles = roles.as_ref().filter(|_| known);
            let answer = answer(roles, &wish).map(|value| value.to_string());
            if answer.is_ok() {
                granted.0.lock().unwrap().push(wish);
            }
            let message = ToConsole::Answer { number, answer };
            keeper.send(&message, None).await.unwrap();
        }
    });
    let hearing = link.clone();
    tokio::spawn(async move {
        while let Ok(Some((message, file))) = console.receive::<ToConsole>().await {
            if let ToConsole::Answer { number, answer } = message {
                hearing.answered(number, answer, file);
            }
        }
    });
    (link, played)
}

fn answer(roles: Option<&Vec<Role>>, wish: &Wish) -> Result<Value, Denied> {
    if let Some(needs) = wish.needs() {
        let roles = roles.ok_or(Denied::SignIn)?;
        if !needs.met_by(roles) {
            return Err(Denied::Role(needs.words()));
        }
    }
    Ok(match wish {
        Wish::Whoami => {
            json!({ "name": "ada", "roles": roles, "groups": ["dba"], "left": 60, "csrf": super::CSRF })
        }
        Wish::Status => status(),
        Wish::Questions { .. } => json!([question("q1", "pending"), question("q2", "used")]),
        Wish::Similar { .. } => json!([question("q2", "used")]),
        Wish::Question { question: id }
        | Wish::Vote { question: id, .. }
        | Wish::Revoke { question: id, .. } => full(id),
        Wish::Kill { session, .. } => json!({ "session": session, "killed": true }),
        Wish::Freeze { session, .. } => json!({ "session": session, "frozen": true }),
        Wish::Thaw { session, .. } => json!({ "session": session, "frozen": false }),
        Wish::Suspend { agent, .. } | Wish::Resume { agent, .. } => json!({ "agent": agent }),
        Wish::Redeem { code } if code == "right" => {
            json!({ "session": super::TOKEN, "seconds": 60 })
        }
        Wish::Redeem { .. } => return Err(Denied::Bad("the code was used".into())),
        Wish::Slack { .. } => return Err(Denied::Bad("its signature is wrong".into())),
        Wish::SignOut => Value::Null,
        Wish::Audit { all } => json!({ "entries": [], "all": all, "complete": true }),
        Wish::Recordings { .. } => json!([]),
        Wish::Recording { session } => {
            return Err(Denied::Absent(format!(
                "no session {session} is recorded here"
            )));
        }
        Wish::SignIn { .. } | Wish::Worker => {
            return Err(Denied::Failed("this is a play".into()));
        }
    })
}

fn question(id: &str, state: &str) -> Value {
    json!({
        "question": id, "state": state, "asked": "2026-11-27T10:00:00Z",
        "until": "2026-11-27T10:15:00Z", "settled": "2026-11-27T10:00:00Z",
        "agent": "bot", "resource": "orders", "database": "shop",
        "session": "06c4b9d1s0abcdefghjkmnpqrs", "scope": "statement",
        "message": "bot needs <b>the</b> approval of dba", "rules": ["changes"],
        "statement": "DELETE FROM t WHERE note = '<script>alert(1)</script>'\u{202e}",
        "fingerprint": "f", "by": null, "reason": "", "needs": ["dba"], "approved_by": [],
        "awaited": true, "in_transaction": true, "estimate": 42,
    })
}

fn full(id: &str) -> Value {
    let mut full = question(id, "pending");
    let more = json!({
        "asking": {
            "agent": "bot", "subject": "0oa1", "resource": "orders", "database": "shop",
            "login": "hoop_orders", "session": "06c4b9d1s0abcdefghjkmnpqrs", "message": "m",
            "caller": {
                "pid": 7, "uid": 1000, "executable": "/usr/bin/psql", "command": "psql -c <x>",
                "cgroup": "agents.slice/bot.service", "parents": ["bash", "systemd"],
            },
            "statements": [{
                "text": "DELETE FROM t WHERE note = '<script>alert(1)</script>'\u{202e}",
                "parameters": ["<i>", null],
            }],
            "demands": [{
                "rule": "changes", "approvals": 1, "groups": [["dba"]], "scope": "statement",
                "lasts": 600, "reason": false, "break_glass": ["oncall"],
            }],
        },
        "change": {
            "kind": "changed", "note": "It would change <b>this</b>.",
            "diff": "@@ -1,2 +1,2 @@ spec\n kind: <x>\n-a: <i>\n+a: \u{202e}<script>alert(2)</script>\n",
        },
        "owners": ["olga"], "standing": { "state": "pending", "reason": "" },
        "votes": [{ "at": "2026-11-27T10:01:00Z", "who": "ada", "verdict": "approve", "reason": "<b>", "via": "console", "break_glass": false }],
    });
    for (key, value) in more.as_object().unwrap() {
        full[key] = value.clone();
    }
    full
}

fn status() -> Value {
    json!({
        "version": "0", "pid": 1, "since": "2026-11-27T10:00:00Z", "config": "/etc/hoop/hoop.toml",
        "well": false, "reload": { "epoch": 1, "at": "2026-11-27T10:00:00Z", "error": "line <3>" },
        "worker": { "pid": 2, "ready": true, "restarts": 0 }, "attached_to": "agents.slice",
        "hooks": [{ "name": "connect4", "attached": false, "problem": "gone" }],
        "agents": [{
            "name": "bot", "mode": "enforce", "kind": "service", "cgroups": ["agents.slice/bot.service"],
            "identities": [{ "subject": "0oa1", "looked_at": "2026-11-27T10:00:00Z", "refused": null }],
            "suspended": [],
        }],
        "bypasses": [{
            "agent": "bot", "since": "2026-11-27T10:00:00Z", "until": "2026-11-27T10:30:00Z",
            "left_s": 900, "by": "ada (as root)", "reason": "<the issuer is down>",
            "cgroups": ["agents.slice/bot.service"],
        }],
        "sessions": [{
            "session": "06c4b9d1s0abcdefghjkmnpqrs", "since": "2026-11-27T10:00:00Z", "agent": "bot",
            "identity": "0oa1", "resource": "orders", "database": "shop", "login": "hoop_orders",
            "pid": 7, "executable": "/usr/bin/psql",
        }],
        "approvals": { "pending": 1, "problem": null },
        "channels": [{ "name": "ops", "waiting": 1, "delivered": 0, "given_up": 0, "problem": "it answers 500" }],
        "counters": { "accepted": 1, "handed_over": 1, "no_origin": 0, "busy": 0, "kernel_refused": 3 },
        "identity": {},
    })
}
