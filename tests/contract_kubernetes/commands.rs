//! The table of `commands.txt`: past hoop in one namespace, through it in another, and what differs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_tests::{Ran, WRITER, Who, World};
use regex_automata::meta::Regex;

const TABLE: &str = include_str!("commands.txt");

/// Nothing of the table takes longer by itself.
const LIMIT: Duration = Duration::from_secs(90);

/// What the Secrets of the table hold, as it is and in base64.
const VALUES: [&str; 4] = [
    "correct-horse-battery",
    "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
    "joe",
    "am9l",
];

/// What differs from run to run, and what is written in its place; in this order.
const NOISE: [(&str, &str); 17] = [
    // The two namespaces are as long as each other.
    (r"past-hoop|thru-hoop", "NAMESPACE"),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "UID",
    ),
    (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9:]+)",
        "TIME",
    ),
    // As Go prints times, and as helm does.
    (
        r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Za-z0-9 ]+[0-9]{2}:[0-9]{2}:[0-9]{2}( [A-Z+0-9]+)*( [0-9]{4})?",
        "TIME",
    ),
    (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.]*( [+-][0-9]{4})?( [A-Z]+)?",
        "TIME",
    ),
    (r#"resourceVersion"?: ?"[0-9]+""#, "resourceVersion"),
    (r"(LIVE|MERGED)-[0-9]+", "FOLDER"),
    (r"kubectl-edit-[a-z0-9]+\.yaml", "FILE"),
    // Pods and replica sets of a deployment.
    (r"-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "-POD"),
    (r"\b(shop|once|often|again)-[a-z0-9]{5,10}\b", "OWNED"),
    (r#"pod-template-hash"?[=:] ?"?[0-9a-f]+"?"#, "HASH"),
    (r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b", "IP"),
    (r"\b3[0-2][0-9]{3}\b", "PORT"),
    // Ages, whose width moves what follows.
    (r"\b([0-9]+(d|h|m|s|ms))+\b( ago)?", "AGE"),
    (r"[0-9]+ bytes", "SIZE"),
    (r"<(unknown|invalid)>", "AGE"),
    (r" {2,}|-{3,}", " "),
];

/// What a mask shows, as it is and in base64; in base64 its end depends on what is beside it.
const MASKS: [(&str, &str); 2] = [
    (r"hoop-masked-[0-9a-f]{8}", "VALUE"),
    (r"aG9vcC1tYXNrZWQt[A-Za-z0-9+/]+=*", "VALUE"),
];

/// One line of the table.
struct Line {
    text: &'static str,
    masked: bool,
    loose: bool,
    hasty: bool,
    environment: Vec<(String, String)>,
    client: String,
    arguments: Vec<String>,
    input: String,
}

/// One run of the whole table.
struct Side<'w> {
    world: &'w World,
    who: Who<'w>,
    namespace: &'static str,
    folder: PathBuf,
    out: PathBuf,
}

/// Runs everything both ways; returns how many lines there were, and what differed.
pub fn compare(world: &World) -> (usize, Vec<String>) {
    let noise = compiled(&NOISE);
    let masks = compiled(&MASKS);
    let sides = [
        (Who::Direct, "past-hoop"),
        (Who::Agent(WRITER), "thru-hoop"),
    ];
    let [direct, through] = sides.map(|(who, namespace)| {
        let side = Side::new(world, who, namespace);
        let lines = lines(&side);
        let ran: Vec<(Line, Ran)> = lines
            .map(|line| {
                let ran = side.run(&line);
                (line, ran)
            })
            .collect();
        ran
    });
    let mut differ = Vec::new();
    for ((line, direct), (_, through)) in direct.iter().zip(&through) {
        let plain = |ran: &Ran, text: &str| {
            let mut text = managers_in_order(text);
            if line.masked {
                assert!(ran.code == Some(0), "{}: {}", line.text, ran.stderr);
                for value in VALUES {
                    text = text.replace(value, "VALUE");
                }
                text = replaced(&text, &masks);
            }
            replaced(&text, &noise)
        };
        let hurried = line.hasty && begins_alike(&direct.stdout, &through.stdout);
        let seen = |ran: &Ran| match (line.loose, hurried) {
            (true, _) => (ran.code, String::new(), String::new()),
            (false, true) => (ran.code, String::new(), plain(ran, &ran.stderr)),
            (false, false) => (ran.code, plain(ran, &ran.stdout), plain(ran, &ran.stderr)),
        };
        if line.masked {
            let shown = VALUES.iter().find(|value| through.stdout.contains(**value));
            assert_eq!(shown, None, "{} shows a Secret's value", line.text);
        }
        if seen(direct) != seen(through) {
            let (was, is) = (seen(direct), seen(through));
            differ.push(format!(
                "{}\n  past hoop {:?}\n{}{}\n  through it {:?}\n{}{}\n",
                line.text, was.0, was.1, was.2, is.0, is.1, is.2
            ));
        }
    }
    (direct.len(), differ)
}

fn lines<'w>(side: &'w Side<'w>) -> impl Iterator<Item = Line> + 'w {
    let lines = TABLE.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| side.line(line))
}

impl<'w> Side<'w> {
    fn new(world: &'w World, who: Who<'w>, namespace: &'static str) -> Self {
        let cluster = world.kubernetes.as_ref().expect("a cluster");
        let made = ["create", "namespace", namespace];
        let made = cluster.kubectl(&world.place, &made, "");
        made.and_then(Ran::ok).expect("a namespace");
        let folder = world.place.path("objects");
        copy(&objects(), &folder);
        let out = world.place.path(namespace);
        std::fs::create_dir_all(&out).expect("a folder to write to");
        Self {
            world,
            who,
            namespace,
            folder,
            out,
        }
    }

    fn line(&self, text: &'static str) -> Line {
        let (mut masked, mut loose, mut hasty, mut rest) = (false, false, false, text);
        loop {
            if let Some(after) = rest.strip_prefix("M ") {
                (masked, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("~ ") {
                (loose, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("H ") {
                (hasty, rest) = (true, after);
            } else {
                break;
            }
        }
        let (command, input) = match rest.split_once(" < ") {
            Some((command, file)) => {
                let text = std::fs::read_to_string(objects().join(file.trim()));
                (command, text.expect("a file of objects/"))
            }
            None => (rest, String::new()),
        };
        let mut words = words(command).into_iter().map(|word| self.filled(&word));
        let mut environment = Vec::new();
        let client = loop {
            let word = words.next().expect("a client");
            match word.split_once('=') {
                Some((name, value)) => environment.push((name.to_owned(), value.to_owned())),
                None => break word,
            }
        };
        Line {
            text,
            masked,
            loose,
            hasty,
            environment,
            client,
            arguments: words.collect(),
            input,
        }
    }

    fn filled(&self, word: &str) -> String {
        let show = |path: &Path| path.display().to_string();
        word.replace("NAMESPACE", self.namespace)
            .replace("FOLDER", &show(&self.folder))
            .replace("OUT", &show(&self.out))
    }

    fn run(&self, line: &Line) -> Ran {
        let mut command = self.world.kubernetes(self.who, &line.client).unwrap();
        command
            .arg(format!("--namespace={}", self.namespace))
            .args(&line.arguments)
            .envs(line.environment.iter().map(|(n, v)| (n, v)))
            .current_dir(&self.out);
        let ran = hoop_tests::run(&mut command, &line.input, LIMIT);
        ran.unwrap_or_else(|error| panic!("{:?} {}: {error}", self.who, line.text))
    }
}

fn objects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contract_kubernetes/objects")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("objects").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Words as a shell tells them apart, with single quotes alone.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn compiled(patterns: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    let compiled = patterns
        .iter()
        .map(|(pattern, word)| (Regex::new(pattern).expect("a pattern"), *word));
    compiled.collect()
}

fn begins_alike(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// `managedFields` of a YAML document sorted by what they say: the API server sorts them by time, to the
/// second, so that two changes of one second stand in another order than those of two.
fn managers_in_order(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut managers: Option<Vec<String>> = None;
    for line in text.split_inclusive('\n') {
        match &mut managers {
            Some(entries) if line.starts_with("  - ") => entries.push(line.to_owned()),
            Some(entries) if line.starts_with("    ") => match entries.last_mut() {
                Some(entry) => entry.push_str(line),
                None => out.push_str(line),
            },
            _ => {
                let mut entries = managers.take().unwrap_or_default();
                entries.sort();
                out.extend(entries);
                out.push_str(line);
                managers = (line == "  managedFields:\n").then(Vec::new);
            }
        }
    }
    let mut entries = managers.unwrap_or_default();
    entries.sort();
    out.extend(entries);
    out
}

fn replaced(text: &str, patterns: &[(Regex, &'static str)]) -> String {
    let mut text = text.to_owned();
    for (pattern, word) in patterns {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for found in pattern.find_iter(&text) {
            out.push_str(&text[at..found.start()]);
            out.push_str(word);
            at = found.end();
        }
        out.push_str(&text[at..]);
        text = out;
    }
    text
}

#[test]
fn noise_is_taken_for_noise_and_nothing_else() {
    let noise = compiled(&NOISE);
    for (text, plain) in [
        (
            "shop-6f7c8d9b45-x2z4q   1/1   Running   0   3m12s",
            "shop-POD 1/1 Running 0 AGE",
        ),
        ("resourceVersion: \"123\"", "resourceVersion"),
        (
            "at 2026-01-02T03:04:05Z in past-hoop",
            "at TIME in NAMESPACE",
        ),
        ("exit code 7, size: 3", "exit code 7, size: 3"),
    ] {
        assert_eq!(replaced(text, &noise), plain);
    }
    assert_eq!(words("a 'b c' d='e'"), ["a", "b c", "d=e"]);
}

#[test]
fn managers_of_one_second_stand_in_one_order() {
    let of = |first: &str, second: &str| {
        format!("kind: X\nmetadata:\n  managedFields:\n{first}{second}  name: x\ndata: {{}}\n")
    };
    let (edit, patch) = (
        "  - apiVersion: v1\n    manager: edit\n",
        "  - apiVersion: v1\n    manager: patch\n",
    );
    let (one, other) = (of(edit, patch), of(patch, edit));
    assert_eq!(managers_in_order(&one), one);
    assert_eq!(managers_in_order(&other), one);
    let lists = "metadata:\n  labels:\n  - b\n  - a\n";
    assert_eq!(managers_in_order(lists), lists);
}
