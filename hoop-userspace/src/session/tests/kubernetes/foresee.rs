//! What people are shown of a held change, through the whole loop: a server that tries it, and what
//! reaches the keeper.

use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::*;
use super::{Content, Hoop, READS, full, request};
use crate::ask::{Answer, Heard, HeldChange, Said, Ticket};
use crate::decide::Scope;
use crate::ids::QuestionId;
use crate::mask::ChangeKind;

const ASKS: &str = r#"
@approvers("sre") @id("asks") permit (
    principal,
    action in [
        Action::"k8s:create", Action::"k8s:update", Action::"k8s:patch", Action::"k8s:delete",
        Action::"k8s:deletecollection", Action::"k8s:get", Action::"k8s:list"
    ],
    resource
);
"#;
const ALL: &str = "/api/v1/namespaces/held";
const SECRETS: [&str; 2] = ["hunter2-correct-horse", "another-battery-staple"];

fn config_map(level: &str) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "a", "namespace": "held", "resourceVersion": "7"},
        "data": {"level": level, "more": "same"},
    })
}

fn secret(value: &str) -> Value {
    use base64::Engine;
    let value = base64::prelude::BASE64_STANDARD.encode(value);
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db"}, "data": {"password": value}})
}

/// The server: nothing is stored, and a change comes back as it was sent.
pub(super) async fn serve(parts: &Parts, content: &[u8]) -> Response<Content> {
    let path = parts.uri.path();
    let name = path.rsplit('/').next().unwrap();
    if name == "slow" {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let (code, value) = match (parts.method.as_str(), name) {
        ("GET", "missing") | ("GET", "v1.widgets.example") => {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound"});
            (StatusCode::NOT_FOUND, status)
        }
        ("GET", "v1.own.example") => (StatusCode::OK, json!({"spec": {"group": "own.example"}})),
        ("GET", "v1.far.example") => (
            StatusCode::OK,
            json!({"spec": {"service": {"name": "far"}}}),
        ),
        ("GET", "db") => (StatusCode::OK, secret(SECRETS[0])),
        ("GET", _) => (StatusCode::OK, config_map("info")),
        (_, "denied") => {
            let message = "admission webhook \"w\" denied the request: not on Fridays";
            let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": message});
            (StatusCode::FORBIDDEN, status)
        }
        ("PATCH", _) => (StatusCode::OK, config_map("debug")),
        _ => (
            StatusCode::OK,
            serde_json::from_slice(content).unwrap_or_default(),
        ),
    };
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .unwrap()
}

/// hoop, where `estimate = true`, and the keeper.
struct Held {
    hoop: Hoop,
    questions: mpsc::UnboundedReceiver<ToDesk>,
}

/// A question that is open, and the client that waits for its answer.
struct Open {
    ticket: Ticket,
    client: tokio::task::JoinHandle<StatusCode>,
}

impl Held {
    fn new(policy: &str, foresees: bool) -> Self {
        let mut hoop = Hoop::new(policy);
        hoop.foresees = foresees.then(|| Arc::new(Semaphore::new(2)));
        let questions = hoop.world.questions.take().unwrap();
        Self { hoop, questions }
    }

    async fn told(&mut self) -> ToDesk {
        let limit = Duration::from_secs(8);
        let told = tokio::time::timeout(limit, self.questions.recv()).await;
        told.expect("hangs").expect("gone")
    }

    async fn ask(&mut self, method: &str, target: &str, kind: &str, body: &str) -> Open {
        let headers = [("content-type", kind), ("user-agent", "kubectl/1.37")];
        let request = request(method, target, &headers, body);
        let mut sender = self.hoop.http1().await;
        let client =
            tokio::spawn(async move { sender.send_request(request).await.unwrap().status() });
        let ToDesk::Ask { ticket, .. } = self.told().await else {
            panic!("no question");
        };
        assert_eq!(
            self.hoop.seen().len(),
            0,
            "nobody is asked before people are"
        );
        self.hoop.world.asker.hear(Heard::Asked {
            ticket,
            question: QuestionId::new(7),
            until: SystemTime::now() + Duration::from_secs(60),
            joined: false,
        });
        Open { ticket, client }
    }

    async fn change(&mut self, open: &Open) -> HeldChange {
        match self.told().await {
            ToDesk::Foreseen { ticket, change } => {
                assert_eq!(ticket, open.ticket);
                change
            }
            other => panic!("{other:?}"),
        }
    }

    async fn changes(&mut self, method: &str, target: &str, kind: &str, body: &str) -> HeldChange {
        let open = self.ask(method, target, kind, body).await;
        let change = self.change(&open).await;
        open.client.abort();
        while !matches!(self.told().await, ToDesk::Withdraw { .. }) {}
        change
    }

    fn lines(&self) -> Vec<String> {
        self.hoop
            .seen()
            .into_iter()
            .map(|(line, ..)| line)
            .collect()
    }
}

const JSON: &str = "application/json";

#[tokio::test]
async fn an_update_is_tried_shown_and_made_once_it_is_approved() {
    let mut held = Held::new(ASKS, true);
    let target = format!("{ALL}/configmaps/a?fieldManager=x");
    let body = config_map("debug").to_string();
    let open = held.ask("PUT", &target, JSON, &body).await;
    let change = held.change(&open).await;
    assert_eq!(change.kind, ChangeKind::Changed);
    assert!(
        change.diff.contains("\n-  level: info\n+  level: debug\n"),
        "{}",
        change.diff
    );
    assert!(!change.diff.contains("resourceVersion"), "{}", change.diff);
    let seen = held.hoop.seen();
    let lines: Vec<_> = seen.iter().map(|(line, ..)| line.as_str()).collect();
    let dry = format!("PUT {ALL}/configmaps/a?dryRun=All&fieldManager=x");
    assert_eq!(lines, [&*format!("GET {ALL}/configmaps/a"), &*dry]);
    for (line, headers, _) in &seen {
        assert_eq!(headers["impersonate-user"], "hoop:billing-bot", "{line}");
        assert_eq!(headers["user-agent"], "kubectl/1.37", "{line}");
    }
    assert_eq!(seen[1].2, body.as_bytes());
    let said = vec![Said {
        who: "ada".into(),
        reason: "fine".into(),
    }];
    held.hoop.world.asker.hear(Heard::Answered {
        ticket: open.ticket,
        question: Some(QuestionId::new(7)),
        answer: Answer::Approved {
            said,
            scope: Scope::Statement,
            until: None,
            break_glass: false,
        },
    });
    assert_eq!(open.client.await.unwrap(), StatusCode::OK);
    assert_eq!(held.lines(), [format!("PUT {target}")]);
}

#[tokio::test]
async fn patches_applies_creations_and_deletions_are_shown() {
    let mut held = Held::new(ASKS, true);
    let target = format!("{ALL}/configmaps/a");
    for (kind, body) in [
        (
            "application/merge-patch+json",
            r#"{"data":{"level":"debug"}}"#,
        ),
        (
            "application/strategic-merge-patch+json",
            r#"{"data":{"level":"debug"}}"#,
        ),
        (
            "application/json-patch+json",
            r#"[{"op":"replace","path":"/data/level","value":"debug"}]"#,
        ),
        (
            "application/apply-patch+yaml",
            "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {level: debug}\n",
        ),
    ] {
        let query = match kind.contains("apply") {
            true => "?fieldManager=x&force=true",
            false => "",
        };
        let change = held
            .changes("PATCH", &format!("{target}{query}"), kind, body)
            .await;
        assert_eq!(change.kind, ChangeKind::Changed, "{kind}: {change:?}");
        assert!(
            change.diff.contains("+  level: debug\n"),
            "{kind}: {change:?}"
        );
        let lines = held.lines();
        assert!(
            lines[1].starts_with(&format!("PATCH {target}?dryRun=All")),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    let missing = format!("{ALL}/configmaps/missing?fieldManager=x");
    let applied = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: missing}\n";
    let kind = "application/apply-patch+yaml";
    let change = held.changes("PATCH", &missing, kind, applied).await;
    assert_eq!(change.kind, ChangeKind::Created, "{change:?}");
    held.lines();
    let body = config_map("new").to_string();
    let change = held
        .changes("POST", &format!("{ALL}/configmaps"), JSON, &body)
        .await;
    assert_eq!(change.kind, ChangeKind::Created);
    assert!(change.diff.contains("+  level: new\n"), "{change:?}");
    assert_eq!(held.lines(), [format!("POST {ALL}/configmaps?dryRun=All")]);
    let change = held.changes("DELETE", &target, JSON, "").await;
    assert_eq!(change.kind, ChangeKind::Deleted);
    assert!(change.diff.contains("-  level: info\n"), "{change:?}");
    assert_eq!(held.lines(), [format!("GET {target}")]);
}

#[tokio::test]
async fn nothing_of_a_secret_reaches_the_keeper() {
    let mut held = Held::new(ASKS, true);
    let body = secret(SECRETS[1]).to_string();
    let target = format!("{ALL}/secrets/db");
    let change = held.changes("PUT", &target, JSON, &body).await;
    assert_eq!(change.kind, ChangeKind::Changed);
    assert!(
        change.diff.contains("# masked, and another value"),
        "{change:?}"
    );
    for value in SECRETS {
        let text = secret(value)["data"]["password"]
            .as_str()
            .unwrap()
            .to_owned();
        let told = format!("{change:?}");
        assert!(!told.contains(value) && !told.contains(&text), "{told}");
    }
}

#[tokio::test]
async fn what_the_server_would_not_take_is_said_so() {
    let mut held = Held::new(ASKS, true);
    let body = config_map("debug").to_string();
    let target = format!("{ALL}/configmaps/denied");
    let change = held.changes("PUT", &target, JSON, &body).await;
    assert_eq!(change.kind, ChangeKind::Refused);
    assert_eq!(
        change.note,
        "The API server would not take it: admission webhook \"w\" denied the request: not on Fridays"
    );
}

#[tokio::test]
async fn whoever_may_not_keep_to_a_dry_run_is_sent_none() {
    let mut held = Held::new(ASKS, true);
    let body =
        json!({"kind": "Widget", "apiVersion": "own.example/v1", "metadata": {"name": "held"}});
    let body = body.to_string();
    for (group, kind) in [
        ("own.example", ChangeKind::Created),
        ("far.example", ChangeKind::Unknown),
        ("widgets.example", ChangeKind::Unknown),
    ] {
        let target = format!("/apis/{group}/v1/namespaces/held/widgets");
        let change = held.changes("POST", &target, JSON, &body).await;
        assert_eq!(change.kind, kind, "{group}: {change:?}");
        let lines = held.lines();
        let tried = lines.iter().any(|line| line.contains("dryRun=All"));
        assert_eq!(tried, kind == ChangeKind::Created, "{lines:?}");
    }
}

#[tokio::test]
async fn a_slow_server_delays_no_question() {
    let mut held = Held::new(ASKS, true);
    let body = config_map("debug").to_string();
    let begun = tokio::time::Instant::now();
    let target = format!("{ALL}/configmaps/slow");
    let open = held.ask("PUT", &target, JSON, &body).await;
    assert!(begun.elapsed() < Duration::from_millis(700));
    let change = held.change(&open).await;
    assert_eq!(change.kind, ChangeKind::Changed, "{change:?}");
    assert!(begun.elapsed() >= Duration::from_millis(1400));
    open.client.abort();
}

#[tokio::test]
async fn nothing_is_tried_unasked_nor_for_what_changes_no_object() {
    let mut held = Held::new(ASKS, false);
    let body = config_map("debug").to_string();
    let map = format!("{ALL}/configmaps/a");
    let none = |held: &mut Held| {
        assert!(held.questions.try_recv().is_err());
        assert_eq!(held.lines(), Vec::<String>::new());
    };
    let open = held.ask("PUT", &map, JSON, &body).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    none(&mut held);
    open.client.abort();
    let mut held = Held::new(ASKS, true);
    let maps = format!("{ALL}/configmaps");
    let dry = format!("{map}?dryRun=All");
    for (method, target, body) in [
        ("GET", &map, ""),
        ("GET", &maps, ""),
        ("DELETE", &maps, ""),
        ("PUT", &dry, &*body),
    ] {
        let open = held.ask(method, target, JSON, body).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        none(&mut held);
        open.client.abort();
        while !matches!(held.told().await, ToDesk::Withdraw { .. }) {}
    }
    // Nor for what is decided without people.
    let mut held = Held::new(READS, true);
    held.hoop.get(&map).await;
    assert_eq!(held.lines(), [format!("GET {map}")]);
}
