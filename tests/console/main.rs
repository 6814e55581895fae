//! The console as people use it: in a real browser, against a real issuer, a real daemon and a
//! psql that waits.

mod player;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hoop_tests::browser::Browser;
use hoop_tests::{AgentSettings, Client, PATIENCE, Place, Settings, WRITER, Who, World, wait};
use serde_json::Value;

const PEOPLE: &str = r#"
[[approver]]
name = "ada"
user = "games"
login = "ada@acme.example"
groups = ["dba"]

[[approver]]
name = "olga"
user = "lp"
login = "olga@acme.example"
groups = ["dba"]

[[mask]]
resource = "web"
detect = ["card"]
how = "redact"
"#;

const RULES: &str = r#"
@id("reads") permit (principal, action == Action::"sql:read", resource);

@id("changes") @approvers("dba") @ttl("5m")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "kept" };

@id("host") permit (principal, action in Action::"ssh", resource);
@id("host-unknown") permit (principal, action == Action::"ssh:unknown", resource);
"#;

struct Site {
    world: World,
    url: String,
    browser: Mutex<Browser>,
}

impl Site {
    fn start() -> Self {
        let place = Place::make().unwrap();
        let listen = format!("{}:8443", place.address(30));
        let mut agent = AgentSettings::new(WRITER);
        agent.owner = "olga";
        let settings = Settings {
            agents: vec![agent],
            masks: vec![("public.users.ssn".to_owned(), "partial")],
            packs: Vec::new(),
            policies: vec![("rules.cedar", RULES.to_owned())],
            secrets: vec![
                ("console-secret", "hoop-console-secret"),
                ("slack-signing", "slack-signing-secret"),
            ],
            console: format!("http://{listen}"),
            ssh: Some(r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#),
            people: vec![
                ("ada@acme.example", &["staff", "dbas"]),
                ("olga@acme.example", &["dbas"]),
                ("vic@acme.example", &["staff"]),
                ("audrey@acme.example", &["revision"]),
                ("adam@acme.example", &["platform"]),
                ("eve@acme.example", &["strangers"]),
            ],
            more: format!(
                "{PEOPLE}\n[console]\nlisten = \"{listen}\"\nuser = \"www-data\"\nissuer = \"okta\"\n\
                 client_id = \"hoop-console\"\nsecret = {{ file = \"console-secret\" }}\n\
                 roles = {{ viewer = [\"staff\"], approver = [\"dbas\"], auditor = [\"revision\"], admin = [\"platform\"] }}\n\
                 slack = {{ signing_secret = {{ file = \"slack-signing\" }}, users = {{ U1 = \"ada\" }} }}\n"
            ),
            ..Settings::default()
        };
        let world = World::start_in(place, settings).expect("a world for the console");
        world
            .postgres
            .ask("SET ROLE orders_app; CREATE TABLE kept (id int, note text);")
            .unwrap();
        let browser = Mutex::new(Browser::start(&world.place).unwrap());
        let url = world.settings.console.clone();
        Self {
            world,
            url,
            browser,
        }
    }

    /// The browser, for one test at a time, as that person, who is signed in.
    fn browse(&self, login: &str) -> MutexGuard<'_, Browser> {
        let mut browser = self.browser.lock().unwrap_or_else(PoisonError::into_inner);
        browser.person(login).unwrap();
        browser.go(&format!("{}/", self.url)).unwrap();
        if browser.url().unwrap().contains("/sign-in") {
            self.sign_in(&mut browser, login);
        }
        browser
    }

    fn sign_in(&self, browser: &mut Browser, login: &str) {
        browser.click("text=Sign in with okta").unwrap();
        browser.fill("input[name=login]", login).unwrap();
        browser.click("button").unwrap();
    }

    fn question(&self, marker: &str) -> Option<Value> {
        let list = self
            .world
            .hoop(&["approvals", "list", "--all", "--json"])
            .unwrap();
        let list = list.ok().unwrap().json_lines().unwrap();
        let about = |q: &Value| q["statement"].as_str().is_some_and(|s| s.contains(marker));
        list.into_iter().rev().find(about)
    }

    fn held(&self, marker: &str) -> String {
        let waits = || {
            let question = self.question(marker)?;
            (question["awaited"] == true).then_some(question)
        };
        wait(marker, waits)["question"].as_str().unwrap().to_owned()
    }

    fn insert(&self, note: &str) -> Client {
        Client::psql(
            &self.world,
            &[&format!(
                "INSERT INTO kept VALUES (1, '{note}') RETURNING note"
            )],
        )
    }

    /// Searches until there is something: recordings are read a moment after they are written.
    fn search(&self, browser: &mut Browser, query: &str) {
        let until = Instant::now() + Duration::from_secs(15);
        loop {
            browser
                .go(&format!("{}/sessions?{query}", self.url))
                .unwrap();
            let page = browser.text("main").unwrap();
            if page.contains("etl-bot") {
                return;
            }
            assert!(Instant::now() < until, "{query}: {page}");
        }
    }

    /// No page may break its own policy, fail, or shut somebody out.
    fn is_sound(&self, browser: &mut Browser, name: &str) {
        browser.picture(name).unwrap();
        let bad: Vec<String> = browser
            .violations()
            .unwrap()
            .into_iter()
            .filter(|found| found.contains("\"serious\"") || found.contains("\"critical\""))
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:#?}");
        let complaints = browser.complaints().unwrap();
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    }
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(Site::start)
}

#[test]
fn a_held_statement_appears_by_itself_is_approved_in_the_browser_and_runs() {
    let site = site();
    let mut browser = site.browse("ada@acme.example");
    browser.click("nav >> text=Approvals").unwrap();
    let client = site.insert("approved one");
    let question = site.held("approved one");
    // By itself, since nothing is clicked.
    let waited = browser
        .wait(&format!("a[href='/approvals/{question}']"))
        .unwrap();
    assert!(waited < 1000, "it took {waited} ms to appear");
    site.is_sound(&mut browser, "inbox");
    browser
        .click(&format!("a[href='/approvals/{question}']"))
        .unwrap();
    let page = browser.text("main").unwrap();
    for word in [
        "INSERT INTO kept",
        "approved one",
        "psql",
        "changes",
        "etl-bot",
        "dba",
        "olga",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    site.is_sound(&mut browser, "approval");
    browser
        .fill("form:has(button.good) textarea", "ticket 4711")
        .unwrap();
    browser.click("button.good").unwrap();
    let ran = client.end();
    assert_eq!(ran.stdout, "approved one\nINSERT 0 1\n", "{}", ran.stderr);
    browser.wait("h1 >> text=used").unwrap();
    let page = browser.text("main").unwrap();
    assert!(
        page.contains("ticket 4711") && page.contains("ada"),
        "{page}"
    );
}

#[test]
fn a_refusal_is_read_in_psql_and_nobody_answers_for_oneself_or_without_the_role() {
    let site = site();
    let client = site.insert("refused one");
    let question = site.held("refused one");
    let place = format!("{}/approvals/{question}", site.url);

    let mut browser = site.browse("olga@acme.example");
    browser.go(&place).unwrap();
    browser.click("button.good").unwrap();
    let said = browser.text(".problem").unwrap();
    assert!(said.contains("own agent"), "{said}");
    drop(browser);

    let mut browser = site.browse("vic@acme.example");
    browser.go(&place).unwrap();
    let page = browser.text("main").unwrap();
    assert!(page.contains("needs the role approver"), "{page}");
    drop(browser);

    let mut browser = site.browse("ada@acme.example");
    browser.go(&place).unwrap();
    browser
        .fill("form:has(button.danger) textarea", "not on a <Friday>")
        .unwrap();
    browser.click("button.danger").unwrap();
    let ran = client.end();
    assert!(
        ran.stderr.contains("ada refused: not on a <Friday>"),
        "{}",
        ran.stderr
    );
    browser.wait("h1 >> text=refused").unwrap();
    browser.complaints().unwrap();
}

#[test]
fn whoever_has_no_role_does_not_get_in_and_signing_out_is_final() {
    let site = site();
    let mut browser = site.browser.lock().unwrap_or_else(PoisonError::into_inner);
    browser.person("eve@acme.example").unwrap();
    browser.go(&format!("{}/approvals", site.url)).unwrap();
    site.is_sound(&mut browser, "sign-in");
    site.sign_in(&mut browser, "eve@acme.example");
    let said = browser.text(".problem").unwrap();
    assert!(said.contains("none of your groups has a role"), "{said}");
    browser.complaints().unwrap();
    drop(browser);

    let mut browser = site.browse("vic@acme.example");
    browser.wait("h1 >> text=Now").unwrap();
    browser.click("text=Sign out").unwrap();
    browser.go(&format!("{}/approvals", site.url)).unwrap();
    assert!(
        browser.url().unwrap().contains("/sign-in?next="),
        "{}",
        browser.url().unwrap()
    );
    let events = site.world.events().unwrap();
    let noted = |action: &str, who: &str| {
        events
            .iter()
            .any(|e| e["entry"]["action"] == action && e["entry"]["who"] == who)
    };
    assert!(noted("sign_out", "login/vic@acme.example"), "{events:#?}");
    assert!(noted("sign_in", "login/eve@acme.example"), "{events:#?}");
}

#[test]
fn an_admin_ends_a_session_and_the_ledger_says_who() {
    let site = site();
    let client = site.insert("ended one");
    site.held("ended one");
    let session = site.question("ended one").unwrap()["session"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = site.browse("adam@acme.example");
    let row = format!("tr:has-text('{session}')");
    browser.wait(&row).unwrap();
    site.is_sound(&mut browser, "now");
    browser.click(&format!("{row} summary")).unwrap();
    browser
        .fill(&format!("{row} input[name=reason]"), "it runs for too long")
        .unwrap();
    browser.click(&format!("{row} button")).unwrap();
    let ran = client.end();
    assert!(
        ran.stderr.contains("it runs for too long"),
        "{}",
        ran.stderr
    );
    let events = site.world.events().unwrap();
    let noted = |e: &Value| {
        let entry = &e["entry"];
        entry["action"] == "kill" && entry["who"] == "login/adam@acme.example"
    };
    assert!(events.iter().any(noted), "{events:#?}");
}

#[test]
fn root_signs_in_without_an_issuer_and_what_is_governed_does_not() {
    let site = site();
    let login = site
        .world
        .hoop(&["console", "login"])
        .unwrap()
        .ok()
        .unwrap();
    let mut browser = site.browser.lock().unwrap_or_else(PoisonError::into_inner);
    browser.person("root").unwrap();
    browser.go(login.stdout.trim()).unwrap();
    browser.click("main button").unwrap();
    browser.wait("h1 >> text=Now").unwrap();
    assert!(browser.text("header").unwrap().contains("root"));
    // Once only.
    browser.person("somebody else").unwrap();
    browser.go(login.stdout.trim()).unwrap();
    browser.click("main button").unwrap();
    assert!(
        browser
            .text(".problem")
            .unwrap()
            .contains("the code was used")
    );
    browser.complaints().unwrap();
    drop(browser);

    let hoop = hoop_tests::program("hoop").unwrap().display().to_string();
    let mut command = site.world.command(Who::Agent(WRITER), &hoop).unwrap();
    command
        .args(["console", "login"])
        .env("HOOP_CONFIG", &site.world.state.config);
    let ran = hoop_tests::run(&mut command, "", hoop_tests::PATIENCE).unwrap();
    assert!(ran.stderr.contains("is governed"), "{}", ran.stderr);
}

#[test]
fn a_session_is_found_by_its_text_and_shown_as_the_agent_saw_it() {
    let site = site();
    let sql = "SELECT name, ssn, 'found by this' FROM users ORDER BY id LIMIT 1";
    site.world
        .psql(Who::Agent(WRITER), &[], sql)
        .unwrap()
        .ok()
        .unwrap();
    let refused = site
        .world
        .psql(Who::Agent(WRITER), &[], "DROP TABLE users")
        .unwrap();
    assert!(refused.stderr.contains("may not"), "{}", refused.stderr);
    let mut browser = site.browse("vic@acme.example");
    let search = "text=FOUND+by+this&table=users&verdict=allow&agent=etl";
    site.search(&mut browser, search);
    site.is_sound(&mut browser, "search");
    browser.click("tbody a").unwrap();
    let page = browser.text("main").unwrap();
    for word in [
        "found by this",
        "Ada Byron",
        "1 masked",
        "allow",
        "reads",
        "Sealed by key",
        "psql",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    site.is_sound(&mut browser, "session");
    browser
        .go(&format!(
            "{}/sessions?verdict=refuse&text=drop+table",
            site.url
        ))
        .unwrap();
    browser.click("tbody a").unwrap();
    let page = browser.text("main").unwrap();
    assert!(
        page.contains("DROP TABLE users") && page.contains("hint"),
        "{page}"
    );
    site.is_sound(&mut browser, "session-refused");
    browser
        .go(&format!("{}/sessions?since=yesterday", site.url))
        .unwrap();
    assert!(browser.text(".problem").unwrap().contains("is no time"));
    browser
        .go(&format!("{}/sessions?text=nobody+ever+said+this", site.url))
        .unwrap();
    site.is_sound(&mut browser, "search-empty");
}

#[test]
fn what_goes_on_is_added_to_its_recording_as_it_happens() {
    let site = site();
    let client = site.insert("followed one");
    let question = site.held("followed one");
    let session = site.question("followed one").unwrap()["session"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = site.browse("vic@acme.example");
    browser
        .go(&format!("{}/sessions/{session}", site.url))
        .unwrap();
    browser
        .wait("text=The session goes on; what happens appears here.")
        .unwrap();
    let root = [
        "approvals",
        "refuse",
        &question,
        "--reason",
        "seen from afar",
    ];
    site.world.hoop(&root).unwrap().ok().unwrap();
    client.end();
    browser.wait("text=seen from afar").unwrap();
    browser.wait("text=the session has ended").unwrap();
    browser.complaints().unwrap();
}

#[test]
fn policies_and_masks_are_tried_and_nothing_runs() {
    let site = site();
    let mut browser = site.browse("vic@acme.example");
    browser.go(&format!("{}/policy", site.url)).unwrap();
    browser
        .fill("textarea[name=sql]", "INSERT INTO public.kept VALUES (9)")
        .unwrap();
    browser.click("main form button").unwrap();
    let said = browser.text(".answer").unwrap();
    assert!(
        said.contains("People would be asked") && said.contains("changes"),
        "{said}"
    );
    site.is_sound(&mut browser, "policy");
    browser
        .fill("textarea[name=sql]", "DROP TABLE public.kept")
        .unwrap();
    browser.click("main form button").unwrap();
    assert!(
        browser
            .text(".answer")
            .unwrap()
            .contains("It would be refused")
    );
    browser.go(&format!("{}/masks", site.url)).unwrap();
    browser
        .fill("input[name=column]", "public.users.ssn")
        .unwrap();
    browser.fill("textarea[name=value]", "123-45-6789").unwrap();
    browser.click("main button").unwrap();
    let said = browser.text(".answer").unwrap();
    assert!(said.contains("*******6789"), "{said}");
    site.is_sound(&mut browser, "masks");
    assert_eq!(
        site.world
            .postgres
            .ask("SELECT count(*) FROM kept WHERE id = 9")
            .unwrap(),
        "0"
    );
}

#[test]
fn an_auditor_reads_who_did_what_and_a_viewer_does_not() {
    let site = site();
    let mut browser = site.browse("audrey@acme.example");
    browser.go(&format!("{}/audit", site.url)).unwrap();
    let page = browser.text("main").unwrap();
    assert!(
        page.contains("login/audrey@acme.example") && page.contains("signed in"),
        "{page}"
    );
    site.is_sound(&mut browser, "audit");
    drop(browser);
    let mut browser = site.browse("vic@acme.example");
    browser.go(&format!("{}/audit", site.url)).unwrap();
    assert!(browser.text("main").unwrap().contains("auditor or admin"));
    browser.complaints().unwrap();
}

#[test]
fn a_button_in_slack_counts_by_slacks_signature_and_once() {
    let site = site();
    // Not while another test has the console die.
    let _alone = site.browser.lock().unwrap_or_else(PoisonError::into_inner);
    let client = site.insert("slack one");
    let question = site.held("slack one");
    let shown = site
        .world
        .hoop(&["approvals", "show", &question, "--json"])
        .unwrap();
    let shown = shown.ok().unwrap().json_lines().unwrap().remove(0);
    // As hoop makes its buttons: for this question, and for what it asks.
    let asking = serde_json::Value::String(shown["asking"].to_string());
    let made = "[createHash('sha256').update(asking).digest()].map((shown) => question + '.' + \
        createHmac('sha256', createHmac('sha256', 'slack-signing-secret').update('hoop: the value of a button').digest()) \
        .update(Buffer.concat([Buffer.from(question + '.'), shown])).digest('hex'))[0]";
    let press = |user: &str, secret: &str, value: &str| {
        let script = format!(
            "import {{ createHash, createHmac }} from 'node:crypto'; \
             const question = '{question}', asking = {asking}; \
             const payload = {{ user: {{ id: '{user}' }}, actions: [{{ action_id: 'approve', value: {value} }}] }}; \
             const body = 'payload=' + encodeURIComponent(JSON.stringify(payload)); \
             const at = String(Math.floor(Date.now() / 1000)); \
             const tag = createHmac('sha256', '{secret}').update('v0:' + at + ':' + body).digest('hex'); \
             const headers = {{ 'x-slack-request-timestamp': at, 'x-slack-signature': 'v0=' + tag, \
               'content-type': 'application/x-www-form-urlencoded' }}; \
             const send = async () => (await fetch('{}/slack/interact', {{ method: 'POST', headers, body }})).status; \
             console.log(await send(), await send())",
            site.url
        );
        let mut node = std::process::Command::new("node");
        node.args(["--input-type=module", "-e", &script]);
        let ran = hoop_tests::run(&mut node, "", hoop_tests::PATIENCE).unwrap();
        ran.ok().unwrap().stdout.trim().to_owned()
    };
    assert_eq!(press("U1", "another secret", made), "401 401");
    assert_eq!(press("U2", "slack-signing-secret", made), "401 401");
    let bare = press("U1", "slack-signing-secret", "question");
    assert_eq!(bare, "401 401", "a button that hoop did not make");
    assert_eq!(press("U1", "slack-signing-secret", made), "200 401");
    let ran = client.end();
    assert_eq!(ran.stdout, "slack one\nINSERT 0 1\n", "{}", ran.stderr);
    let shown = site
        .world
        .hoop(&["approvals", "show", &question, "--json"])
        .unwrap();
    let shown = shown.ok().unwrap().json_lines().unwrap().remove(0);
    assert_eq!(
        (&shown["votes"][0]["who"], &shown["votes"][0]["via"]),
        (&"ada".into(), &"slack".into())
    );
}

#[test]
fn a_console_that_dies_is_back_at_once_with_everybody_signed_in() {
    let site = site();
    let mut browser = site.browse("vic@acme.example");
    let died = site.world.daemon.console().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{died}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "Groups:\t \n",
    ] {
        assert!(status.contains(line), "{line:?}: {status}");
    }
    site.world
        .daemon
        .signal(died, nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    // What it was given and had not read yet goes with it.
    let until = Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{died}")).exists() {
        assert!(Instant::now() < until, "it did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    browser.go(&format!("{}/approvals", site.url)).unwrap();
    browser.wait("h1 >> text=Approvals").unwrap();
    assert_ne!(site.world.daemon.console().unwrap(), died);
    browser.complaints().unwrap();
    let events = site.world.events().unwrap();
    assert!(
        events.iter().any(|e| e["entry"]["event"] == "console_died"),
        "{events:#?}"
    );
}
