//! The Debian package: what it holds, and that installing it breaks nothing and removing it leaves what
//! was there before. In a folder: dpkg's `--root`, with scripts that take `DPKG_ROOT`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoop::config::{Bundle, Config};
use hoop::terminate::authority::{Authority, Destinations};

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the repository").to_path_buf()
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().expect("a folder"))?;
    fs::write(path, text)
}

/// Made once, of what the scenario tier built; twice, to compare.
fn package(folder: &Path, umask: &str, zone: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let script = format!("umask {umask}; exec \"$@\"");
    let mut make = Command::new("sh");
    make.args(["-c", &script, "sh"]).arg(cargo);
    make.args(["xtask", "package", "--debug", "--no-build", "--to"]);
    make.arg(folder).current_dir(repository());
    make.env("TZ", zone).env("SOURCE_DATE_EPOCH", "1790000000");
    make.env("HOOP_CONFIG", "/somewhere/of/the/builder");
    said(make.output().expect("cargo xtask package"));
    let mut found = fs::read_dir(folder).expect("the folder").flatten();
    let package = found.find(|entry| entry.path().extension().is_some_and(|e| e == "deb"));
    package.expect("a package").path()
}

/// Standard output, if it went well.
fn said(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("HOOP_CONFIG");
    said(command.output().expect("a program"))
}

/// One file or folder as `dpkg-deb --contents` lists it.
struct Listed {
    mode: String,
    owner: String,
    path: String,
}

fn listed(package: &Path) -> Vec<Listed> {
    let text = run("dpkg-deb", &["--contents", &package.display().to_string()]);
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next()?, words.next()?);
        Some(Listed {
            mode: mode.to_owned(),
            owner: owner.to_owned(),
            path: words.last()?.trim_start_matches("./").to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

fn mode(path: &Path) -> u32 {
    let facts = fs::symlink_metadata(path).expect("it is there");
    facts.permissions().mode() & 0o7777
}

/// A root of its own, as far as dpkg is concerned.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/log",
            "etc",
            "usr",
        ] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "").expect("a status file");
        // Everybody may come to homes below it.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        Self(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let output = self.dpkg_ends(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        said(output) + &errors
    }

    /// What it says, where it fails.
    fn dpkg_refuses(&self, arguments: &[&str]) -> String {
        let output = self.dpkg_ends(arguments);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn dpkg_ends(&self, arguments: &[&str]) -> Output {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.path().display()));
        dpkg.args([
            "--force-depends",
            "--force-script-chrootless",
            "--log=/dev/null",
        ]);
        dpkg.args(arguments).env_remove("HOOP_CONFIG");
        dpkg.output().expect("dpkg")
    }

    fn hoop(&self, arguments: &[&str]) -> String {
        run(self.path("usr/bin/hoop"), arguments)
    }
}

#[test]
fn it_holds_what_it_should_and_the_same_bytes_whoever_makes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = package(&folder.path().join("one"), "077", "Asia/Tokyo");
    let two = package(&folder.path().join("two"), "002", "America/New_York");
    assert!(
        fs::read(&one).expect("one") == fs::read(&two).expect("two"),
        "other bytes"
    );

    let all = listed(&one);
    for file in &all {
        assert_eq!(file.owner, "root/root", "{}", file.path);
        let expected = match (file.mode.starts_with('d'), file.path.as_str()) {
            (true, _) => "drwxr-xr-x",
            (false, "usr/bin/hoop") => "-rwxr-xr-x",
            (false, _) => "-rw-r--r--",
        };
        assert_eq!(file.mode, expected, "{}", file.path);
        assert!(
            !file.path.starts_with("etc/"),
            "{} and no conffiles",
            file.path
        );
    }
    for path in [
        "usr/bin/hoop",
        "usr/lib/systemd/system/hoop.service",
        "usr/lib/systemd/system/agents.slice",
        "usr/lib/sysusers.d/hoop.conf",
        "usr/lib/tmpfiles.d/hoop.conf",
        "usr/share/doc/hoop/examples/agent.service.d-hoop.conf",
        "usr/share/doc/hoop/examples/daemonset.yaml",
        "usr/share/doc/hoop/examples/hoop.toml",
        "usr/share/doc/hoop/README.md",
        "usr/share/doc/hoop/docs/OPERATOR.md",
        "usr/share/doc/hoop/docs/adr/README.md",
        "usr/share/doc/hoop/changelog.gz",
        "usr/share/doc/hoop/copyright",
        "usr/share/man/man1/hoop.1.gz",
        "usr/share/man/man1/hoop-policy-replay.1.gz",
        "usr/share/bash-completion/completions/hoop",
        "usr/share/zsh/vendor-completions/_hoop",
        "usr/share/fish/vendor_completions.d/hoop.fish",
    ] {
        assert!(
            all.iter().any(|file| file.path == path),
            "{path} is missing"
        );
    }
    // What people read names no folder of whoever made it; the release's program is held to the same
    // where it is made.
    let out = folder.path().join("out");
    run(
        "dpkg-deb",
        &["-R", &one.display().to_string(), &out.display().to_string()],
    );
    let own = [
        repository().display().to_string(),
        "/somewhere/of/the/builder".into(),
    ];
    let mut work = vec![out.clone()];
    while let Some(path) = work.pop() {
        if path.is_dir() {
            work.extend(
                fs::read_dir(&path)
                    .expect("a folder")
                    .flatten()
                    .map(|e| e.path()),
            );
            continue;
        }
        if path.ends_with("usr/bin/hoop") {
            continue;
        }
        let text = match path.extension().is_some_and(|e| e == "gz") {
            true => run("gzip", &["-dc", &path.display().to_string()]),
            false => fs::read_to_string(&path).expect("a text"),
        };
        for own in &own {
            assert!(
                !text.contains(&format!("{own}/")),
                "{} names {own}",
                path.display()
            );
        }
    }
    links_lead_somewhere(&out.join("usr/share/doc/hoop"));
    let control = fs::read_to_string(out.join("DEBIAN/control")).expect("control");
    assert!(control.contains("Depends: libc6 (>= 2."), "{control}");
    assert!(
        !control.contains('@') || control.contains("hoop@localhost"),
        "{control}"
    );
    assert!(!out.join("DEBIAN/conffiles").exists());
    let copyright = fs::read_to_string(out.join("usr/share/doc/hoop/copyright")).expect("it");
    assert!(copyright.contains("\ncedar-policy 4."), "no crate is named");
    run(
        "bash",
        &[
            "-n",
            &out.join("usr/share/bash-completion/completions/hoop")
                .display()
                .to_string(),
        ],
    );
    for script in ["postinst", "prerm", "postrm"] {
        run(
            "sh",
            &["-n", &out.join("DEBIAN").join(script).display().to_string()],
        );
    }
}

/// Documents name each other, and what lies in the source alone by its path there.
fn links_lead_somewhere(documents: &Path) {
    let mut dead = Vec::new();
    for folder in [
        documents.to_path_buf(),
        documents.join("docs"),
        documents.join("docs/adr"),
    ] {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            if entry.path().extension().is_none_or(|e| e != "md") {
                continue;
            }
            let text = fs::read_to_string(entry.path()).expect("a text");
            for rest in text.split("](").skip(1) {
                let link = rest.split([')', '#']).next().unwrap_or_default();
                let elsewhere = link.contains("://");
                if !link.is_empty() && !elsewhere && !folder.join(link).exists() {
                    dead.push(format!("{}: {link}", entry.path().display()));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// What the operator's guide says that systemd says of the units, by the version that it names.
#[test]
fn units_are_as_exposed_as_the_guide_says() {
    let version = run("systemd-analyze", &["--version"]);
    if !version.starts_with("systemd 252") {
        println!("another systemd counts otherwise: {version}");
        return;
    }
    let units = repository().join("hoop-userspace/systemd");
    let root = tempfile::tempdir().expect("a folder");
    let system = root.path().join("etc/systemd/system");
    let copy = |name: &str, to: &str| {
        let text = fs::read(units.join(name)).expect("a unit");
        write(&system.join(to), text).expect("a copy");
    };
    copy("hoop.service", "hoop.service");
    copy("agent.service.d-hoop.conf", "bot.service.d/hoop.conf");
    write(
        &system.join("bot.service"),
        "[Service]\nExecStart=/bin/true\n",
    )
    .expect("a unit");
    let guide = fs::read_to_string(repository().join("docs/OPERATOR.md")).expect("the guide");
    for (unit, said) in [
        ("hoop.service", "gives"),
        ("bot.service", "drop-in alone comes to"),
    ] {
        let root = format!("--root={}", root.path().display());
        let arguments = ["security", "--no-pager", "--offline=true", &root, unit];
        let measured = run("systemd-analyze", &arguments);
        let (_, level) = measured.split_once("exposure level for ").expect("a level");
        let level = level.split_whitespace().nth(1).expect("a number");
        assert!(
            guide.contains(&format!("{said} {level}")),
            "{unit}: {level}"
        );
    }
}

#[test]
fn installed_it_starts_nothing_and_removed_it_leaves_what_was_there_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = package(folder.path(), "022", "UTC").display().to_string();
    let root = Root::new();
    let output = root.dpkg(&["--install", &package]);
    assert!(output.contains("nothing is governed yet"), "{output}");

    // The accounts, the folders and the program are there.
    let passwd = fs::read_to_string(root.path("etc/passwd")).expect("accounts");
    assert!(
        passwd.contains("\nhoop:") || passwd.starts_with("hoop:"),
        "{passwd}"
    );
    assert!(passwd.contains("hoop-console:"), "{passwd}");
    assert_eq!(mode(&root.path("etc/hoop")), 0o750);
    assert_eq!(mode(&root.path("var/lib/hoop")), 0o1770);
    assert!(root.hoop(&["--version"]).starts_with("hoop "));
    let example = root.path("usr/share/doc/hoop/examples/hoop.toml");
    let checked = root.hoop(&["check", "--config", &example.display().to_string()]);
    assert!(checked.contains(": valid; agents 1"), "{checked}");

    // Clients are given what they need: an account's own list, a home that is no account's, and the system.
    let state = root.path("var/lib/hoop");
    authority(&state);
    let homes = [root.path("home/bot"), root.path("srv/other")];
    let before = "a list of the account's own\n";
    for home in &homes {
        let file = home.join(".postgresql/root.crt");
        write(&file, before).expect("a list");
        for path in [home.as_path(), &home.join(".postgresql"), &file] {
            chown(path, Some(65534), Some(65534)).expect("an owner");
        }
        let (home, state) = (home.display().to_string(), state.display().to_string());
        root.hoop(&["trust", "postgres", "--home", &home, "--state", &state]);
        assert_ne!(fs::read_to_string(&file).expect("the list"), before);
    }
    let bundle = bundle_of_a_kubeconfig(&root, &homes[1], before);
    let passwd =
        passwd + "bot:x:65534:65534::/home/bot:/bin/sh\nodd:x:65534:65534::/home/odd:/bin/sh\n";
    // An account with whose files hoop cannot deal, and never has: it keeps nobody from removing hoop.
    let odd = root.path("home/odd/.ssh/known_hosts");
    write(&odd, [b'x', 0xff]).expect("known hosts");
    chown(root.path("home/odd"), Some(65534), Some(65534)).expect("an owner");
    fs::write(root.path("etc/passwd"), passwd).expect("an account");
    // As if it had helped itself: nothing is noted of it.
    let noted = state.join("keeper/trusted");
    let text = fs::read_to_string(&noted).expect("notes");
    assert!(
        text.contains("/home/bot") && text.contains("/srv/other"),
        "{text}"
    );
    // As notes name places from within.
    let others: String = text
        .split_inclusive('\n')
        .filter(|l| !l.contains("/home/bot"))
        .map(|line| line.replace(&root.path("").display().to_string(), "/"))
        .collect();
    fs::write(&noted, others).expect("notes");
    let hosts = root.path("etc/ssh/ssh_known_hosts");
    let own = "web1 ssh-ed25519 AAAA mine\n";
    let ours = "@cert-authority web1 ssh-ed25519 BBBB hoop-trust\n";
    write(&hosts, format!("{own}{ours}")).expect("known hosts");
    write(&root.path("etc/hoop/hoop.toml"), "# the operator's\n").expect("a configuration");
    write(&root.path("etc/systemd/system/bot.service.d/hoop.conf"), "").expect("a drop-in");

    // An upgrade touches none of it.
    root.dpkg(&["--install", &package]);
    assert!(
        fs::read_to_string(&hosts)
            .expect("known hosts")
            .contains("hoop-trust")
    );

    // What was noted and cannot be restored does: its list is a link by now.
    let list = root.path("srv/other/.postgresql/root.crt");
    let aside = list.with_extension("aside");
    fs::rename(&list, &aside).expect("aside");
    std::os::unix::fs::symlink(&aside, &list).expect("a link");
    let refused = root.dpkg_refuses(&["--remove", "hoop"]);
    assert!(
        refused.contains("root.crt") && refused.contains("is a link"),
        "{refused}"
    );
    fs::rename(&aside, &list).expect("back");
    let output = root.dpkg(&["--remove", "hoop"]);
    assert!(output.contains("known_hosts is left as it is"), "{output}");
    assert!(output.contains("bot.service.d/hoop.conf"), "{output}");
    for home in &homes {
        let file = home.join(".postgresql/root.crt");
        assert_eq!(fs::read_to_string(&file).expect("the list"), before);
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).expect("its facts"));
        assert_eq!(owner, 65534);
    }
    assert_eq!(fs::read_to_string(&hosts).expect("known hosts"), own);
    assert_eq!(fs::read_to_string(&bundle).expect("the bundle"), before);
    assert!(!root.path("usr/bin/hoop").exists());
    assert!(state.join("ca.key").exists() && root.path("etc/hoop/hoop.toml").exists());

    root.dpkg(&["--purge", "hoop"]);
    assert!(!state.exists() && !root.path("etc/hoop").exists());
    purged_where_the_state_is_elsewhere(&Path::new(&package).with_file_name("control"), &package);
}

/// A bundle that a kubeconfig named when hoop's authority was put into it, and names no longer.
fn bundle_of_a_kubeconfig(root: &Root, home: &Path, before: &str) -> PathBuf {
    let (config, bundle) = (root.path("kubernetes.toml"), home.join(".kube/ca.crt"));
    let text = format!(
        "[worker]\nstate = {:?}\n[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\n\
         hosts = [\"k8s.internal\"]\nlogin = {{ as_agent = true }}\n[policy]\nuse = [\"read-only\"]\n",
        root.path("var/lib/hoop")
    );
    write(&config, text).expect("a configuration");
    write(&bundle, before).expect("a bundle");
    let kubeconfig = home.join(".kube/config");
    let text = "clusters:\n- cluster:\n    certificate-authority: ca.crt\n    \
        server: https://k8s.internal:443\n  name: prod\n";
    write(&kubeconfig, text).expect("a kubeconfig");
    for path in [&home.join(".kube"), &kubeconfig, &bundle] {
        chown(path, Some(65534), Some(65534)).expect("an owner");
    }
    let (home, config) = (home.display().to_string(), config.display().to_string());
    root.hoop(&["trust", "kubeconfig", "--home", &home, "--config", &config]);
    let with = fs::read_to_string(&bundle).expect("the bundle");
    assert!(with.len() > before.len(), "{with}");
    write(&kubeconfig, "clusters: []\n").expect("another");
    bundle
}

/// The script of the purge by itself, as on the host: it is told no other root, so its folders are named here.
fn purged_where_the_state_is_elsewhere(control: &Path, package: &str) {
    run("dpkg-deb", &["-e", package, &control.display().to_string()]);
    let script = fs::read_to_string(control.join("postrm")).expect("the script");
    let root = tempfile::tempdir().expect("a folder");
    let (state, real) = (root.path().join("state"), root.path().join("real"));
    write(&real.join("recordings/one"), "x").expect("a recording");
    std::os::unix::fs::symlink(&real, &state).expect("a link");
    let script = script
        .replace("$root/var/lib/hoop", &state.display().to_string())
        .replace(
            "$root/etc/hoop\"",
            &format!("{}\"", root.path().join("etc").display()),
        )
        .replace(
            "$root/run/hoop",
            &root.path().join("run").display().to_string(),
        );
    for _ in 0..2 {
        let mut purge = Command::new("sh");
        purge
            .args(["-c", &script, "postrm", "purge"])
            .env_remove("DPKG_ROOT");
        said(purge.output().expect("sh"));
    }
    assert!(!state.is_symlink());
    assert_eq!(fs::read_dir(&real).expect("it stays").count(), 0);
}

/// The CA, as the daemon makes it when it first starts.
fn authority(state: &Path) {
    let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
        login = { user = \"hoop\" }\n[policy]\nuse = [\"read-only\"]\n";
    let bundle = Bundle::from_text(Path::new("hoop.toml"), text);
    let config = Config::from_bundle(&bundle).expect("a configuration");
    Authority::open(state, &Destinations::of(&config)).expect("a CA");
}
