//! What a site's CI relies on: the exit codes and the output of `hoop policy test --expect`,
//! `hoop policy replay` and `hoop report`.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};

    const CONFIG: &str = r#"
[issuer.okta]
url = "https://okta.example"
audience = "api://hoop"
[[agent]]
name = "past-bot"
cgroup = "agents.slice/past-bot.service"
issuer = "okta"
client_id = "past-bot"
token = { file = "/run/past-bot" }
[[resource]]
name = "orders"
protocol = "postgres"
hosts = ["db.prod.internal"]
login = { user = "hoop_orders", database = "shop", password = { credential = "absent" } }
[policy]
use = ["no-destroy"]
"#;

    fn hoop(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut hoop = Command::new(env!("CARGO_BIN_EXE_hoop"));
        hoop.args(arguments).current_dir(folder);
        hoop.env("HOOP_CONFIG", folder.join("hoop.toml"));
        let Output {
            status,
            stdout,
            stderr,
        } = hoop.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn site() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hoop.toml"), CONFIG).unwrap();
        folder
    }

    #[test]
    fn cases_are_expected_or_not_or_no_cases() {
        let site = site();
        let expect = |cases: &str, more: &[&str]| {
            std::fs::write(site.path().join("cases.toml"), cases).unwrap();
            let arguments = [&["policy", "test", "--expect", "cases.toml"], more].concat();
            hoop(site.path(), &arguments)
        };
        let case = "agent = \"past-bot\"\nresource = \"orders\"\n[[case]]\nname = \"reads\"\nstatement = \"SELECT 1\"\nverdict = \"allow\"\n";
        assert_eq!(
            expect(case, &[]),
            (Some(0), "1 cases, all as expected\n".into(), String::new())
        );
        let wrong = case.replace("allow", "refuse");
        let (code, out, _) = expect(&wrong, &["--junit", "out.xml"]);
        assert_eq!(code, Some(1));
        assert!(
            out.contains("cases.toml:3: reads: past-bot on orders"),
            "{out}"
        );
        assert!(out.contains("- expected refuse\n"), "{out}");
        assert!(out.contains("+ got      allow by no-destroy"), "{out}");
        let xml = std::fs::read_to_string(site.path().join("out.xml")).unwrap();
        assert!(xml.contains("<failure "), "{xml}");
        let (code, out, _) = expect(&wrong, &["--json"]);
        let lines: Vec<serde_json::Value> = out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!((code, lines.len()), (Some(1), 2));
        assert_eq!(lines[0]["expected"]["verdict"], "refuse");
        assert_eq!(lines[1]["failed"], 1);
        let (code, _, error) = expect("[[case]]\nverdict = 3\n", &[]);
        assert_eq!(code, Some(2), "{error}");
        let (code, _, error) = hoop(site.path(), &["policy", "test", "--expect", "absent.toml"]);
        assert_eq!(code, Some(2));
        assert!(error.contains("absent.toml"), "{error}");
        let both = [
            "policy",
            "test",
            "--expect",
            "cases.toml",
            "--agent",
            "past-bot",
        ];
        assert_eq!(hoop(site.path(), &both).0, Some(2));
    }

    #[test]
    fn a_past_is_decided_again_and_reported() {
        let site = site();
        let state = site.path().join("state");
        hoop::trial::past::make(&state, 40).unwrap();
        std::fs::create_dir(site.path().join("next")).unwrap();
        let replay = |more: &[&str]| {
            let arguments = [
                "policy",
                "replay",
                "--policy",
                "next",
                "--directory",
                "state/recordings",
            ];
            hoop(site.path(), &[&arguments, more].concat())
        };
        let (code, _, error) = replay(&[]);
        assert_eq!(code, Some(2));
        assert!(error.contains("--use"), "{error}");
        let moot = "@id(\"moot\") forbid (principal, action == Action::\"sql:write\", resource)\n\
        when { resource is Table && resource.name == \"nowhere\" };";
        std::fs::write(site.path().join("next/stop.cedar"), moot).unwrap();
        // The packs stay: nothing changes.
        let (code, out, error) = replay(&[]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
        assert!(
            out.starts_with("124 decided again, 0 of them otherwise"),
            "{out}"
        );
        let stop = "@id(\"no-visits\") forbid (principal, action == Action::\"sql:write\", resource)\n\
        when { resource is Table && resource.name == \"visits\" };";
        std::fs::write(site.path().join("next/stop.cedar"), stop).unwrap();
        let (code, out, _) = replay(&["--json"]);
        assert_eq!(code, Some(1));
        let lines: Vec<serde_json::Value> = out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.last().unwrap()["totals"]["changed"], 40);
        assert_eq!(lines[0]["was"], "allow");
        assert_eq!(lines[0]["becomes_by"], serde_json::json!(["no-visits"]));
        let id = lines[0]["example"]["session"].as_str().unwrap();
        let told = ["replay", id, "--directory", "state/recordings"];
        assert_eq!(hoop(site.path(), &told).0, Some(0));
        let (code, _, error) = replay(&["--agent", "nobody"]);
        assert_eq!(code, Some(2));
        assert!(error.contains("the agent \"nobody\""), "{error}");
        let (code, _, error) = replay(&["--since", "0s"]);
        assert_eq!(code, Some(2));
        assert!(error.contains("nothing was decided"), "{error}");
        std::fs::write(site.path().join("next/stop.cedar"), "permit (").unwrap();
        assert_eq!(replay(&[]).0, Some(2));
        std::fs::remove_file(site.path().join("next/stop.cedar")).unwrap();
        let (code, _, error) = replay(&["--no-packs"]);
        assert_eq!(code, Some(2));
        assert!(error.contains("no policies"), "{error}");

        let report = ["report", "--directory", "state/recordings", "--json"];
        let (code, out, _) = hoop(site.path(), &report);
        let lines: Vec<serde_json::Value> = out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(code, Some(0));
        assert_eq!(lines.last().unwrap()["totals"]["refused"], 4);
        assert_eq!(lines[0]["shape"], "delete from public.users");
        assert!(
            lines[0]["no_permit"]
                .as_str()
                .unwrap()
                .contains("forbids it")
        );
        let (code, _, error) = hoop(site.path(), &[&report[..], &["--agent", "past"]].concat());
        assert_eq!(code, Some(1));
        assert!(error.contains("the agent \"past\""), "{error}");
        let (_, out, _) = hoop(site.path(), &report[..3]);
        assert!(out.contains("4 refused, 0 would be refused"), "{out}");
    }
}
