//! The console: how soon it is there, and how long each of its pages takes, with many recorded
//! sessions.
//!
//! Everything is real: the daemon, the console's process, and recordings and ledgers that hoop's own
//! code wrote. A page is asked for over HTTP as whoever is signed in, on one connection, so that
//! what is measured holds the way there and back too.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hoop::trial::past;
use hoop_tests::{Interrupt, Place, Settings, World};
use nix::sys::signal::Signal;
use serde_json::Value;

#[derive(clap::Args)]
pub struct Arguments {
    /// Recorded sessions
    #[arg(long, default_value_t = 100_000)]
    sessions: u32,
    /// How often each page is asked for
    #[arg(long, default_value_t = 40)]
    rounds: u32,
}

/// What a page may take, and the start.
const PAGE: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_millis(100);
/// Within which a killed process ends.
const GONE: Duration = Duration::from_secs(10);
/// How often the console's process is ended. It is started at once only if it has lived a while.
const STARTS: usize = 5;
const LIVED: Duration = Duration::from_secs(11);
/// The console lets one address ask 40 times a second.
const BETWEEN: Duration = Duration::from_millis(26);
/// For every recording to be read.
const READ_WITHIN: Duration = Duration::from_secs(900);

/// What is asked for: its name, and the form of what is tried there.
struct Asked {
    path: String,
    form: Option<String>,
    took: Vec<Duration>,
    /// Meanwhile recordings were read.
    busy: Vec<Duration>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::hold()?;
    let place = Place::make()?;
    interrupt.end_process(place.janitor());
    let listen = format!("{}:8443", place.address(30));
    eprintln!("{} sessions are recorded…", arguments.sessions);
    let began = Instant::now();
    let past = past::make(&place.path("state"), arguments.sessions);
    let past = past.map_err(|why| anyhow!("no past: {why}"))?;
    eprintln!("they were, in {:.0?}", began.elapsed());
    let mut give = Command::new("chown");
    // What the worker goes on with.
    give.args(["-R", "nobody:"])
        .arg(place.path("state/recordings"))
        .arg(place.path("state/seal.pub"));
    hoop_tests::run(&mut give, "", hoop_tests::PATIENCE)?.ok()?;
    let settings = Settings {
        log: "info",
        more: format!(
            "[console]\nlisten = \"{listen}\"\nurl = \"http://{listen}\"\nuser = \"www-data\"\n"
        ),
        ..Settings::default()
    };
    let world = World::start_in(place, settings)?;
    let mut browser = Browser::sign_in(&world, &listen)?;
    let read = browser.wait_for_index(arguments.sessions)?;
    let mut pages = pages(&past);
    for round in 0..=arguments.rounds {
        for page in &mut pages {
            let took = browser.get(page)?;
            // The first fills caches, and is a round of its own in nobody's table.
            if round > 0 {
                page.took.push(took);
            }
        }
    }
    let starts = starts(&world, &listen, &mut browser, &mut pages)?;
    let text = table(arguments, &pages, &starts, read);
    println!("{text}");
    let file = hoop_tests::target()?.join("bench-console.md");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written to {}", file.display());
    for page in &pages {
        let median = median(&page.took);
        ensure!(
            median < PAGE,
            "{} takes {median:.1?}, which is more than {PAGE:?}",
            page.path
        );
    }
    let start = median(&starts);
    ensure!(start < START, "a start takes {start:.1?}");
    Ok(())
}

fn pages(past: &past::Past) -> Vec<Asked> {
    let session = format!("/sessions/{}", past.session);
    let question = format!("/approvals/{}", past.question);
    let get = [
        "/",
        "/approvals",
        "/approvals?all=1",
        "/approvals?all=1&from=5000",
        &question,
        "/sessions",
        "/sessions?agent=agent-7&verdict=refuse",
        "/sessions?text=customer+%3D+7",
        "/sessions?table=users&since=2026-01-01",
        "/sessions?text=nobody+ever+said+this",
        "/sessions?table=nothing_is_called_so",
        &session,
        "/policy",
        "/masks",
        "/audit",
        "/audit?all=1",
        "/sign-in?next=/",
        "/assets/style.css",
        "/api/v1/openapi.json",
    ];
    let tried = [
        (
            "/policy/test",
            "agent=billing-bot&resource=orders&sql=SELECT+name+FROM+users",
        ),
        (
            "/masks/test",
            "resource=orders&column=public.users.ssn&value=123-45-6789",
        ),
    ];
    let get = get.iter().map(|path| ((*path).to_owned(), None));
    let tried = tried
        .iter()
        .map(|(path, form)| ((*path).to_owned(), Some((*form).to_owned())));
    get.chain(tried)
        .map(|(path, form)| Asked {
            path,
            form,
            took: Vec::new(),
            busy: Vec::new(),
        })
        .collect()
}

/// Ends the console's process; how long it takes until a page of the next one is there. Then each
/// page once, while the next one reads all recordings anew.
fn starts(
    world: &World,
    listen: &str,
    browser: &mut Browser,
    pages: &mut [Asked],
) -> Result<Vec<Duration>> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        std::thread::sleep(LIVED);
        let pid = world.daemon.console()?;
        world.daemon.signal(pid, Signal::SIGKILL)?;
        let began = Instant::now();
        // Until it is gone, it may still take the connection.
        while Path::new(&format!("/proc/{pid}")).exists() {
            ensure!(began.elapsed() < GONE, "the killed console is still there");
            std::thread::sleep(Duration::from_micros(200));
        }
        browser.connect(listen)?;
        let status = browser.ask("GET", "/sign-in", None)?.0;
        starts.push(began.elapsed());
        ensure!(status == 303, "/sign-in answers {status}");
        for page in &mut *pages {
            let took = browser.get(page)?;
            page.busy.push(took);
        }
    }
    Ok(starts)
}

/// A person at one connection.
struct Browser {
    stream: BufReader<TcpStream>,
    host: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    fn sign_in(world: &World, listen: &str) -> Result<Self> {
        let login = world.hoop(&["console", "login"])?.ok()?;
        let (_, code) = login
            .stdout
            .trim()
            .split_once("code=")
            .context("no code to sign in with")?;
        let stream = TcpStream::connect(listen)?;
        let mut browser = Self {
            stream: BufReader::new(stream),
            host: listen.to_owned(),
            cookie: String::new(),
            csrf: String::new(),
        };
        browser.connect(listen)?;
        let form = format!("code={code}");
        let (status, head, _) = browser.ask("POST", "/sign-in/local", Some(&form))?;
        ensure!(status == 303, "the sign-in answers {status}");
        let cookie = head
            .iter()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        browser.cookie = cookie.context("no cookie")?.to_owned();
        let person = browser.json("/api/v1/whoami")?;
        browser.csrf = person["csrf"].as_str().unwrap_or_default().to_owned();
        Ok(browser)
    }

    fn connect(&mut self, listen: &str) -> Result<()> {
        let stream = TcpStream::connect(listen)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        self.stream = BufReader::new(stream);
        Ok(())
    }

    /// How long the page takes, from the request's first byte to the answer's last.
    fn get(&mut self, page: &Asked) -> Result<Duration> {
        std::thread::sleep(BETWEEN);
        let csrf = &self.csrf;
        let form = page.form.as_ref().map(|form| format!("{form}&csrf={csrf}"));
        let method = if form.is_some() { "POST" } else { "GET" };
        let began = Instant::now();
        let (status, _, body) = self.ask(method, &page.path, form.as_deref())?;
        let took = began.elapsed();
        let fine = status == 200 || (status == 303 && page.path.starts_with("/sign-in"));
        ensure!(
            fine,
            "{} answers {status}: {}",
            page.path,
            String::from_utf8_lossy(&body)
        );
        Ok(took)
    }

    fn json(&mut self, path: &str) -> Result<Value> {
        let (status, _, body) = self.ask("GET", path, None)?;
        ensure!(status == 200, "{path} answers {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    /// Waits until every recording was read; how long that took.
    fn wait_for_index(&mut self, sessions: u32) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let found = self.json("/api/v1/sessions")?;
            let indexed = found["indexed"].as_u64().unwrap_or(0);
            if indexed >= u64::from(sessions) {
                return Ok(began.elapsed());
            }
            ensure!(
                began.elapsed() < READ_WITHIN,
                "{indexed} of {sessions} recordings are read after {READ_WITHIN:?}"
            );
            eprint!("\r{indexed} of {sessions} recordings are read…");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Status, lines of the head in lower case, and body.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        form: Option<&str>,
    ) -> Result<(u16, Vec<String>, Vec<u8>)> {
        let host = &self.host;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncookie: {}\r\n",
            self.cookie
        );
        if let Some(form) = form {
            write!(
                request,
                "content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n",
                form.len()
            )?;
        }
        write!(request, "\r\n{}", form.unwrap_or_default())?;
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line)?;
            ensure!(read > 0, "{path}: the console closed the connection");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let line = match line.split_once(':') {
                Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
                None => line.to_owned(),
            };
            head.push(line);
        }
        let status = head.first().and_then(|line| line.split(' ').nth(1));
        let status: u16 = status.context("no status")?.parse()?;
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("an answer of no length")?.parse()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, head, body))
    }
}

fn table(arguments: &Arguments, pages: &[Asked], starts: &[Duration], read: Duration) -> String {
    let mut text = format!(
        "{} recorded sessions, {} questions, {} entries of the ledger; {} rounds.\n\n\
         | page | median | highest | while recordings are read: median | highest |\n\
         |---|--:|--:|--:|--:|\n",
        arguments.sessions,
        arguments.sessions / 10,
        arguments.sessions,
        arguments.rounds
    );
    let ms = |took: Duration| format!("{:.1} ms", took.as_secs_f64() * 1000.0);
    let most = |took: &[Duration]| took.iter().max().copied().unwrap_or_default();
    for page in pages {
        // The ids are of this run.
        let path = match page.path.rsplit_once('/') {
            Some(("/sessions", _)) => "/sessions/{session}",
            Some(("/approvals", _)) => "/approvals/{question}",
            _ => &page.path,
        };
        let method = if page.form.is_some() { "POST " } else { "" };
        text += &format!(
            "| `{method}{path}` | {} | {} | {} | {} |\n",
            ms(median(&page.took)),
            ms(most(&page.took)),
            ms(median(&page.busy)),
            ms(most(&page.busy))
        );
    }
    text += &format!(
        "\nStart, from the end of the process before to the first page: median {}, highest {} of {}.\n\
         All recordings were read in {:.0} s.\n",
        ms(median(starts)),
        ms(most(starts)),
        starts.len(),
        read.as_secs_f64()
    );
    text
}

fn median(took: &[Duration]) -> Duration {
    let mut took = took.to_vec();
    took.sort();
    took.get(took.len() / 2).copied().unwrap_or_default()
}
