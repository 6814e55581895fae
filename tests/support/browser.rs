//! A real browser: Debian's Chromium, driven through a small Node.js program, one step a line.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::files;
use crate::place::Place;

pub struct Browser {
    child: Child,
    steps: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts it among the world's own processes, where hoop governs nothing.
    pub fn start(place: &Place) -> Result<Self> {
        let mut node = place.command("outside", None, "node")?;
        node.arg(files::root().join("tests/browser/drive.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = node.spawn().context("cannot start the browser's driver")?;
        let steps = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            steps,
            answers,
        })
    }

    /// A person of one's own: other cookies, and one's own window.
    pub fn person(&mut self, name: &str) -> Result<()> {
        self.step(&json!({ "do": "person", "name": name }))
            .map(drop)
    }

    pub fn go(&mut self, url: &str) -> Result<()> {
        self.step(&json!({ "do": "go", "url": url })).map(drop)
    }

    /// Clicks what the selector finds, and waits for the page that it leads to.
    pub fn click(&mut self, at: &str) -> Result<()> {
        self.step(&json!({ "do": "click", "at": at })).map(drop)
    }

    pub fn fill(&mut self, at: &str, text: &str) -> Result<()> {
        self.step(&json!({ "do": "fill", "at": at, "text": text }))
            .map(drop)
    }

    pub fn press(&mut self, key: &str) -> Result<()> {
        self.step(&json!({ "do": "press", "key": key })).map(drop)
    }

    /// Waits until the selector finds something; how long that took, in milliseconds.
    pub fn wait(&mut self, at: &str) -> Result<u64> {
        let answer = self.step(&json!({ "do": "wait", "at": at }))?;
        answer["ms"].as_u64().context("no time")
    }

    /// What the page shows there.
    pub fn text(&mut self, at: &str) -> Result<String> {
        let answer = self.step(&json!({ "do": "text", "at": at }))?;
        Ok(answer["text"].as_str().unwrap_or_default().to_owned())
    }

    pub fn url(&mut self) -> Result<String> {
        let answer = self.step(&json!({ "do": "url" }))?;
        Ok(answer["url"].as_str().unwrap_or_default().to_owned())
    }

    /// Violations of axe's rules on this page, at their impact.
    pub fn violations(&mut self) -> Result<Vec<String>> {
        let answer = self.step(&json!({ "do": "axe" }))?;
        let found = answer["violations"].as_array().context("no list")?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// What the browser complained about since it was asked last: policies that were broken,
    /// scripts that failed.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        let answer = self.step(&json!({ "do": "complaints" }))?;
        let found = answer["complaints"].as_array().context("no list")?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// Keeps a picture of the page, wide and light, and narrow and dark, for people to look at.
    pub fn picture(&mut self, name: &str) -> Result<()> {
        let folder: PathBuf = files::target()?.join("pictures");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name).display().to_string();
        self.step(&json!({ "do": "picture", "path": path }))
            .map(drop)
    }

    fn step(&mut self, step: &Value) -> Result<Value> {
        writeln!(self.steps, "{step}").context("the browser's driver has ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("the browser's driver answers {line:?} to {step}"))?;
        match answer["error"].as_str() {
            Some(error) => bail!("{step}: {error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its input's end tells it to close the browser first.
        let _ = writeln!(self.steps, "{}", json!({ "do": "end" }));
        if let Err(error) = self.child.wait() {
            eprintln!("world: the browser could not be waited for: {error}");
        }
    }
}
