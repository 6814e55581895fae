//! The DaemonSet that the package brings: that it is YAML, that the program takes its commands and its
//! configuration, and that every path which the daemon uses there is one of the node's.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use hoop::config::{Bundle, Config};
    use hoop::wire::kubernetes::yaml;
    use serde_json::Value;

    const EXAMPLE: &str = include_str!("../kubernetes/daemonset.yaml");

    fn of_kind(kind: &str) -> Value {
        let list = yaml::parse(EXAMPLE.as_bytes()).unwrap();
        let items = list["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}")).clone()
    }

    fn pod() -> Value {
        of_kind("DaemonSet")["spec"]["template"]["spec"].clone()
    }

    fn texts(list: &Value) -> Vec<&str> {
        let list = list.as_array().unwrap();
        list.iter().map(|text| text.as_str().unwrap()).collect()
    }

    fn configuration() -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoop.toml");
        let map = of_kind("ConfigMap");
        std::fs::write(&file, map["data"]["hoop.toml"].as_str().unwrap()).unwrap();
        Bundle::without_secrets(&file).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether the program takes a command line: each of its options is asked for in the help.
    fn taken(command: &[&str]) -> Result<(), String> {
        let ["hoop", subcommand, rest @ ..] = command else {
            return Err(format!("{command:?} is not hoop"));
        };
        let mut hoop = Command::new(env!("CARGO_BIN_EXE_hoop"));
        let output = hoop.args([*subcommand, "--help"]).output().unwrap();
        if !output.status.success() {
            return Err(format!("there is no hoop {subcommand}"));
        }
        let help = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = help.split([' ', '\n', ',']).collect();
        match rest
            .iter()
            .find(|w| w.starts_with('-') && !words.contains(w))
        {
            Some(option) => Err(format!("hoop {subcommand} has no {option}")),
            None => Ok(()),
        }
    }

    #[test]
    fn the_commands_are_the_programs_own() {
        let container = pod()["containers"][0].clone();
        let run = texts(&container["command"]);
        taken(&run).unwrap();
        taken(&texts(&container["readinessProbe"]["exec"]["command"])).unwrap();
        assert!(taken(&["hoop", "rn"]).is_err() && taken(&["hoop", "run", "--confg"]).is_err());
        let config = run.iter().position(|word| *word == "--config").unwrap();
        assert_eq!(run[config + 1], "/etc/hoop/hoop.toml");
    }

    /// Mount paths of the container, and the volume at each.
    fn mounts() -> BTreeMap<PathBuf, Value> {
        let pod = pod();
        let volumes = pod["volumes"].as_array().unwrap().clone();
        let mounts = pod["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .clone();
        let mut found = BTreeMap::new();
        for mount in &mounts {
            let volume = volumes
                .iter()
                .find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume for {mount}"));
            found.insert(mount["mountPath"].as_str().unwrap().into(), volume.clone());
        }
        assert_eq!(found.len(), volumes.len(), "each volume is mounted once");
        found
    }

    #[test]
    fn whatever_the_daemon_uses_is_mounted_where_it_looks() {
        let (config, mounts) = (configuration(), mounts());
        let of_host = |path: &Path| {
            let covering = mounts.iter().rev().find(|(at, _)| path.starts_with(at));
            let (at, volume) =
                covering.unwrap_or_else(|| panic!("{} is not mounted", path.display()));
            // The same path inside and outside: what the daemon says of a path holds on the node.
            assert_eq!(volume["hostPath"]["path"], at.to_str().unwrap(), "{volume}");
        };
        of_host(&config.worker.state);
        of_host(&config.worker.runtime);
        of_host(&config.record.directory);
        of_host(&config.capture.pins);
        of_host(&config.containers.containerd);
        of_host(&config.containers.storage);
        of_host(Path::new("/sys/fs/cgroup"));
        let text = of_kind("ConfigMap").to_string();
        assert!(text.contains("/etc/hoop/secrets/orders-password"));
        assert!(mounts.contains_key(Path::new("/etc/hoop/secrets")));
        assert!(mounts.contains_key(Path::new("/etc/hoop/hoop.toml")));
    }

    #[test]
    fn the_pod_has_what_the_keeper_needs() {
        let pod = pod();
        assert_eq!(
            (&pod["hostPID"], &pod["hostNetwork"]),
            (&true.into(), &true.into())
        );
        assert_eq!(pod["containers"][0]["securityContext"]["privileged"], true);
        assert_eq!(pod["tolerations"][0]["operator"], "Exists");
        let selector = &of_kind("DaemonSet")["spec"]["selector"]["matchLabels"];
        let labels = &of_kind("DaemonSet")["spec"]["template"]["metadata"]["labels"];
        assert_eq!(selector, labels);
        let config = configuration();
        assert!(config.agents[0].pick.is_some() && config.agents[1].pick.is_none());
        let drain = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(drain > config.worker.drain.as_secs());
    }
}
