//! `hoop check`: whether a configuration would be taken, with every problem and its place.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::ConfigArg;
use crate::config::{Bundle, Config, ConfigError, Mode, Problem, credentials};
use crate::decide::Decider;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Print one JSON object per finding, then one that sums up
    #[arg(long)]
    json: bool,
}

/// An error stops hoop from starting or reloading; a warning says what it would do then.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "severity")]
enum Finding {
    Error(Problem),
    Warning(Problem),
}

#[derive(Serialize)]
struct Summary {
    ok: bool,
    errors: usize,
    warnings: usize,
    agents: usize,
    resources: usize,
    masks: usize,
    policies: usize,
}

/// 0 if hoop would take it, 1 if not.
pub fn run(args: Args) -> Result<ExitCode> {
    let path = &args.config.config;
    let (findings, config) = findings(path);
    let summary = summary(&findings, config.as_ref());
    if args.json {
        for finding in &findings {
            println!("{}", serde_json::to_string(finding)?);
        }
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", text(path, &findings, &summary));
    }
    Ok(if summary.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn findings(path: &Path) -> (Vec<Finding>, Option<Config>) {
    let is_awaited = |problem: &Problem| credentials::is_missing(&problem.what);
    let (config, awaited) = match Bundle::gather_and_parse(path).1 {
        Ok(config) => (Ok(config), Vec::new()),
        // The unit has the credentials, once it runs with them.
        Err(error) => {
            let (awaited, problems): (Vec<_>, Vec<_>) =
                error.problems.into_iter().partition(is_awaited);
            match problems.is_empty() {
                true => (Bundle::without_secrets(path), awaited),
                false => (Err(ConfigError { problems }), awaited),
            }
        }
    };
    let awaited = awaited.into_iter().map(Finding::Warning);
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let errors = error.problems.into_iter().map(Finding::Error);
            return (awaited.chain(errors).collect(), None);
        }
    };
    let mut found = warnings(path, &config);
    found.extend(awaited);
    match Decider::new(&config) {
        Ok(decider) => found.extend(decider.unmet().iter().map(|unmet| {
            let problem = Problem::of_file(path, format!("the policies: {unmet}"));
            Finding::Warning(problem.with_fix("a rule about what is not here never applies"))
        })),
        Err(error) => {
            let problem = Problem::of_file(path, format!("the policies: {error}"));
            found.push(Finding::Error(problem));
        }
    }
    (found, Some(config))
}

fn warnings(path: &Path, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |what: String, fix: &str| {
        found.push(Finding::Warning(Problem::of_file(path, what).with_fix(fix)));
    };
    if config.agents.is_empty() {
        warn(
            "no agent is configured: whatever runs below the attached slice is refused".into(),
            "add an [[agent]]",
        );
    }
    if config.policy.packs.is_empty() && config.policy.files.is_empty() {
        warn(
            "there is no policy: every statement would be refused".into(),
            "begin with [policy] use = [\"read-only\"]",
        );
    }
    if config.capture.resolvers.is_empty() {
        warn(
            "no resolver is known: agents cannot look names up".into(),
            "set [capture] resolvers",
        );
    }
    for agent in config.agents.iter().filter(|a| a.mode != Mode::Enforce) {
        let mode = match agent.mode {
            Mode::Observe => "observed: what policy refuses passes, and is marked",
            _ => "only watched: nothing is intercepted or refused",
        };
        let what = format!("agent `{}` is {mode}", agent.name);
        warn(
            what,
            "set mode = \"enforce\" when what is recorded looks right",
        );
    }
    found
}

fn summary(findings: &[Finding], config: Option<&Config>) -> Summary {
    let is_error = |finding: &&Finding| matches!(finding, Finding::Error(_));
    let errors = findings.iter().filter(is_error).count();
    Summary {
        ok: errors == 0,
        errors,
        warnings: findings.len() - errors,
        agents: config.map_or(0, |c| c.agents.len()),
        resources: config.map_or(0, |c| c.resources.len()),
        masks: config.map_or(0, |c| c.masks.len()),
        policies: config.map_or(0, |c| c.policy.packs.len() + c.policy.files.len()),
    }
}

fn text(path: &Path, findings: &[Finding], summary: &Summary) -> String {
    let mut text = String::new();
    for finding in findings {
        let line = match finding {
            Finding::Error(problem) => format!("{problem}\n"),
            Finding::Warning(problem) => format!("warning: {problem}\n"),
        };
        text.push_str(&line);
    }
    text.push_str(&if summary.ok {
        format!(
            "{}: valid; agents {}, resources {}, masks {}, policies {}\n",
            path.display(),
            summary.agents,
            summary.resources,
            summary.masks,
            summary.policies
        )
    } else {
        format!("{}: NOT valid; {} errors\n", path.display(), summary.errors)
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (Vec<Finding>, Summary) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hoop.toml");
        std::fs::write(&path, text).unwrap();
        let (findings, config) = findings(&path);
        let summary = summary(&findings, config.as_ref());
        (findings, summary)
    }

    #[test]
    fn errors_and_missing_files_are_found_together() {
        let (findings, summary) = checked(
            "[[mask]]\nresource = \"x\"\ncolumns = [\"a.b.c\"]\nhow = \"null\"\n\
             [policy]\ndirectory = \"/nonexistent/policies\"\n",
        );
        assert!(!summary.ok && summary.errors == 2);
        let lines: Vec<_> = findings
            .iter()
            .map(|f| match f {
                Finding::Error(p) | Finding::Warning(p) => p.line,
            })
            .collect();
        assert_eq!(lines, [2, 6]);
    }

    #[test]
    fn names_that_nothing_has_are_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        let policies = dir.path().join("policies");
        std::fs::write(
            policies.join("a.cedar"),
            "permit (principal == Agent::\"billing-bto\", action == Action::\"sql:read\",\n  resource in Resource::\"ordres\");\n\
             @approvers(\"dba\")\n\
             permit (principal, action == Action::\"sql:write\", resource in Database::\"ordres/app\");\n",
        )
        .unwrap();
        let path = dir.path().join("hoop.toml");
        let text = format!(
            "[policy]\ndirectory = {:?}\n",
            policies.display().to_string()
        );
        std::fs::write(&path, text).unwrap();
        let (findings, config) = findings(&path);
        let summary = summary(&findings, config.as_ref());
        assert!(summary.ok);
        let said: Vec<&str> = findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::Warning(problem) => problem.what.strip_prefix("the policies: "),
                Finding::Error(_) => None,
            })
            .collect();
        assert_eq!(
            said,
            [
                "a.cedar:1:22: no [[agent]] is called \"billing-bto\"",
                "a.cedar:2:15: no [[resource]] is called \"ordres\"",
                "a.cedar:3:13: nobody can be in the group of approvers \"dba\": no [[approver]] is in it",
                "a.cedar:4:63: no [[resource]] is called \"ordres\"",
            ]
        );
    }

    #[test]
    fn an_empty_file_is_valid_and_warned_about() {
        let (findings, summary) = checked("[capture]\nresolvers = []\n");
        assert!(summary.ok && summary.warnings == 3);
        let json = serde_json::to_value(&findings[0]).unwrap();
        assert_eq!(json["severity"], "warning");
        assert!(json["what"].is_string() && json["fix"].is_string());
    }
}
