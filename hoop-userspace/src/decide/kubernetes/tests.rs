//! `tests/corpus/kubernetes.txt`, how refusals read, and what no request may do to hoop.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::config::{Bundle, Config, PolicyFile};
use crate::decide::tests::{decider, on_cluster};
use crate::decide::{Code, Decider, KubernetesFacts, Retry, ShellFlag};
use crate::hex;
use crate::terminate::KubernetesAsked;
use crate::wire::kubernetes::request;

fn asked(line: &str, kind: Option<&str>, body: &[u8]) -> KubernetesAsked {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let read = request::read(method, path, query).unwrap();
    KubernetesAsked {
        method: method.into(),
        target: target.into(),
        upgrade: ["exec", "attach", "portforward"].contains(&&*read.info.subresource),
        info: read.info,
        options: read.options,
        content_type: kind.map(Into::into),
        body: body.to_vec().into(),
    }
}

fn media(written: &str) -> &str {
    match written {
        "json" => "application/json",
        "yaml" => "application/yaml",
        "proto" => "application/vnd.kubernetes.protobuf",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "jsonpatch" => "application/json-patch+json",
        "apply" => "application/apply-patch+yaml",
        other => other,
    }
}

fn verdict(decider: &Decider, asked: &KubernetesAsked) -> &'static str {
    let explained = decider.explain_kubernetes(&on_cluster(), asked);
    match (explained.refusal, explained.asks) {
        (None, _) => "allow",
        (Some(_), true) => "ask",
        (Some(_), false) => "refuse",
    }
}

/// For the examples of docs/POLICY.md.
pub(in crate::decide) fn said(decider: &Decider, line: &str, body: &str) -> &'static str {
    let kind = match line.starts_with("PATCH") {
        true => "application/strategic-merge-patch+json",
        false => "application/json",
    };
    let kind = (!body.is_empty()).then_some(kind);
    verdict(decider, &asked(line, kind, body.as_bytes()))
}

fn flags(facts: &KubernetesFacts) -> String {
    let mut flags: Vec<_> = facts.flags.iter().map(|flag| flag.as_str()).collect();
    flags.sort_unstable();
    match flags.is_empty() {
        true => "-".to_owned(),
        false => flags.join(","),
    }
}

#[test]
fn every_line() {
    let corpus = include_str!("../../../tests/corpus/kubernetes.txt");
    let packs = ["read-only", "ask-before-write", "no-destroy"];
    let deciders = packs.map(|pack| decider(&[pack], &[], &[]));
    let (mut count, mut wrong) = (0, Vec::new());
    for line in corpus
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        count += 1;
        let mut parts = line.splitn(4, " | ");
        let (class, expected) = parts.next().unwrap().split_once(' ').unwrap();
        let request = parts.next().unwrap();
        let kind = parts.next();
        let body = parts.next().unwrap_or_default();
        let body = match kind {
            Some("proto") => hex::decode(body.as_bytes()).unwrap_or_else(|| body.into()),
            _ => body.replace("\\n", "\n").into_bytes(),
        };
        let asked = asked(request, kind.map(media), &body);
        let facts = deciders[0].kubernetes_facts_of(&asked);
        let verdicts = [0, 1, 2].map(|at| verdict(&deciders[at], &asked));
        let right = match class {
            "read" => ["allow", "allow", "allow"],
            "secret" => ["refuse", "ask", "refuse"],
            "add" => ["refuse", "ask", "allow"],
            "change" => ["refuse", "ask", "refuse"],
            "open" => ["refuse", "refuse", "allow"],
            "closed" => ["refuse", "refuse", "refuse"],
            other => panic!("{other} is no class"),
        };
        if verdicts != right || flags(&facts) != expected {
            wrong.push(format!(
                "{line}\n  {verdicts:?} {} {:?}",
                flags(&facts),
                facts.unparsable
            ));
        }
    }
    assert!(count >= 300, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_a_body_names_is_listed() {
    let decider = decider(&[], &[], &[]);
    let pod = br#"{"kind":"Pod","spec":{"serviceAccountName":"deployer","containers":[
        {"name":"b","image":"web:2","envFrom":[{"configMapRef":{"name":"settings"}}]},
        {"name":"a","image":"web:1","securityContext":{"capabilities":{"add":["NET_ADMIN"]}},
         "env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"db","key":"p"}}}]}],
        "volumes":[{"name":"h","hostPath":{"path":"/etc"}}]}}"#;
    let facts = decider.kubernetes_facts_of(&asked(
        "POST /api/v1/namespaces/prod/pods?fieldManager=kubectl",
        Some("application/json"),
        pod,
    ));
    insta::assert_json_snapshot!(*facts, @r#"
    {
      "action": "k8s:create",
      "verb": "create",
      "group": "",
      "version": "v1",
      "kind": "pods",
      "subresource": "",
      "namespace": "prod",
      "name": "",
      "path": "/api/v1/namespaces/prod/pods",
      "label_selector": "",
      "field_selector": "",
      "field_manager": "kubectl",
      "patch": "",
      "container": "",
      "proxy_path": "",
      "dry_run": false,
      "flags": [
        "escalation",
        "host_path",
        "service_account",
        "secret_reference"
      ],
      "images": [
        "web:1",
        "web:2"
      ],
      "service_accounts": [
        "deployer"
      ],
      "secrets": [
        "db"
      ],
      "config_maps": [
        "settings"
      ],
      "host_paths": [
        "/etc"
      ],
      "capabilities": [
        "NET_ADMIN"
      ],
      "roles": [],
      "subjects": [],
      "unparsable": null,
      "command": null
    }
    "#);
    let binding = br#"{"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"ServiceAccount","namespace":"n","name":"a"},{"kind":"User","name":"u"}]}"#;
    let facts = decider.kubernetes_facts_of(&asked(
        "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        None,
        binding,
    ));
    assert_eq!(facts.roles, ["ClusterRole/view"]);
    assert_eq!(facts.subjects, ["ServiceAccount/n/a", "User/u"]);
}

#[test]
fn a_command_is_the_one_that_is_run() {
    let decider = decider(&[], &[], &[]);
    let facts = decider.kubernetes_facts_of(&asked(
        "POST /api/v1/namespaces/n/pods/p/exec?command=rm&command=-rf&command=%2Fsrv%2Fit%27s%20%24HOME%3B%20x",
        None,
        b"",
    ));
    let command = facts.command.as_ref().unwrap();
    assert_eq!(command.deletes, ["/srv/it's $HOME; x/**"]);
    assert_eq!(command.commands.len(), 1);
    assert_eq!(
        command.commands[0].line,
        r#"rm -rf '/srv/it'\''s $HOME; x'"#
    );
    // What a shell would read otherwise is a word here.
    for word in [
        "A=1", "if", "~", "*", "a b", "$(id)", "`id`", "#", "!", "&&",
    ] {
        let target = format!(
            "POST /api/v1/namespaces/n/pods/p/exec?command=cat&command={}",
            encoded(word)
        );
        let facts = decider.kubernetes_facts_of(&asked(&target, None, b""));
        let command = facts.command.as_ref().unwrap();
        let argv: Vec<_> = command.commands[0].argv.iter().flatten().collect();
        assert_eq!(argv, ["cat", word]);
        assert_eq!(command.commands.len(), 1);
    }
}

#[test]
fn a_command_is_a_program_and_starts_in_a_folder_that_nobody_knows() {
    let decider = decider(&[], &[], &[]);
    let command = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|w| encoded(w)).collect();
        let target = format!(
            "POST /api/v1/namespaces/n/pods/p/exec?command={}",
            words.join("&command=")
        );
        let facts = decider.kubernetes_facts_of(&asked(&target, None, b""));
        facts.command.clone().unwrap()
    };
    // Only a shell would take these for its own.
    for word in ["eval", "exec", "export", "if", "A=1", "-c", "", "cd", "."] {
        let facts = command(&[word, "rm", "/srv/x"]);
        assert!(facts.deletes.is_empty(), "{word}");
        let strange = facts.opaque || facts.has(ShellFlag::Unfamiliar);
        assert!(strange, "{word}: {facts:?}");
    }
    assert!(command(&["cat", "settings"]).has(ShellFlag::Unresolved));
    assert_eq!(command(&["cat", "/srv/settings"]).flags, []);
    assert!(command(&["cat", "a\0b"]).opaque);
    // Within a shell that is started, its grammar counts.
    let inner = command(&["sh", "-c", "cd /srv && rm \"$HOME\"/x *.log"]);
    assert_eq!(inner.deletes, ["/srv/*.log", "~/x"]);
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[test]
fn policies_speak_of_namespaces_kinds_and_names() {
    let policy = r#"
        @id("apps")
        permit (principal, action in [Action::"k8s:get", Action::"k8s:patch"], resource in Kind::"prod/apps-ns/apps/deployments");
        @id("ns")
        permit (principal, action == Action::"k8s:list", resource in Namespace::"prod/billing");
        @id("one")
        permit (principal, action == Action::"k8s:delete", resource == KubernetesObject::"prod/billing/core/pods/web-1");
        @id("exec")
        permit (principal, action == Action::"k8s:exec", resource in Resource::"prod") when { context.command == "systemctl restart nginx" && !context.tty };
        @id("images")
        permit (principal, action == Action::"k8s:create", resource)
        when { context.kind == "pods" && ["registry.internal/web:1"].containsAll(context.images) }
        unless { context.flags.contains("privileged") };
        @id("health")
        permit (principal, action == Action::"k8s:nonresource", resource) when { resource.path == "/healthz" };
        @id("unknown")
        permit (principal, action == Action::"k8s:unknown", resource) when { context.kind == "widgets" };
        @id("widgets")
        permit (principal, action == Action::"k8s:create", resource) when { context.kind == "widgets" };
    "#;
    let decider = decider(&[], &[("p.cedar", policy)], &[]);
    let ok = |line: &str, body: &str| {
        let kind = (!body.is_empty()).then_some("application/json");
        verdict(&decider, &asked(line, kind, body.as_bytes())) == "allow"
    };
    assert!(ok(
        "GET /apis/apps/v1/namespaces/apps-ns/deployments/web",
        ""
    ));
    assert!(!ok(
        "GET /apis/apps/v1/namespaces/other/deployments/web",
        ""
    ));
    assert!(!ok("GET /apis/apps/v1/deployments", ""));
    assert!(ok("GET /api/v1/namespaces/billing/pods", ""));
    assert!(!ok("GET /api/v1/pods", ""));
    assert!(ok("DELETE /api/v1/namespaces/billing/pods/web-1", ""));
    assert!(!ok("DELETE /api/v1/namespaces/billing/pods", ""));
    let exec =
        "POST /api/v1/namespaces/x/pods/y/exec?command=systemctl&command=restart&command=nginx";
    assert!(ok(exec, ""));
    assert!(!ok(&format!("{exec}&tty=true"), ""));
    assert!(!ok(&format!("{exec}&command=x"), ""));
    let pods = "POST /api/v1/namespaces/x/pods";
    assert!(ok(
        pods,
        r#"{"spec":{"containers":[{"image":"registry.internal/web:1"}]}}"#
    ));
    assert!(!ok(
        pods,
        r#"{"spec":{"containers":[{"image":"registry.internal/web:1"},{"image":"x"}]}}"#
    ));
    assert!(!ok(
        pods,
        r#"{"spec":{"containers":[{"image":"registry.internal/web:1","securityContext":{"privileged":true}}]}}"#
    ));
    assert!(ok("GET /healthz", ""));
    assert!(!ok("GET /metrics", ""));
    // What is opaque needs both permits.
    assert!(ok(
        "POST /apis/example.com/v1/namespaces/x/widgets",
        "{broken"
    ));
    assert!(!ok(pods, "{broken"));
}

#[test]
fn unknown_must_be_named() {
    let all = r#"@id("all") permit (principal, action, resource);"#;
    let decider = decider(&[], &[("p.cedar", all)], &[]);
    assert_eq!(
        verdict(&decider, &asked("DELETE /api/v1/nodes/n", None, b"")),
        "allow"
    );
    assert_eq!(
        verdict(&decider, &asked("POST /api/v1/nodes", None, b"{broken")),
        "refuse"
    );
    assert_eq!(
        verdict(&decider, &asked("FROB /api/v1/nodes", None, b"")),
        "refuse"
    );
}

#[test]
fn what_is_masked_is_not_written_back() {
    let all = r#"@id("all") permit (principal, action, resource);"#;
    let decider = decider(&[], &[("p.cedar", all)], &[]);
    let body = br#"{"kind":"Secret","data":{"a":"aG9vcC1tYXNrZWQtMDEyMzQ1Njc="}}"#;
    let request = asked(
        "PUT /api/v1/namespaces/n/secrets/db",
        Some("application/json"),
        body,
    );
    let refusal = decider
        .explain_kubernetes(&on_cluster(), &request)
        .refusal
        .unwrap();
    assert_eq!(refusal.code, Code::MaskedWrite);
    assert_eq!(refusal.retry, Retry::Narrower);
    insta::assert_snapshot!(refusal.message, @"billing-bot may not update secrets db in n (reads_secrets): the body holds a value that hoop masked (at /data/a), which would replace the real one");
}

/// Everything is permitted; of widgets in `shop` a field is masked.
fn masking() -> Decider {
    let text = "[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"api\"]\n\
        login = { token = { file = \"/run/token\" } }\n\
        [[mask]]\nresource = \"prod\"\ncolumns = [\"shop.widgets.spec\"]\nhow = \"redact\"\n";
    let bundle = Bundle::from_text(Path::new("hoop.toml"), text);
    let mut config = Config::from_bundle(&bundle).unwrap();
    let all = r#"@id("all") permit (principal, action, resource);
        @id("unknown") permit (principal, action == Action::"k8s:unknown", resource);"#;
    config.policy.files = vec![PolicyFile {
        name: "p.cedar".into(),
        text: all.into(),
    }];
    Decider::new(&config).unwrap()
}

#[test]
fn a_json_patch_moves_and_tests_nothing_that_is_masked() {
    let decider = masking();
    let refusal = |path: &str, body: &str| {
        let line = format!("PATCH {path}");
        let request = asked(&line, Some("application/json-patch+json"), body.as_bytes());
        decider.explain_kubernetes(&on_cluster(), &request).refusal
    };
    let secret = "/api/v1/namespaces/n/secrets/db";
    let widget = "/apis/example.com/v1/namespaces/shop/widgets/w";
    for body in [
        r#"[{"op":"copy","from":"/data/a","path":"/metadata/labels/a"}]"#,
        r#"[{"op":"add","path":"/x","value":1},{"op":"move","from":"/data/a","path":"/type"}]"#,
        r#"[{"op":"test","path":"/data/a","value":"Yg=="}]"#,
        r#"[{"op":"test","path":"/metadata/annotations/a","value":"b"}]"#,
        r#"[{"op":"add","op":"copy","from":"/data/a","path":"/type"}]"#,
    ] {
        for path in [secret, widget, &format!("{widget}/status")] {
            let refusal = refusal(path, body).unwrap();
            assert_eq!(refusal.code, Code::MaskedRead, "{path} {body}");
            assert_eq!(refusal.retry, Retry::Narrower);
        }
        // Nothing of these is masked.
        for path in [
            "/apis/example.com/v1/namespaces/other/widgets/w",
            "/api/v1/namespaces/shop/configmaps/c",
        ] {
            assert_eq!(refusal(path, body), None, "{path} {body}");
        }
    }
    for body in [
        r#"[{"op":"test","path":"/metadata/resourceVersion","value":"5"},{"op":"replace","path":"/data/a","value":"Yg=="}]"#,
        r#"[{"op":"remove","path":"/data/a"}]"#,
    ] {
        assert_eq!(refusal(secret, body), None, "{body}");
        assert_eq!(refusal(widget, body), None, "{body}");
    }
    let moves = refusal(
        secret,
        r#"[{"op":"copy","from":"/data/a","path":"/metadata/labels/a"}]"#,
    );
    insta::assert_snapshot!(moves.unwrap().message, @"billing-bot may not patch secrets db in n (reads_secrets): its JSON patch copies or moves /data/a, and values of that object are masked: elsewhere they would not be");
}

#[test]
fn only_what_is_stored_can_be_dry() {
    let decider = decider(&[], &[], &[]);
    let dry = |line: &str, body: &str| {
        let kind = (!body.is_empty()).then_some("application/json");
        decider
            .kubernetes_facts_of(&asked(line, kind, body.as_bytes()))
            .dry_run
    };
    for line in [
        "POST /api/v1/namespaces/n/pods?dryRun=All",
        "PUT /api/v1/namespaces/n/pods/p?dryRun=All",
        "PATCH /api/v1/namespaces/n/pods/p?dryRun=All",
        "DELETE /api/v1/namespaces/n/pods/p?dryRun=All",
        "DELETE /api/v1/namespaces/n/pods?dryRun=All",
    ] {
        assert!(dry(line, ""), "{line}");
    }
    for line in [
        "POST /api/v1/namespaces/n/pods/p/exec?command=id&dryRun=All",
        "POST /api/v1/namespaces/n/pods/p/attach?dryRun=All",
        "POST /api/v1/namespaces/n/pods/p/portforward?dryRun=All",
        "POST /api/v1/namespaces/n/pods/p/proxy/x?dryRun=All",
        "DELETE /api/v1/namespaces/n/services/s/proxy/x?dryRun=All",
        "POST /api/v1/namespaces/n/serviceaccounts/a/token?dryRun=All",
        "POST /api/v1/namespaces/n/pods",
    ] {
        assert!(!dry(line, ""), "{line}");
    }
}

#[test]
fn refusals_are_statuses_that_kubectl_prints() {
    let decider = decider(&["read-only"], &[], &[]);
    let request = asked(
        "DELETE /apis/apps/v1/namespaces/prod/deployments/web",
        None,
        b"",
    );
    let refusal = decider
        .explain_kubernetes(&on_cluster(), &request)
        .refusal
        .unwrap();
    let status: serde_json::Value =
        serde_json::from_slice(&refusal.status(&request.info).to_json()).unwrap();
    insta::assert_json_snapshot!(status, @r#"
    {
      "kind": "Status",
      "apiVersion": "v1",
      "metadata": {},
      "status": "Failure",
      "message": "hoop: billing-bot may not delete deployments.apps web in prod (k8s:delete): no rule permits it; keep to what the policies permit (read-only), or ask the operator for a rule",
      "reason": "Forbidden",
      "details": {
        "name": "web",
        "group": "apps",
        "kind": "deployments",
        "causes": [
          {
            "reason": "hoop",
            "message": "{\"code\":\"not_permitted\",\"rule\":null,\"retry\":\"never\",\"approval\":null,\"hint\":\"keep to what the policies permit (read-only), or ask the operator for a rule\"}"
          }
        ]
      },
      "code": 403
    }
    "#);
    let unseen = asked(
        "POST /api/v1/namespaces/prod/pods",
        Some("application/json"),
        b"{\"a\":1,\"a\":2}",
    );
    let no_destroy = crate::decide::tests::decider(
        &["no-destroy"],
        &[(
            "p.cedar",
            r#"@id("c") permit (principal, action == Action::"k8s:create", resource);"#,
        )],
        &[],
    );
    let refusal = no_destroy
        .explain_kubernetes(&on_cluster(), &unseen)
        .refusal
        .unwrap();
    assert_eq!(refusal.code, Code::Unparsable);
    assert!(
        refusal.message.contains("the key \"a\" stands twice"),
        "{}",
        refusal.message
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_body_panics_and_none_is_permitted_that_is_not_read(
        bytes: Vec<u8>, text in "[\\[\\]{}\":,a-e1 \n-]{0,60}",
        kind in prop::sample::select(vec!["json", "yaml", "proto", "merge", "strategic", "jsonpatch", "apply", "x/y"]),
    ) {
        static DECIDER: std::sync::LazyLock<Arc<Decider>> =
            std::sync::LazyLock::new(|| Arc::new(decider(&["no-destroy"], &[], &[])));
        for body in [&bytes[..], text.as_bytes()] {
            for line in ["POST /api/v1/namespaces/x/pods", "PATCH /api/v1/namespaces/x/pods/y", "DELETE /api/v1/pods/x"] {
                let request = asked(line, Some(media(kind)), body);
                let facts = DECIDER.kubernetes_facts_of(&request);
                if facts.unparsable.is_some() {
                    prop_assert_eq!(verdict(&DECIDER, &request), "refuse");
                }
            }
        }
    }
}
