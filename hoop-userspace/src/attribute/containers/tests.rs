//! What the runtimes write, in their folders' shapes, and what somebody else might write there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::json;

use super::*;

struct Site {
    folder: tempfile::TempDir,
    containers: Containers,
    roots: config::Containers,
}

const ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const SANDBOX: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let roots = config::Containers {
            docker: at("docker"),
            containerd: at("containerd"),
            storage: at("storage"),
        };
        for path in [&roots.docker, &roots.containerd, &roots.storage] {
            make(path);
        }
        make(&at("cgroup/agents.slice"));
        Self {
            containers: Containers::new(at("cgroup")),
            folder,
            roots,
        }
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(path);
        make(path.parent().unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn docker(&self, labels: serde_json::Value, runtime: &str) {
        let config = json!({
            "StreamConfig": {}, "State": {"Running": true, "Pid": 4242}, "ID": ID,
            "Created": "2026-01-02T03:04:05.6Z", "Path": "/bot", "Args": [],
            "Config": {
                "Hostname": "0f1e2d3c4b5a", "Env": ["TOKEN=secret"], "Cmd": ["/bot"],
                "Image": "registry.example/team/bot:1", "Labels": labels
            },
            "Image": "sha256:00", "Name": "/billing-bot", "Driver": "overlay2"
        });
        let host = json!({"Binds": null, "NetworkMode": "bridge", "Runtime": runtime, "CgroupParent": "agents.slice"});
        self.write(
            &format!("docker/containers/{ID}/config.v2.json"),
            config.to_string(),
        );
        self.write(
            &format!("docker/containers/{ID}/hostconfig.json"),
            host.to_string(),
        );
    }

    fn of(&self, cgroup: &str) -> Looked {
        self.containers.of(&self.roots, cgroup)
    }

    fn found(&self, cgroup: &str) -> Arc<Container> {
        self.of(cgroup).unwrap().unwrap()
    }

    fn error(&self, cgroup: &str) -> String {
        self.of(cgroup).unwrap_err().to_string()
    }
}

/// As a runtime makes its folders, whatever this process's mask is.
fn make(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o710)).unwrap();
}

fn scope(prefix: &str) -> String {
    format!("agents.slice/{prefix}{ID}.scope")
}

fn text(texts: &Texts, key: &str) -> String {
    texts.get(key).cloned().unwrap_or_default()
}

#[test]
fn docker() {
    let site = Site::new();
    site.docker(json!({"hoop.agent": "billing-bot"}), "runc");
    for cgroup in [
        scope("docker-"),
        format!("agents.slice/{ID}"),
        format!("/{}/x", scope("docker-")),
    ] {
        let found = site.found(&cgroup);
        assert_eq!((found.engine, found.id.as_str()), (Engine::Docker, ID));
        assert_eq!(found.name.as_deref(), Some("billing-bot"));
        assert_eq!(found.image.as_deref(), Some("registry.example/team/bot:1"));
        assert_eq!(
            text(found.labels.as_ref().unwrap(), "hoop.agent"),
            "billing-bot"
        );
        assert_eq!(found.isolated, None);
    }
    // Another runtime's name for the same id is no reason to believe Docker.
    assert!(
        site.error(&scope("crio-"))
            .contains("no runtime has written down")
    );
    assert_eq!(site.of("agents.slice/bot.service"), Ok(None));
}

#[test]
fn docker_without_labels_has_none_and_its_runtime_is_told() {
    let site = Site::new();
    site.docker(json!(null), "io.containerd.kata.v2");
    let found = site.found(&scope("docker-"));
    assert_eq!(found.labels, Some(Texts::new()));
    assert_eq!(
        found.isolated.as_ref().unwrap().by,
        Isolation::VirtualMachine
    );
}

#[test]
fn isolation_is_judged_by_the_process_its_cgroup_or_what_was_written() {
    let site = Site::new();
    let isolated = |cgroup: &str, process: Option<&Process>| {
        let isolated = site.containers.isolated(&site.roots, cgroup, process);
        isolated.map(|isolated| isolated.by)
    };
    let process = |executable: &str| Process {
        executable: Some(executable.into()),
        ..Process::default()
    };
    let (cgroup, psql) = (scope("docker-"), process("/usr/bin/psql"));
    let (vm, gvisor) = (Isolation::VirtualMachine, Isolation::Gvisor);
    // A word that cannot be had shows nothing; what runs there still does.
    assert_eq!(isolated(&cgroup, Some(&psql)), None);
    let sandbox = process("/usr/local/bin/runsc");
    assert_eq!(isolated(&cgroup, Some(&sandbox)), Some(gvisor));
    site.docker(json!(null), "runc");
    assert_eq!(isolated(&cgroup, Some(&psql)), None);
    site.docker(json!(null), "io.containerd.kata.v2");
    assert_eq!(isolated(&cgroup, Some(&psql)), Some(vm));
    assert_eq!(isolated(&cgroup, None), Some(vm));
    let katas = "agents.slice/kata_0123";
    assert_eq!(isolated(katas, Some(&psql)), Some(vm));
}

#[test]
fn a_list_of_many_is_read_again_when_it_changes() {
    let site = Site::new();
    let other = ID.replace('0', "1");
    let named = |names: &[(&str, &str)]| {
        let list: Vec<_> = names
            .iter()
            .map(|(id, name)| json!({"id": id, "names": [name], "metadata": "{}"}))
            .collect();
        site.write(
            "storage/overlay-containers/containers.json",
            json!(list).to_string(),
        );
    };
    for id in [ID, &other] {
        let spec = format!("storage/overlay-containers/{id}/userdata/config.json");
        site.write(&spec, "{}");
    }
    let name = |id: &str| {
        let found = site.of(&format!("agents.slice/libpod-{id}.scope"));
        found.map(|found| found.unwrap().name.clone())
    };
    named(&[(ID, "one"), (&other, "two")]);
    assert_eq!(name(ID), Ok(Some("one".into())));
    assert_eq!(name(&other), Ok(Some("two".into())));
    named(&[(ID, "renamed")]);
    assert_eq!(name(ID), Ok(Some("renamed".into())));
    assert!(name(&other).is_err());
    // Whoever can write it may say anything.
    let list = site
        .roots
        .storage
        .join("overlay-containers/containers.json");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        name(ID)
            .unwrap_err()
            .to_string()
            .contains("others than root")
    );
}

#[test]
fn a_change_is_noticed_and_what_cannot_be_read_any_more_is_not_remembered() {
    let site = Site::new();
    site.docker(json!({"hoop.agent": "one"}), "runc");
    let label = || {
        text(
            site.found(&scope("docker-")).labels.as_ref().unwrap(),
            "hoop.agent",
        )
    };
    assert_eq!((label(), label()), ("one".into(), "one".into()));
    site.docker(json!({"hoop.agent": "two"}), "runc");
    assert_eq!(label(), "two");
    fs::remove_dir_all(site.roots.docker.join("containers")).unwrap();
    assert!(site.error(&scope("docker-")).contains(ID));
}

#[test]
fn a_pod_of_containerds() {
    let site = Site::new();
    let bundle = format!("containerd/io.containerd.runtime.v2.task/k8s.io/{ID}");
    let spec = json!({
        "ociVersion": "1.1.0", "process": {"args": ["/bot"]},
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "agent",
            "io.kubernetes.cri.image-name": "registry.example/team/bot:1",
            "io.kubernetes.cri.sandbox-id": SANDBOX,
            "io.kubernetes.cri.sandbox-name": "billing-bot-0",
            "io.kubernetes.cri.sandbox-namespace": "agents",
            "hoop.example/agent": "billing-bot"
        }
    });
    site.write(&format!("{bundle}/config.json"), spec.to_string());
    make(
        &site
            .folder
            .path()
            .join("containerd/io.containerd.runtime.v2.task/moby"),
    );
    make(
        &site
            .folder
            .path()
            .join("cgroup/kubepods.slice/kubepods-pod1.slice"),
    );
    let cgroup = format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope");
    let found = site.found(&cgroup);
    let pod = found.pod.as_ref().unwrap();
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("agents", "billing-bot-0")
    );
    assert_eq!(pod.container.as_deref(), Some("agent"));
    assert_eq!(text(&pod.annotations, "hoop.example/agent"), "billing-bot");
    assert!(
        !pod.annotations
            .contains_key("io.kubernetes.cri.sandbox-name")
    );
    assert_eq!((&pod.labels, &found.labels), (&None, &None));
    assert_eq!(found.isolated, None);
    let of_sandbox = bundle.replace(ID, SANDBOX);
    site.write(
        &format!("{of_sandbox}/shim-binary-path"),
        "/usr/bin/containerd-shim-runsc-v1",
    );
    assert_eq!(
        site.found(&cgroup).isolated.as_ref().unwrap().by,
        Isolation::Gvisor
    );
}

#[test]
fn a_pod_of_cri_os() {
    let site = Site::new();
    let list = json!([
        {"id": SANDBOX, "names": ["k8s_POD_billing-bot-0_agents_7a_0"], "metadata": "{}"},
        {"id": ID, "names": ["k8s_agent_billing-bot-0_agents_7a_0"], "image": "00",
         "metadata": json!({"pod-name": "x", "pod-id": SANDBOX, "image-name": "registry.example/team/bot:1", "metadata-name": "agent"}).to_string()}
    ]);
    site.write(
        "storage/overlay-containers/volatile-containers.json",
        list.to_string(),
    );
    site.write("storage/overlay-containers/containers.json", "[]");
    let forged = json!({"io.kubernetes.pod.namespace": "elsewhere"}).to_string();
    let own = json!({"annotations": {"io.kubernetes.cri-o.Labels": forged, "io.kubernetes.cri-o.Namespace": "elsewhere"}});
    let sandbox = json!({"annotations": {
        "io.kubernetes.cri-o.Labels": json!({"app": "billing-bot"}).to_string(),
        "io.kubernetes.cri-o.Annotations": json!({"note": "a\nb"}).to_string(),
        "io.kubernetes.cri-o.Namespace": "elsewhere",
        "io.kubernetes.cri-o.RuntimeHandler": ""
    }});
    site.write(
        &format!("storage/overlay-containers/{ID}/userdata/config.json"),
        own.to_string(),
    );
    let of_sandbox = format!("storage/overlay-containers/{SANDBOX}/userdata/config.json");
    site.write(&of_sandbox, sandbox.to_string());
    let found = site.found(&scope("crio-"));
    let pod = found.pod.as_ref().unwrap();
    assert_eq!(found.engine, Engine::Crio);
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("agents", "billing-bot-0")
    );
    assert_eq!(text(pod.labels.as_ref().unwrap(), "app"), "billing-bot");
    assert_eq!(text(&pod.annotations, "note"), "a\nb");
    // What the sandbox does not say is not taken for nothing.
    site.write(&of_sandbox, "{}");
    assert!(
        site.error(&scope("crio-"))
            .contains("io.kubernetes.cri-o.Labels")
    );
}

#[test]
fn podman() {
    let site = Site::new();
    let list = json!([{"id": ID, "names": ["billing-bot"], "image": "00",
        "metadata": json!({"image-name": "registry.example/team/bot:1", "name": "billing-bot"}).to_string()}]);
    site.write(
        "storage/overlay-containers/containers.json",
        list.to_string(),
    );
    let spec =
        json!({"annotations": {"io.container.manager": "libpod", "hoop.agent": "billing-bot"}});
    site.write(
        &format!("storage/overlay-containers/{ID}/userdata/config.json"),
        spec.to_string(),
    );
    let found = site.found(&format!("{}/container", scope("libpod-")));
    assert_eq!(
        (found.engine, found.name.as_deref()),
        (Engine::Podman, Some("billing-bot"))
    );
    assert_eq!(text(&found.annotations, "hoop.agent"), "billing-bot");
    assert_eq!((&found.labels, &found.pod), (&None, &None));
}

#[test]
fn what_others_may_have_written_proves_nothing() {
    let site = Site::new();
    site.docker(json!({"hoop.agent": "billing-bot"}), "runc");
    let folder = site.roots.docker.join("containers").join(ID);
    let file = folder.join("config.v2.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        site.error(&scope("docker-"))
            .contains("can be changed by others")
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        site.error(&scope("docker-"))
            .contains("can be changed by others")
    );
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).unwrap();
    assert!(site.of(&scope("docker-")).is_ok());
    let elsewhere = site.write("elsewhere.json", fs::read(&file).unwrap());
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(site.error(&scope("docker-")).contains("cannot be read"));
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(site.error(&scope("docker-")).contains("no regular file"));
    fs::remove_dir_all(&folder).unwrap();
    symlink(site.folder.path(), &folder).unwrap();
    assert!(site.error(&scope("docker-")).contains("cannot be read"));
}

#[test]
fn what_is_not_as_docker_writes_it_is_refused_without_quoting_it() {
    let site = Site::new();
    site.docker(json!({}), "runc");
    let path = format!("docker/containers/{ID}/config.v2.json");
    let other = ID.replace('0', "1");
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "[".repeat(100_000),
        json!({"ID": ID}).to_string(),
        json!({"ID": other, "Config": {}}).to_string(),
        json!({"ID": ID, "Config": {"Labels": {"a": 5}, "Env": ["TOKEN=secret"]}}).to_string(),
        json!({"ID": ID, "Config": {"Labels": "TOKEN=secret"}}).to_string(),
        json!({"ID": ID, "Config": {"Labels": {"a": "TOKEN=secret"}}}).to_string() + "x",
    ] {
        site.write(&path, &text);
        let error = site.error(&scope("docker-"));
        assert!(
            error.contains("not as its runtime writes it"),
            "{text:.60}: {error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
    site.write(&path, vec![b' '; (MAX_FILE + 1) as usize]);
    assert!(
        site.error(&scope("docker-"))
            .contains("more than 1048576 bytes")
    );
}

#[test]
fn a_name_in_a_cgroup_that_was_handed_over_proves_nothing() {
    let site = Site::new();
    site.docker(json!({"hoop.agent": "billing-bot"}), "runc");
    let delegated = site.folder.path().join("cgroup/agents.slice/bot.service");
    make(&delegated);
    let cgroup = format!("agents.slice/bot.service/docker-{ID}.scope");
    assert!(site.of(&cgroup).is_ok());
    fs::set_permissions(&delegated, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(site.error(&cgroup).contains("proves nothing"));
    if nix::unistd::Uid::effective().is_root() {
        fs::set_permissions(&delegated, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&delegated, Some(4242), None).unwrap();
        assert!(site.error(&cgroup).contains("proves nothing"));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever stands in a file: an answer or an error, and never a panic.
    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), cut in 0usize..400) {
        let valid = json!({"annotations": {"io.kubernetes.cri-o.Labels": "{\"a\":\"b\"}"}, "ID": ID, "Config": {"Labels": {"x": "y"}}}).to_string();
        let cut = valid.get(..cut.min(valid.len())).unwrap();
        for text in [&bytes[..], cut.as_bytes()] {
            let _ = shapes::docker(ID, text, b"{}");
            let _ = shapes::containerd(ID, text);
            let _ = shapes::sandbox(text);
            for stored in shapes::stored(text).iter().flat_map(|list| list.values()) {
                let _ = stored.container();
            }
        }
    }
}
