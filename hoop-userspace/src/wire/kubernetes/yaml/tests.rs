//! What YAML is read as, and what is not read at all.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn what_everybody_reads_the_same_is_read() {
    let text = r#"---
# A comment.
apiVersion: apps/v1   # another
kind: Deployment
metadata:
  name: web
  labels: {app: web, "tier": 'it''s'}
  annotations:
    note: |
      first
        second

      third
    other: |-
      no newline
spec:
  replicas: 3
  paused: no
  template:
    spec:
      hostNetwork: yes
      containers:
      - name: web
        image: nginx:1.27
        args: [--port, "80", -v]
        command:
          - /bin/sh
          - -c
          - "echo \"x\"\n"
        resources:
          limits:
            memory: 512Mi
            cpu: 100m
            ratio: 1.5
      - image: 10.0.0.1
        name: b
      volumes:
        -
          name: v
          emptyDir: {}
      tolerations: []
      empty:
      nothing: ~
"#;
    let value = parse(text.as_bytes()).unwrap();
    assert_eq!(
        value,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "labels": {"app": "web", "tier": "it's"},
                "annotations": {"note": "first\n  second\n\nthird\n", "other": "no newline"},
            },
            "spec": {
                "replicas": 3, "paused": false,
                "template": {"spec": {
                    "hostNetwork": true,
                    "containers": [
                        {"name": "web", "image": "nginx:1.27", "args": ["--port", "80", "-v"],
                         "command": ["/bin/sh", "-c", "echo \"x\"\n"],
                         "resources": {"limits": {"memory": "512Mi", "cpu": "100m", "ratio": 1.5}}},
                        {"image": "10.0.0.1", "name": "b"},
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "tolerations": [], "empty": null, "nothing": null,
                }},
            },
        })
    );
    assert_eq!(parse(br#"{"a": [1]}"#), Ok(json!({"a": [1]})));
    assert_eq!(
        parse(b"- - 1\n  - 2\n- a: b\n  c: d\n"),
        Ok(json!([[1, 2], {"a": "b", "c": "d"}]))
    );
    assert_eq!(parse(b""), Ok(Value::Null));
    assert_eq!(parse(b"a: |\n  x"), Ok(json!({"a": "x"})));
    assert_eq!(parse(b"a: |\n  x\n\n"), Ok(json!({"a": "x\n"})));
}

#[test]
fn what_readers_differ_about_is_refused() {
    for text in [
        "a: &x 1\nb: *x\n",
        "a: *x\n",
        "a: !!str 1\n",
        "a: !tag x\n",
        "<<: {a: 1}\n",
        "a: 1\na: 2\n",
        "a: 1\n\"a\": 2\n",
        "a: 010\n",
        "a: 0x10\n",
        "a: 0b1\n",
        "a: 0o7\n",
        "a: 1_000\n",
        "a: 12:30:45\n",
        "a: 80:80\n",
        "a: 1e3\n",
        "a: .5\n",
        "a: .inf\n",
        "a: -.INF\n",
        "a: +1\n",
        "a: -0\n",
        "a: 2026-01-02\n",
        "a: 2026-01-02 03:04:05\n",
        "a: 99999999999999999999\n",
        "a: >\n  folded\n",
        "a: |2\n   x\n",
        "a: |+\n  x\n",
        "a: |\n\n  x\n",
        "a: one\n  two\n",
        "a: \"one\n  two\"\n",
        "a:\t1\n",
        "\ta: 1\n",
        "a: 1\r\n",
        "? a\n: b\n",
        "a: b: c\n",
        "a: b:\n",
        "yes: 1\n",
        "1: 2\n",
        "~: 2\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\n",
        "... #c\n",
        "---\n---\na: 1\n",
        "--- a\n",
        "%YAML 1.2\n---\na: 1\n",
        "a: @x\n",
        "a: `x`\n",
        "a: %x\n",
        "a: , b\n",
        "a: [1, 2\n  , 3]\n",
        "a: {b:1}\n",
        "a: {\"b\":1}\n",
        "a: [x y]\n",
        "a: [a: b]\n",
        "a: [1,,2]\n",
        "a: {a, b}\n",
        "a: \"\\x41\"\n",
        "a: \"\\/\"\n",
        "a: \"\\ud83d\\ude00\"\n",
        "a: 'x' y\n",
        "a: \"x\"#y\n",
        "a: 1\n b: 2\n",
        "  a: 1\nb: 2\n",
        "a:\n  - 1\n b: 2\n",
        "- a\nb: 1\n",
        "a: 1\n- b\n",
        "a: x\u{2028}y\n",
        "a: x\u{85}y\n",
        "\u{feff}a: 1\n",
        "a\n",
        "a: ?x\n",
        "a: :x\n",
    ] {
        let read = parse(text.as_bytes());
        let alone = text == "a\n" && read == Ok(json!("a"));
        assert!(read.is_err() || alone, "{text:?}: {read:?}");
    }
    assert!(parse(b"a: \xff\n").is_err());
    let deep = "- ".repeat(200) + "x\n";
    assert!(parse(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ a-c:\\-\\[\\]{}\"'|>#\n,1~&*!?\u{e9}]{0,60}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }
}
