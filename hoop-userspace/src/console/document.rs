//! The API's description (OpenAPI 3.1), made from the table of routes: what is routed is described.

use ::http::Method;
use serde_json::{Map, Value, json};

use super::act::Act;
use super::data::Data;
use super::routes::{ROUTES, Route, To};

/// Everything below `/api/v1`.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES
        .iter()
        .filter(|route| route.path.starts_with("/api/"))
    {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hoop",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the console shows and does. A session's cookie says who asks; what changes something carries that session's x-hoop-csrf as well, and Origin: the console's own address.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-hoop" },
            },
        },
        "security": [{ "session": [] }],
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    for segment in route
        .path
        .split('/')
        .filter(|segment| segment.starts_with('{'))
    {
        let name = segment.trim_matches(['{', '}']);
        let text = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": text }));
    }
    let (summary, answer, query) = said(route.to);
    for (name, what) in query {
        let text = json!({ "type": "string" });
        parameters
            .push(json!({ "name": name, "in": "query", "description": what, "schema": text }));
    }
    let mut operation = json!({
        "summary": summary,
        "description": format!("Needs the role {}.", route.needs.words()),
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "done",
                "content": { "application/json": { "schema": answer } },
            },
            "401": failure("nobody is signed in"),
            "403": failure("the person's roles do not suffice"),
            "404": failure("it is not there"),
            "422": failure("it makes no sense, or does not count"),
            "503": failure("try again"),
        },
    });
    if route.method == Method::POST
        && let Some(operation) = operation.as_object_mut()
        && let To::Call(act) = route.to
    {
        let body = json!({ "application/json": { "schema": body(act) } });
        operation.insert(
            "requestBody".into(),
            json!({ "required": true, "content": body }),
        );
    }
    operation
}

/// What a search may name; what is left out is not asked.
const SEARCHED: &[(&str, &str)] = &[
    ("agent", "a part of the agent's name"),
    ("identity", "a part of what the issuer calls the identity"),
    ("resource", "a part of the resource's name"),
    ("table", "a name that stands in a statement by itself"),
    (
        "text",
        "a part of a statement, executable, argument, application or login",
    ),
    (
        "verdict",
        "`allow`, `ask` or `refuse`: the worst of the session's statements",
    ),
    ("since", "RFC 3339, or a day in UTC"),
    ("until", "RFC 3339, or a day in UTC"),
    ("before", "`next` of the page before"),
];

fn failure(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": named("Error") } },
    })
}

fn named(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Summary, the answer's schema, and what may stand in the query.
fn said(to: To) -> (&'static str, Value, &'static [(&'static str, &'static str)]) {
    match to {
        To::Data(data) => match data {
            Data::Whoami => ("Who is signed in", named("Person"), &[]),
            Data::Status => (
                "What is governed now, and whether all is well",
                named("Status"),
                &[],
            ),
            Data::Questions => (
                "Questions that wait or may be used",
                json!({ "type": "array", "items": named("Question") }),
                &[
                    ("all", "`1`: those that are over, too"),
                    (
                        "from",
                        "how many of the newest to leave out; 200 are listed",
                    ),
                ],
            ),
            Data::Question => ("One question in full", named("QuestionInFull"), &[]),
            Data::Sessions => ("Recorded sessions, newest first", named("Found"), SEARCHED),
            Data::Session => (
                "One recording: its events, as `hoop replay --json` prints them",
                named("Recording"),
                &[(
                    "from",
                    "the number of events to leave out: `next` of the page before",
                )],
            ),
            Data::Cast => (
                "What one recording's terminal showed: asciicast (version 2), a page of its events",
                named("Cast"),
                &[(
                    "from",
                    "the number of events to leave out: `next` of the page before",
                )],
            ),
            Data::Policy => ("The policies that are in force", named("Policies"), &[]),
            Data::Masks => ("The masks that are in force", named("Masks"), &[]),
            Data::Audit => (
                "What people did, newest first",
                named("Audit"),
                &[("all", "`1`: every entry of the ledgers")],
            ),
        },
        To::Call(act) => match act {
            Act::Vote => ("Approve or refuse", named("QuestionInFull"), &[]),
            Act::Revoke => ("Take an approval back", named("QuestionInFull"), &[]),
            Act::Kill => ("End a session", json!({ "type": "object" }), &[]),
            Act::Freeze => (
                "Have a session stand still until somebody lets it go on",
                json!({ "type": "object" }),
                &[],
            ),
            Act::Thaw => (
                "Let a frozen session go on",
                json!({ "type": "object" }),
                &[],
            ),
            Act::Suspend => (
                "Let an agent do nothing any more",
                json!({ "type": "object" }),
                &[],
            ),
            Act::Resume => ("Let an agent go on", json!({ "type": "object" }), &[]),
            Act::TryPolicy => (
                "Decide a statement that is supposed",
                named("Decision"),
                &[],
            ),
            Act::TryMask => ("Mask a value that is supposed", named("Masked"), &[]),
        },
        _ => ("This document", json!({ "type": "object" }), &[]),
    }
}

fn body(act: Act) -> Value {
    let reason = json!({ "type": "string" });
    match act {
        Act::Vote => object(
            json!({
                "verdict": { "enum": ["approve", "refuse"] },
                "reason": reason,
                "break_glass": { "type": "boolean" },
            }),
            &["verdict"],
        ),
        Act::TryPolicy => {
            let fields = ["agent", "resource", "sql", "database", "groups"];
            let fields: Map<String, Value> = fields
                .into_iter()
                .map(|field| (field.to_owned(), reason.clone()))
                .collect();
            object(Value::Object(fields), &["agent", "resource", "sql"])
        }
        Act::TryMask => object(
            json!({ "resource": reason, "column": reason, "value": reason }),
            &["resource", "value"],
        ),
        _ => object(json!({ "reason": reason }), &["reason"]),
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let truth = || json!({ "type": "boolean" });
    let number = || json!({ "type": "integer" });
    let perhaps = || json!({ "type": ["string", "null"] });
    let question = || {
        json!({
            "question": text(),
            "state": { "enum": ["pending", "approved", "refused", "expired", "cancelled", "used", "revoked"] },
            "asked": text(), "until": text(), "settled": text(),
            "agent": text(), "resource": text(), "database": text(), "session": text(),
            "scope": { "enum": ["statement", "fingerprint", "session", "resource"] },
            "message": text(), "statement": text(), "rules": texts(), "fingerprint": text(),
            "by": perhaps(), "reason": text(), "needs": texts(), "approved_by": texts(),
            "awaited": truth(), "in_transaction": truth(),
            "estimate": { "type": ["integer", "null"] },
        })
    };
    let keys: Vec<String> = question()
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut full = question();
    if let Some(full) = full.as_object_mut() {
        full.insert("asking".into(), json!({ "type": "object" }));
        full.insert("owners".into(), texts());
        let kinds = [
            "created",
            "changed",
            "deleted",
            "unchanged",
            "refused",
            "unknown",
        ];
        let change = json!({ "kind": { "enum": kinds }, "note": text(), "diff": text() });
        full.insert("change".into(), object(change, &["kind", "note", "diff"]));
        full.insert(
            "votes".into(),
            json!({ "type": "array", "items": { "type": "object" } }),
        );
        full.insert("standing".into(), json!({ "type": "object" }));
        full.insert(
            "similar".into(),
            json!({ "type": "array", "items": named("Question") }),
        );
    }
    let list = || json!({ "type": "array", "items": { "type": "object" } });
    json!({
        "Error": object(json!({ "error": text() }), &["error"]),
        "Person": object(
            json!({
                "name": text(), "roles": texts(), "groups": texts(),
                "seconds_left": number(), "csrf": text(),
            }),
            &["name", "roles", "groups", "seconds_left", "csrf"],
        ),
        "Status": object(
            json!({
                "version": text(), "pid": number(), "since": text(), "config": text(),
                "well": truth(), "reload": { "type": "object" }, "worker": { "type": "object" },
                "attached_to": text(), "hooks": list(), "lsm": { "type": "object" }, "agents": list(), "sessions": list(),
                "bypasses": list(),
                "approvals": { "type": "object" }, "channels": list(),
                "counters": { "type": "object" }, "identity": { "type": "object" },
            }),
            &["version", "well", "reload", "worker", "hooks", "agents", "sessions", "bypasses", "approvals", "channels", "counters"],
        ),
        "Found": object(
            json!({
                "sessions": { "type": "array", "items": named("Session") },
                "next": perhaps(), "indexed": number(), "recorded": number(), "without_text": number(),
            }),
            &["sessions", "next", "indexed", "recorded"],
        ),
        "Session": object(
            json!({
                "session": text(), "started": text(), "agent": perhaps(), "identity": perhaps(),
                "resource": perhaps(), "database": perhaps(),
                "verdict": { "enum": ["allow", "ask", "refuse"] },
                "requests": number(), "refusals": number(), "asked": number(), "rows": number(),
                "end": perhaps(), "sealed": truth(), "about": text(),
            }),
            &["session", "started", "verdict", "requests", "refusals", "asked", "rows", "sealed"],
        ),
        "Recording": object(
            json!({
                "session": text(), "header": { "type": ["object", "null"] }, "events": list(),
                "from": number(), "next": { "type": ["integer", "null"] }, "over": truth(),
                "problem": perhaps(),
            }),
            &["session", "events", "from", "next", "over", "problem"],
        ),
        "Cast": object(
            json!({
                "session": text(), "version": number(), "width": number(), "height": number(),
                "timestamp": number(), "command": perhaps(),
                // [seconds, "o" or "r", text]
                "events": { "type": "array", "items": { "type": "array" } },
                "from": number(), "next": { "type": ["integer", "null"] }, "over": truth(),
                "problem": perhaps(),
            }),
            &["session", "version", "width", "height", "timestamp", "events", "from", "next", "over", "problem"],
        ),
        "Policies": object(
            json!({ "packs": list(), "files": list(), "agents": texts(), "resources": texts() }),
            &["packs", "files", "agents", "resources"],
        ),
        "Masks": object(json!({ "masks": list(), "resources": texts() }), &["masks", "resources"]),
        "Audit": object(
            json!({ "entries": list(), "all": truth(), "complete": truth() }),
            &["entries", "all", "complete"],
        ),
        "Decision": object(
            json!({
                "verdict": { "enum": ["allow", "ask", "refuse"] }, "rules": texts(),
                "message": text(), "refusal": { "type": ["object", "null"] },
                "facts": { "type": ["object", "null"] },
            }),
            &["verdict", "rules", "facts"],
        ),
        "Masked": object(
            json!({ "masked": truth(), "detected": texts() }),
            &["value", "masked"],
        ),
        "Question": object(question(), &keys),
        "QuestionInFull": object(full, &[keys.as_slice(), &["asking", "votes", "standing"]].concat()),
    })
}
