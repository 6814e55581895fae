//! What goes on now: whether everything is well, the agents, the sessions.

use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;

use super::{badge, csrf, each, is, may, word, words};
use crate::console::act::segment;
use crate::console::serve::Asked;
use crate::console::text::{ago, clock_of};
use crate::handover::console::Needs;

pub fn now(asked: &Asked<'_>, status: &Value) -> Markup {
    html! {
        h1 { "Now" }
        (health(status))
        (agents(asked, status))
        (sessions(asked, status))
    }
}

/// What is wrong, first; then the numbers.
fn health(status: &Value) -> Markup {
    let problems = problems(status);
    let hooks = each(status, "/hooks").count();
    let attached = each(status, "/hooks")
        .filter(|hook| is(hook, "/attached"))
        .count();
    let pending = status
        .pointer("/approvals/pending")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let tile = |name: &str, value: String, good: bool| {
        html! {
            div class=(if good { "tile" } else { "tile bad" }) {
                dt { (name) }
                dd { (value) }
            }
        }
    };
    html! {
        section aria-label="Health" {
            @if problems.is_empty() {
                p.well { "Everything is well." }
            } @else {
                div.problem role="alert" {
                    strong { "Something is wrong." }
                    ul { @for problem in &problems { li { (problem) } } }
                }
            }
            dl.tiles {
                (tile("enforcement", format!("{attached} of {hooks} hooks"), attached == hooks))
                (tile("worker", if is(status, "/worker/ready") { "ready".into() } else { "not ready".into() }, is(status, "/worker/ready")))
                (tile("configuration", format!("epoch {}", word(status, "/reload/epoch")), word(status, "/reload/error").is_empty()))
                div.tile {
                    dt { "waiting for people" }
                    dd { a href="/approvals" { (pending) " approvals" } }
                }
                (tile("refused by the kernel", word(status, "/counters/kernel_refused"), true))
                (tile("up since", clock_of(&word(status, "/since")), true))
            }
        }
    }
}

fn problems(status: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for bypass in each(status, "/bypasses") {
        problems.push(format!(
            "the glass is broken for {} until {} by {}: {} (its connections pass unseen and unrecorded)",
            word(bypass, "/agent"),
            clock_of(&word(bypass, "/until")),
            word(bypass, "/by"),
            word(bypass, "/reason"),
        ));
    }
    for hook in each(status, "/hooks").filter(|hook| !is(hook, "/attached")) {
        let why = word(hook, "/problem");
        problems.push(format!(
            "the hook {} is not attached: {why}",
            word(hook, "/name")
        ));
    }
    if !is(status, "/worker/ready") {
        problems.push("the worker is not ready: agents' connections wait or are refused".into());
    }
    let reload = word(status, "/reload/error");
    if !reload.is_empty() {
        problems.push(format!(
            "the configuration as it is now was not taken: {reload}"
        ));
    }
    let asking = word(status, "/approvals/problem");
    if !asking.is_empty() {
        problems.push(format!("nobody can be asked: {asking}"));
    }
    for channel in each(status, "/channels") {
        let why = word(channel, "/problem");
        if !why.is_empty() {
            problems.push(format!(
                "the channel {} fails: {why}",
                word(channel, "/name")
            ));
        }
    }
    problems
}

fn agents(asked: &Asked<'_>, status: &Value) -> Markup {
    let administers = may(asked, Needs::Administer);
    let bypassed: Vec<String> = each(status, "/bypasses")
        .map(|b| word(b, "/agent"))
        .collect();
    html! {
        section aria-labelledby="agents" {
            h2 id="agents" { "Agents" }
            @if each(status, "/agents").next().is_none() {
                p.empty { "No agent is configured yet: see [[agent]] in the configuration." }
            } @else {
                table.stack {
                    thead { tr {
                        th scope="col" { "Agent" }
                        th scope="col" { "Mode" }
                        th scope="col" { "Identity" }
                        th scope="col" { "Runs as" }
                        @if administers { th scope="col" { "Act" } }
                    } }
                    tbody { @for agent in each(status, "/agents") { (self::agent(asked, agent, &bypassed, administers)) } }
                }
            }
        }
    }
}

fn agent(asked: &Asked<'_>, agent: &Value, bypassed: &[String], administers: bool) -> Markup {
    let name = word(agent, "/name");
    let suspended = each(agent, "/suspended").next().is_some();
    let cgroups = words(agent, "/cgroups");
    html! {
        tr {
            th scope="row" data-label="Agent" { (name) }
            td data-label="Mode" {
                (badge(&word(agent, "/mode")))
                @if bypassed.contains(&name) { " " (badge("bypassed")) }
            }
            td data-label="Identity" {
                @for suspension in each(agent, "/suspended") {
                    div {
                        (badge("suspended")) " "
                        (word(suspension, "/instance")) " by " (word(suspension, "/by")) ": "
                        (word(suspension, "/why"))
                    }
                }
                @if each(agent, "/identities").next().is_none() {
                    span.note { "not seen yet" }
                }
                @for identity in each(agent, "/identities") { (self::identity(identity)) }
            }
            td data-label="Runs as" {
                @if cgroups.is_empty() { span.note { "does not run" } }
                @for cgroup in &cgroups { div { code { (cgroup) } } }
            }
            @if administers {
                td data-label="Act" {
                    @let act = if suspended { "resume" } else { "suspend" };
                    details {
                        summary { (if suspended { "Resume…" } else { "Suspend…" }) }
                        form.act method="post" action=(format!("/agents/{}/{act}", segment(&name))) {
                            (csrf(asked))
                            label { "Why" input name="reason" required maxlength="200"; }
                            button class=(if suspended { "" } else { "danger" }) type="submit" {
                                (if suspended { "Resume " } else { "Suspend " }) (name)
                            }
                        }
                    }
                }
            }
        }
    }
}

fn identity(identity: &Value) -> Markup {
    let refused = word(identity, "/refused");
    html! {
        div {
            @if refused.is_empty() {
                (badge("verified")) " " (word(identity, "/subject"))
                @if !word(identity, "/instance").is_empty() { " · " (word(identity, "/instance")) }
                span.note { " looked at " (clock_of(&word(identity, "/looked_at"))) }
                @if !word(identity, "/note").is_empty() { div.note { (word(identity, "/note")) } }
            } @else {
                (badge("refused")) " " (refused)
            }
        }
    }
}

fn sessions(asked: &Asked<'_>, status: &Value) -> Markup {
    let administers = may(asked, Needs::Administer);
    html! {
        section aria-labelledby="sessions" {
            h2 id="sessions" { "Sessions that go on" }
            @if each(status, "/sessions").next().is_none() {
                p.empty { "No agent is connected to anything." }
            } @else {
                table.stack {
                    thead { tr {
                        th scope="col" { "Agent" }
                        th scope="col" { "To" }
                        th scope="col" { "Since" }
                        th scope="col" { "Process" }
                        th scope="col" { "Session" }
                        @if administers { th scope="col" { "Act" } }
                    } }
                    tbody { @for session in each(status, "/sessions") { (self::session(asked, session, administers)) } }
                }
            }
        }
    }
}

fn session(asked: &Asked<'_>, session: &Value, administers: bool) -> Markup {
    let id = word(session, "/session");
    let since = word(session, "/since");
    html! {
        tr {
            td data-label="Agent" { (word(session, "/agent")) div.note { (word(session, "/identity")) } }
            td data-label="To" {
                (word(session, "/resource"))
                div.note { (word(session, "/database")) " as " (word(session, "/login")) }
            }
            td data-label="Since" title=(clock_of(&since)) { (ago(&since, OffsetDateTime::now_utc())) }
            td data-label="Process" {
                code { (word(session, "/executable")) }
                div.note { "pid " (word(session, "/pid")) }
            }
            td data-label="Session" {
                a href=(format!("/sessions/{}", segment(&id))) { code { (id) } }
                @if session.get("frozen").is_some_and(Value::is_object) {
                    div { (badge("frozen")) " by " (word(session, "/frozen/by")) ": " (word(session, "/frozen/reason")) }
                }
            }
            @if administers {
                td data-label="Act" {
                    details {
                        summary { "End…" }
                        form.act method="post" action=(format!("/sessions/{}/kill", segment(&id))) {
                            (csrf(asked))
                            label { "Why; the agent reads it" input name="reason" required maxlength="200"; }
                            button.danger type="submit" { "End this session" }
                        }
                    }
                }
            }
        }
    }
}
