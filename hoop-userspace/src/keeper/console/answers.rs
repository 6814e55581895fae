//! What the console's process is answered: by whom it is wished for, whether that person may, and
//! what is written down of it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json};
use time::{Date, OffsetDateTime};

use super::button;
use super::lists::Lists;
use super::roles;
use super::sessions::{Bounds, Use, Who};
use super::slack;
use crate::ask::{Ballot, Verdict, Voter};
use crate::handover::Channel;
use crate::handover::ToWorker;
use crate::handover::console::{Denied, FromConsole, Needs, Role, SignedIn, ToConsole, Wish};
use crate::ids::SessionId;
use crate::keeper::journal::Entry;
use crate::keeper::questions::{Questions, id, spoken};
use crate::keeper::{Parts, control, lock};
use crate::record::Store;

/// For a directory of accounts to say who somebody is.
const NAMED_WITHIN: Duration = Duration::from_secs(3);
/// For a worker to be there.
const WORKER_WITHIN: Duration = Duration::from_secs(1);
/// Characters of what somebody wrote.
const REASON: usize = 1000;
/// Of a person's name and groups as the issuer writes them.
const MAX_LOGIN: usize = 256;
const MAX_GROUPS: usize = 500;

pub struct Answers {
    parts: Arc<Parts>,
    questions: Arc<Questions>,
    pressed: Mutex<slack::Seen>,
    lists: Arc<Lists>,
    /// The worker's account, whose recordings are; it stays that while the keeper lives.
    owner: Option<u32>,
}

/// Who wishes something, and may.
struct Person {
    voter: Voter,
    roles: Vec<Role>,
    votes: bool,
    left: Duration,
    csrf: String,
    token: String,
}

/// What is answered, and what was opened.
type Granted = Result<(Value, Option<OwnedFd>), Denied>;

impl Answers {
    pub fn new(parts: Arc<Parts>, questions: Arc<Questions>) -> Self {
        let worker = nix::unistd::User::from_name(&parts.config().worker.user);
        let owner = worker.ok().flatten().map(|user| user.uid.as_raw());
        Self {
            parts,
            questions,
            pressed: Mutex::default(),
            lists: Arc::default(),
            owner,
        }
    }

    /// Grants a wish, or says why not.
    pub async fn answer(&self, from: FromConsole, channel: &Channel) {
        let FromConsole {
            number,
            session,
            background,
            wish,
        } = from;
        let how = match background {
            true => Use::Background,
            false => Use::Person,
        };
        let session = session.as_deref().map(String::as_str);
        let (answer, file) = match self.grant(session, how, wish).await {
            Ok((value, file)) => (Ok(value.to_string()), file),
            Err(denied) => (Err(denied), None),
        };
        let message = ToConsole::Answer { number, answer };
        let file = file.as_ref().map(AsFd::as_fd);
        if let Err(error) = channel.send(&message, file).await {
            tracing::debug!(%error, "the console could not be answered");
        }
    }

    async fn grant(&self, session: Option<&str>, how: Use, wish: Wish) -> Granted {
        let Some(needs) = wish.needs() else {
            return self.of_the_console(wish).await;
        };
        let person = self.person(session, how).await?;
        if !needs.met_by(&person.roles) {
            self.admin(&person.voter, "denied", "", needs.words().as_str(), None);
            return Err(Denied::Role(needs.words()));
        }
        if needs == Needs::Vote && !person.votes {
            let why = format!(
                "no [[approver]] names {} by `login`, so hoop cannot tell whom this would count for",
                person.voter.name
            );
            self.admin(&person.voter, "denied", "", "", Some(&why));
            return Err(Denied::Bad(why));
        }
        match needs {
            Needs::Administer => self.administer(&person.voter, wish).await,
            _ => self
                .of_a_person(person, wish)
                .await
                .map(|value| (value, None)),
        }
    }

    async fn person(&self, session: Option<&str>, how: Use) -> Result<Person, Denied> {
        let token = session.ok_or(Denied::SignIn)?;
        let bounds = self.bounds()?;
        let found = lock(&self.parts.signed_in).find(token, how, Instant::now(), bounds);
        let found = found.ok_or(Denied::SignIn)?;
        let known = self.known(&found.who).await?;
        Ok(Person {
            voter: known.voter,
            roles: known.roles,
            votes: known.votes,
            left: found.left,
            csrf: found.csrf,
            token: token.to_owned(),
        })
    }

    /// Who that is now. A directory that does not answer holds nobody else up.
    async fn known(&self, who: &Who) -> Result<roles::Known, Denied> {
        let (config, who) = (self.parts.config(), who.clone());
        let looked_up = tokio::task::spawn_blocking(move || roles::person(&config, &who));
        match tokio::time::timeout(NAMED_WITHIN, looked_up).await {
            Ok(Ok(known)) => known.map_err(|no| Denied::Failed(no.to_string())),
            Ok(Err(error)) => Err(Denied::Failed(error.to_string())),
            Err(_) => Err(Denied::Failed("it cannot be looked up who asks".into())),
        }
    }

    fn bounds(&self) -> Result<Bounds, Denied> {
        let config = self.parts.config();
        let console = config.console.as_ref().ok_or(Denied::SignIn)?;
        Ok(Bounds {
            idle: console.idle,
            lifetime: console.lifetime,
        })
    }

    /// What the console may have by itself.
    async fn of_the_console(&self, wish: Wish) -> Granted {
        match wish {
            Wish::Redeem { code } => self.redeem(&code).await.map(plain),
            Wish::SignIn { login, groups } => self.sign_in(login, groups).await.map(plain),
            Wish::Slack {
                timestamp,
                signature,
                body,
            } => self.slack(&timestamp, &signature, &body).await.map(plain),
            Wish::Recordings { from } => self.recordings(from).await.map(plain),
            Wish::Recording { session } => {
                let file = self.recording(&session).await?;
                Ok((Value::Null, Some(file.into())))
            }
            Wish::Worker => self.worker().await,
            _ => Err(Denied::SignIn),
        }
    }

    async fn redeem(&self, code: &str) -> Result<Value, Denied> {
        let account = lock(&self.parts.signed_in).redeem(code, Instant::now());
        let account = account.ok_or_else(|| {
            Denied::Bad(
                "the code was used, or is too old: ask for another with `hoop console login`"
                    .into(),
            )
        })?;
        self.begin(Who::Account(account), "local").await
    }

    /// The ID token was read by the console, which has to be believed here: every sign-in is in
    /// the ledger.
    async fn sign_in(&self, login: String, mut groups: Vec<String>) -> Result<Value, Denied> {
        let config = self.parts.config();
        let console = config.console.as_ref();
        if console.is_none_or(|console| console.sign_in.is_none()) {
            return Err(Denied::Bad("nobody signs in by an issuer here".into()));
        }
        if login.is_empty() || login.len() > MAX_LOGIN || login.chars().any(char::is_control) {
            return Err(Denied::Bad("the issuer names nobody".into()));
        }
        groups.truncate(MAX_GROUPS);
        let who = Who::Login { login, groups };
        let known = self.known(&who).await?;
        if known.roles.is_empty() {
            self.admin(
                &known.voter,
                "sign_in",
                "",
                "no role",
                Some("no group has a role here"),
            );
            return Err(Denied::Role(Needs::See.words()));
        }
        self.begin(who, "issuer").await
    }

    async fn begin(&self, who: Who, how: &str) -> Result<Value, Denied> {
        let bounds = self.bounds()?;
        let token = token().map_err(Denied::Failed)?;
        let csrf = self::token().map_err(Denied::Failed)?;
        let known = self.known(&who).await?;
        // Written first: nobody is signed in whom the ledger does not know of.
        let signed_in = Entry::SignedIn {
            who: known.voter.name,
            how: how.to_owned(),
            roles: known.roles.iter().map(|r| r.name().to_owned()).collect(),
        };
        let written = self.parts.journal.must(&signed_in);
        written.map_err(Denied::Failed)?;
        lock(&self.parts.signed_in).begin(&token, csrf, who, Instant::now(), bounds);
        Ok(json!({ "session": token, "seconds": bounds.lifetime.as_secs() }))
    }

    async fn slack(&self, timestamp: &str, signature: &str, body: &[u8]) -> Result<Value, Denied> {
        let read = {
            let config = self.parts.config();
            let mut seen = lock(&self.pressed);
            let now = SystemTime::now();
            slack::read(&config, &mut seen, now, timestamp, signature, body)
        };
        let pressed = read.map_err(|why| {
            self.parts.journal.write(&Entry::SlackRefused {
                why: why.clone(),
                unwritten: 0,
            });
            Denied::Bad(why)
        })?;
        let question = button::question(&pressed.value).to_owned();
        self.is_button(&question, &pressed.value)?;
        let reason = match pressed.verdict {
            Verdict::Approve => String::new(),
            // A button has no room for words, and a refusal needs some.
            Verdict::Refuse => "refused by a button in Slack".to_owned(),
        };
        let ballot = Ballot {
            voter: pressed.voter,
            verdict: pressed.verdict,
            reason,
            break_glass: false,
        };
        let voted = match id(&question) {
            Ok(id) => self.parts.clerk.vote(id, ballot).await,
            Err(why) => Err(why),
        };
        Ok(json!({
            "response_url": pressed.response_url,
            "question": question,
            "button": pressed.value,
            "voted": voted.as_ref().ok(),
            "problem": voted.as_ref().err(),
        }))
    }

    /// A button counts for the question that it was made for, and what that asks.
    fn is_button(&self, question: &str, value: &str) -> Result<(), Denied> {
        let config = self.parts.config();
        let slack = config.console.as_ref().and_then(|c| c.slack.as_ref());
        let shown = id(question).and_then(|id| self.parts.clerk.show(id));
        let asking = shown.as_ref().ok().and_then(|shown| shown.get("asking"));
        let ours = slack.zip(asking);
        if ours.is_some_and(|(slack, asking)| button::is_ours(slack, value, asking)) {
            return Ok(());
        }
        let why = "the button is none of hoop's, or its question is long over".to_owned();
        self.parts.journal.write(&Entry::SlackRefused {
            why: why.clone(),
            unwritten: 0,
        });
        Err(Denied::Bad(why))
    }

    async fn of_a_person(&self, person: Person, wish: Wish) -> Result<Value, Denied> {
        let clerk = &self.parts.clerk;
        match wish {
            Wish::Whoami => {
                let signed_in = SignedIn {
                    name: person.voter.name,
                    roles: person.roles,
                    groups: person.voter.groups,
                    left: person.left.as_secs(),
                    csrf: person.csrf,
                };
                to_value(&signed_in)
            }
            Wish::SignOut => {
                lock(&self.parts.signed_in).end(&person.token);
                self.admin(&person.voter, "sign_out", "", "", None);
                Ok(Value::Null)
            }
            Wish::Status => to_value(&self.questions.status().await),
            Wish::Questions { all, from } => {
                let (lists, clerk) = (self.lists.clone(), clerk.clone());
                let page = tokio::task::spawn_blocking(move || lists.page(&clerk, all, from));
                page.await
                    .map_err(|error| Denied::Failed(error.to_string()))
            }
            Wish::Audit { all } => Ok(self.parts.journal.recent().shown(all)),
            Wish::Similar { question } => {
                let id = id(&question).map_err(Denied::Absent)?;
                let case = clerk.case(id).map_err(Denied::Absent)?;
                let (lists, clerk) = (self.lists.clone(), clerk.clone());
                let found = tokio::task::spawn_blocking(move || lists.similar(&clerk, &case));
                found
                    .await
                    .map_err(|error| Denied::Failed(error.to_string()))
            }
            Wish::Question { question } => {
                let id = id(&question).map_err(Denied::Absent)?;
                clerk.show(id).map_err(Denied::Absent)
            }
            Wish::Vote {
                question,
                verdict,
                reason,
                break_glass,
            } => {
                let ballot = Ballot {
                    voter: person.voter,
                    verdict,
                    reason: spoken(&reason, REASON),
                    break_glass,
                };
                let id = id(&question).map_err(Denied::Absent)?;
                clerk.vote(id, ballot).await.map_err(Denied::Bad)
            }
            Wish::Revoke { question, reason } => {
                let id = id(&question).map_err(Denied::Absent)?;
                let reason = spoken(&reason, REASON);
                let revoked = clerk.revoke(id, person.voter, reason).await;
                revoked.map_err(Denied::Bad)
            }
            _ => Err(Denied::Bad("nobody may wish for this".into())),
        }
    }

    async fn administer(&self, voter: &Voter, wish: Wish) -> Granted {
        let questions = &self.questions;
        let (action, about, reason) = match &wish {
            Wish::Kill { session, reason } => ("kill", session, reason),
            Wish::Freeze { session, reason } => ("freeze", session, reason),
            Wish::Thaw { session, reason } => ("thaw", session, reason),
            Wish::Suspend { agent, reason } => ("suspend", agent, reason),
            Wish::Resume { agent, reason } => ("resume", agent, reason),
            _ => return Err(Denied::Bad("nobody may wish for this".into())),
        };
        let (about, reason) = (spoken(about, 200), reason.clone());
        // Written first: whoever steers agents does it in the ledger or not at all.
        let entry = entry(voter, action, &about, &reason, None);
        let written = self.parts.journal.must(&entry);
        written.map_err(Denied::Failed)?;
        let answer = match &wish {
            Wish::Kill { session, reason } => questions.kill(session, reason).await,
            Wish::Freeze { session, reason } => {
                questions.freeze(session, &voter.name, reason, None).await
            }
            Wish::Thaw { session, reason } => questions.thaw(session, &voter.name, reason).await,
            Wish::Suspend { agent, reason } => questions.suspend(agent, None, reason),
            Wish::Resume { agent, reason } => questions.resume(agent, None, reason),
            _ => return Err(Denied::Bad("nobody may wish for this".into())),
        };
        match answer {
            control::Answer::Ok(value) => Ok(plain(value)),
            control::Answer::Error(why) => {
                self.admin(voter, action, &about, &reason, Some(&why));
                Err(Denied::Bad(why))
            }
        }
    }

    async fn recordings(&self, from: Option<String>) -> Result<Value, Denied> {
        let directory = self.parts.config().record.directory.clone();
        let from = from.and_then(|from| from.parse().ok());
        let listed = tokio::task::spawn_blocking(move || listed(&directory, from)).await;
        listed
            .map(|names| json!(names))
            .map_err(|error| Denied::Failed(error.to_string()))
    }

    async fn recording(&self, session: &str) -> Result<File, Denied> {
        let id: SessionId = session
            .parse()
            .map_err(|error: crate::ids::BadSessionId| Denied::Absent(error.to_string()))?;
        let directory = self.parts.config().record.directory.clone();
        let owner = self.owner;
        let opened = tokio::task::spawn_blocking(move || open(&directory, id, owner)).await;
        opened
            .ok()
            .flatten()
            .ok_or_else(|| Denied::Absent(format!("no session {id} is recorded here")))
    }

    /// A connection to the worker, as if it had been accepted.
    async fn worker(&self) -> Granted {
        let failed = |why: String| Denied::Failed(why);
        let worker = self.parts.worker.ready(WORKER_WITHIN).await;
        let worker = worker.ok_or_else(|| failed("no worker is ready".into()))?;
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|error| failed(error.to_string()))?;
        let sending = worker.send(&ToWorker::Console, Some(theirs.as_fd()));
        match tokio::time::timeout(WORKER_WITHIN, sending).await {
            Ok(Ok(())) => Ok((Value::Null, Some(ours.into()))),
            _ => Err(failed("the worker takes nothing".into())),
        }
    }

    fn admin(&self, who: &Voter, action: &str, about: &str, reason: &str, problem: Option<&str>) {
        let entry = entry(who, action, about, reason, problem);
        self.parts.journal.write(&entry);
    }
}

fn entry(who: &Voter, action: &str, about: &str, reason: &str, problem: Option<&str>) -> Entry {
    Entry::Admin {
        who: who.name.clone(),
        via: who.via.to_owned(),
        action: action.to_owned(),
        about: about.to_owned(),
        reason: spoken(reason, 200),
        problem: problem.map(str::to_owned),
    }
}

fn plain(value: Value) -> (Value, Option<OwnedFd>) {
    (value, None)
}

fn to_value(value: &impl serde::Serialize) -> Result<Value, Denied> {
    serde_json::to_value(value).map_err(|error| Denied::Failed(error.to_string()))
}

/// What nobody guesses: 256 bits, as base64url.
pub fn token() -> Result<String, String> {
    let mut random = [0; 32];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| "the system has no randomness")?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// Ids of recordings, oldest first: all, or those that began on the day of `from` or later.
fn listed(directory: &Path, from: Option<SessionId>) -> Vec<String> {
    let Some(from) = from else {
        return names(directory);
    };
    let today = OffsetDateTime::now_utc().date();
    // A clock that went back leaves one day's names out at most.
    let mut day = began(from);
    let mut found = Vec::new();
    while day <= today.next_day().unwrap_or(today) {
        found.extend(names(&folder(directory, day)));
        match day.next_day() {
            Some(next) => day = next,
            None => break,
        }
    }
    let from = from.to_string();
    found.retain(|name| *name >= from);
    found
}

fn names(directory: &Path) -> Vec<String> {
    let files = Store::files(directory).into_iter();
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    files.filter_map(stem).collect()
}

/// The day that a session's id begins with.
fn began(id: SessionId) -> Date {
    let millis = id.as_bytes().iter().take(6);
    let millis = millis.fold(0_i64, |all, byte| all << 8 | i64::from(*byte));
    let began = OffsetDateTime::from_unix_timestamp(millis / 1000);
    began.unwrap_or(OffsetDateTime::UNIX_EPOCH).date()
}

fn folder(directory: &Path, day: Date) -> PathBuf {
    directory.join(below(day))
}

fn below(day: Date) -> String {
    format!(
        "{:04}/{:02}/{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

/// Opens a recording. Its folder is the worker's, who could put a link there: none is followed, and
/// nothing is opened that is not the worker's own.
fn open(directory: &Path, id: SessionId, owner: Option<u32>) -> Option<File> {
    let root = File::open(directory).ok()?;
    let day = began(id);
    // A session that began at midnight is recorded under either day.
    let days = [Some(day), day.next_day(), day.previous_day()];
    days.into_iter().flatten().find_map(|day| {
        let path = format!("{}/{id}.{}", below(day), crate::record::EXTENSION);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = openat2(&root, path, flags, Mode::empty(), resolve).ok()?;
        let file = File::from(opened);
        let metadata = file.metadata().ok()?;
        let own = metadata.uid() == 0 || Some(metadata.uid()) == owner;
        (metadata.is_file() && metadata.nlink() == 1 && own).then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Uid;

    #[test]
    fn a_recording_is_opened_and_no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let id = SessionId::new(SystemTime::now(), [7; 10]);
        let day = folder(base.path(), began(id));
        std::fs::create_dir_all(&day).unwrap();
        let path = day.join(format!("{id}.hoop"));
        let own = Some(Uid::effective().as_raw());
        assert!(open(base.path(), id, own).is_none());
        std::fs::write(&path, "x").unwrap();
        assert!(open(base.path(), id, own).is_some());
        assert_eq!(listed(base.path(), Some(id)), [id.to_string()]);
        assert_eq!(listed(base.path(), None), [id.to_string()]);

        let other = day.join("secret");
        std::fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(open(base.path(), id, own).is_none(), "a link was followed");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        assert!(open(base.path(), id, own).is_none(), "two names");
    }
}
