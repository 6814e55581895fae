//! Agents in containers: each is who its runtime wrote down that it is, and nobody where that cannot
//! be told.
//!
//! There is no container engine here, so the test is one: it makes the cgroups that Docker would make
//! and writes the files that Docker would write, and a real psql runs in a network namespace of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hoop_tests::{AgentSettings, PATIENCE, Place, READER, Ran, Settings, WRITER, World};
use serde_json::{Value, json};

/// The first connection from a network namespace tells the daemon of it, and is refused.
const CONNECTS: &str = r#"
ip link set lo up
for turn in $(seq 200); do
    said=$(psql -X -A -t -q -c "$1" 2>&1); code=$?
    case "$said" in *"Connection refused"*) sleep 0.1 ;; *) break ;; esac
done
printf '%s\n' "$said"
exit $code
"#;

struct Site(World);

impl Site {
    fn start() -> Self {
        let place = Place::make().unwrap();
        let mut reader = AgentSettings::new(READER);
        reader.pick = "container = { label = \"hoop.agent=billing-bot\" }";
        let mut writer = AgentSettings::new(WRITER);
        writer.pick =
            "container = { label = \"hoop.agent=etl-bot\", image = \"registry.example/*\" }";
        let docker = place.path("docker");
        fs::create_dir_all(docker.join("containers")).unwrap();
        let settings = Settings {
            agents: vec![reader, writer],
            more: format!("[containers]\ndocker = \"{}\"\n", docker.display()),
            // These containers have no network but their own loopback.
            resource: "network = \"host\"\n".to_owned(),
            ..Settings::default()
        };
        Self(World::start_in(place, settings).unwrap())
    }

    /// A container as Docker makes one: its files first, then its cgroup.
    fn container(&self, id: &str, label: &str, runtime: &str) -> Container<'_> {
        let container = Container {
            site: self,
            id: id.to_owned(),
        };
        container.write(label, runtime);
        container.make();
        container
    }

    fn event(&self, event: &str, about: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let events = self.0.events().unwrap();
            let found = events.iter().find(|entry| {
                let text = entry.to_string();
                text.contains(event) && text.contains(about)
            });
            if let Some(found) = found {
                return found.clone();
            }
            assert!(Instant::now() < until, "no {event} among {events:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

struct Container<'s> {
    site: &'s Site,
    id: String,
}

impl Container<'_> {
    fn folder(&self) -> PathBuf {
        let docker = self.site.0.place.path("docker");
        docker.join("containers").join(&self.id)
    }

    fn cgroup(&self) -> String {
        format!("agents.slice/docker-{}.scope", self.id)
    }

    fn make(&self) {
        self.site.0.place.make_cgroup(&self.cgroup()).unwrap();
    }

    fn write(&self, label: &str, runtime: &str) {
        fs::create_dir_all(self.folder()).unwrap();
        let labels = match label {
            "" => json!({}),
            label => json!({ "hoop.agent": label }),
        };
        let config = json!({
            "ID": self.id, "Name": "/bot", "Image": "sha256:00",
            "Config": {"Image": "registry.example/team/bot:1", "Env": ["A=b"], "Labels": labels},
        });
        let host = json!({"NetworkMode": "bridge", "Runtime": runtime});
        fs::write(self.folder().join("config.v2.json"), config.to_string()).unwrap();
        fs::write(self.folder().join("hostconfig.json"), host.to_string()).unwrap();
    }

    fn ask(&self, sql: &str) -> Ran {
        let world = &self.site.0;
        let mut client = world
            .place
            .command(&self.cgroup(), None, "unshare")
            .unwrap();
        client.args(["--net", "--", "sh", "-c", CONNECTS, "sh", sql]);
        client.envs(&world.state.environment);
        hoop_tests::run(&mut client, "", PATIENCE).unwrap()
    }

    /// The agent that asked, by the recording.
    fn is(&self, marker: &str) -> Value {
        let sql = format!("SELECT '{marker}'");
        let ran = self.ask(&sql);
        assert_eq!((ran.code, ran.stdout.trim()), (Some(0), marker), "{ran:?}");
        let recording = self.site.0.recording_of(&sql).unwrap();
        let cgroup = recording.session["cgroup"].as_str().unwrap();
        assert!(cgroup.contains(&self.id), "{cgroup}");
        recording.session["agent"].clone()
    }

    fn refused(&self, with: &[&str]) {
        // What cannot be told is not looked for again within a second.
        hoop_tests::wait(&format!("a refusal with {with:?}"), || {
            let ran = self.ask("SELECT 'never'");
            assert_ne!(ran.code, Some(0), "{}", ran.stdout);
            with.iter()
                .all(|part| ran.stdout.contains(part))
                .then_some(())
        });
    }
}

fn id(digit: &str) -> String {
    digit.repeat(64)
}

#[test]
fn each_container_is_the_agent_that_its_label_names() {
    let site = Site::start();
    let reader = site.container(&id("a"), READER, "runc");
    let writer = site.container(&id("b"), WRITER, "runc");
    assert_eq!(reader.is("from the reader"), READER);
    assert_eq!(writer.is("from the writer"), WRITER);
    // And each may do what that agent may do.
    let insert = "INSERT INTO scratch VALUES (77, 'by label')";
    let refused = reader.ask(insert);
    assert!(refused.stdout.contains(READER), "{}", refused.stdout);
    assert_eq!(writer.ask(insert).code, Some(0));
    let nobody = site.container(&id("c"), "", "runc");
    nobody.refused(&["no agent is configured for the cgroup", &id("c")]);
    // What is written down anew counts from the next connection on.
    reader.write(WRITER, "runc");
    assert_eq!(reader.is("made anew"), WRITER);
    reader.write("somebody", "runc");
    reader.refused(&["no agent is configured for the cgroup"]);
    let cgroup = format!("{}/docker-{}.scope", site.0.place.slice, id("b"));
    let ran = site
        .0
        .hoop(&["whoami", "--cgroup", &cgroup, "--json"])
        .unwrap();
    let answer = ran.json_lines().unwrap().remove(0);
    assert_eq!(answer["agent"], WRITER, "{answer:#}");
    assert_eq!(answer["container"]["image"], "registry.example/team/bot:1");
}

#[test]
fn what_cannot_be_told_is_refused_with_the_reason() {
    let site = Site::start();
    let container = site.container(&id("d"), READER, "runc");
    assert_eq!(container.is("as it should be"), READER);
    let file = container.folder().join("config.v2.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    container.refused(&[
        "cannot be told",
        "can be changed by others than root",
        "hoop whoami",
    ]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "{\"ID\": ").unwrap();
    container.refused(&["cannot be told", "no whole JSON"]);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    container.refused(&["cannot be told", "cannot be read"]);
    // A name that the test made up, of which no runtime knows.
    let unknown = Container {
        site: &site,
        id: id("e"),
    };
    unknown.make();
    unknown.refused(&["cannot be told", "no runtime has written down", &id("e")]);
    site.event("unknown_container", &id("e"));
    let sessions = site.0.sessions().unwrap();
    let nobodys = sessions.iter().filter(|session| session["agent"].is_null());
    assert!(nobodys.count() >= 4, "{sessions:#?}");
}

#[test]
fn an_isolated_container_is_refused_reported_and_found_by_the_doctor() {
    let site = Site::start();
    let container = site.container(&id("f"), READER, "runsc");
    container.refused(&["isolated by gVisor", "runsc", READER]);
    let event = site.event("isolated", &id("f"));
    assert!(event.to_string().contains("gvisor"), "{event}");
    let ran = site.0.hoop(&["doctor", "--offline", "--json"]).unwrap();
    let findings = ran.json_lines().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["check"] == "container.isolated" && finding["state"] == "fail");
    let found = found.unwrap_or_else(|| panic!("{findings:#?}"));
    assert!(found.to_string().contains(&id("f")), "{found:#}");
    assert_eq!(ran.code, Some(1));
}
