//! What may stand where in the tree, and what no tracked file may mention.

use super::Complaint;

/// Everything else belongs into one of these.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "hoop-ebpf",
    "hoop-userspace",
    "hoop-common",
    "xtask",
    "tests",
    "docs",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];

pub fn top_level(files: &[String]) -> Vec<Complaint> {
    let mut seen = Vec::new();
    for file in files {
        let top = file.split('/').next().unwrap_or(file);
        if !top.starts_with('.') && !TOP.contains(&top) && !seen.contains(&top) {
            seen.push(top);
        }
    }
    let complain = |top: &str| Complaint {
        file: top.to_owned(),
        line: 0,
        what: "the top level holds the crates, tests, docs and a few named files only".to_owned(),
    };
    seen.into_iter().map(complain).collect()
}

/// Hosts that packages come from, and folders of one machine: both are settings of whoever builds.
///
/// Written in halves so that this file passes its own rule.
const PLACES: &[(&str, &str)] = &[
    ("registry.npm", "js.org"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("proxy.golang", ".org"),
    ("files.python", "hosted.org"),
    ("pypi", ".org"),
    ("deb.debian", ".org"),
    ("repo.maven", ".apache.org"),
    ("/work", "/"),
    ("/root", "/"),
];

pub fn places(file: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (first, second) in PLACES {
            let place = format!("{first}{second}");
            if line.contains(&place) {
                complaints.push(Complaint {
                    file: file.to_owned(),
                    line: number + 1,
                    what: format!("names {place}: a registry's host or one machine's folder"),
                });
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_entries_stand_at_the_top() {
        let files = ["docs/a.md", ".ci/run", "fuzz/a.rs", "fuzz/b.rs"].map(str::to_owned);
        let complaints = top_level(&files);
        assert_eq!(complaints.len(), 1);
        assert_eq!(complaints[0].file, "fuzz");
    }

    #[test]
    fn registry_hosts_and_machine_folders_are_found() {
        let text = format!(
            "a\nfetch https://{}{}/x\n{}{}x",
            "pypi", ".org", "/work", "/"
        );
        let lines: Vec<usize> = places("x", &text).iter().map(|c| c.line).collect();
        assert_eq!(lines, [2, 3]);
        assert_eq!(places("x", "docs at https://docs.rs and workspaces"), []);
    }
}
