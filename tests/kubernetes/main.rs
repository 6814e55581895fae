//! A real Kubernetes cluster, past hoop: that the world of these tests is what it seems to be, and
//! that the kept answers of the API server are its answers.

mod requests;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hoop_tests::{Kubernetes, PATIENCE, Place, Ran, run};

struct Cluster {
    place: Place,
    kubernetes: Kubernetes,
}

/// The one cluster of this program. Nothing drops it: the janitor removes it at the end.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let place = Place::make().expect("a place");
        let started = Instant::now();
        let kubernetes = Kubernetes::start(&place).expect("a cluster");
        println!("the cluster is ready after {:?}", started.elapsed());
        Cluster { place, kubernetes }
    })
}

/// How a client speaks with the cluster.
#[derive(Clone, Copy, Debug)]
struct Way {
    client: &'static str,
    /// Which streaming protocol it begins with; old clients know but one.
    websockets: bool,
}

const WAYS: [Way; 3] = [
    Way {
        client: "kubectl",
        websockets: true,
    },
    Way {
        client: "kubectl",
        websockets: false,
    },
    Way {
        client: "kubectl-1.20",
        websockets: false,
    },
];

impl Way {
    fn command(self, arguments: &[&str]) -> std::process::Command {
        let Cluster { place, kubernetes } = cluster();
        let mut command = kubernetes.command(place, self.client).expect("a client");
        for variable in ["REMOTE_COMMAND", "PORT_FORWARD"] {
            let name = format!("KUBECTL_{variable}_WEBSOCKETS");
            command.env(name, self.websockets.to_string());
        }
        command.args(arguments);
        command
    }

    fn run(self, arguments: &[&str], input: &str) -> Ran {
        run(&mut self.command(arguments), input, PATIENCE).expect("kubectl to end")
    }

    fn good(self, arguments: &[&str], input: &str) -> String {
        let ran = self.run(arguments, input).ok();
        ran.unwrap_or_else(|e| panic!("{self:?} {arguments:?}: {e}"))
            .stdout
    }
}

/// A pod with a command of its own, gone again at the end.
struct Pod(String);

impl Pod {
    fn start(way: Way, name: &str, script: &str) -> Self {
        let made = [
            "run",
            name,
            "--image=test",
            "--restart=Never",
            "--command",
            "--",
        ];
        way.good(&[&made[..], &["sh", "-c", script]].concat(), "");
        way.good(
            &[
                "wait",
                "--for=condition=Ready",
                "--timeout=30s",
                "pod",
                name,
            ],
            "",
        );
        Self(name.to_owned())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        WAYS[0].run(&["delete", "pod", &self.0, "--wait=false"], "");
    }
}

fn everything(way: Way, name: &str) {
    let nodes = way.good(&["get", "nodes"], "");
    assert!(nodes.contains("node-1   Ready"), "{nodes}");
    let pod = Pod::start(
        way,
        name,
        "echo started; echo oops >&2; exec sleep infinity",
    );

    let logs = until(
        || way.good(&["logs", name], ""),
        |text| text.lines().count() == 2,
    );
    assert_eq!(sorted(&logs), "oops\nstarted\n", "{way:?}");

    let ended = way.run(
        &[
            "exec",
            name,
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ],
        "",
    );
    assert_eq!(ended.code, Some(7), "{way:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "out\n");
    assert!(ended.stderr.starts_with("err\n"), "{}", ended.stderr);

    let text = "line of standard input\n".repeat(20_000);
    let echoed = way.good(&["exec", "-i", name, "--", "cat"], &text);
    assert!(
        echoed == text,
        "{way:?}: {} of {} bytes",
        echoed.len(),
        text.len()
    );

    copies(way, name);
    forwards(way, name);
    drop(pod);
}

/// A file there and back, by tar over exec.
fn copies(way: Way, name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, "copied".repeat(10_000)).expect("a file");
    let inside = format!("{name}:/tmp/copied");
    let [there, back] = [&there, &back].map(|path| path.display().to_string());
    way.good(&["cp", &there, &inside], "");
    way.good(&["cp", &inside, &back], "");
    assert_eq!(std::fs::read(back).unwrap(), std::fs::read(there).unwrap());
    let Cluster { kubernetes, .. } = cluster();
    assert!(kubernetes.pod("default", name).join("copied").exists());
}

/// A connection through a forwarded port: both directions, and its end.
fn forwards(way: Way, name: &str) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut question = String::new();
        connection.read_to_string(&mut question).unwrap();
        connection
            .write_all(question.to_uppercase().as_bytes())
            .unwrap();
    });
    let mut command = way.command(&["port-forward", name, &format!(":{port}")]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a forwarder");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.strip_prefix("Forwarding from ").expect("an address");
    let address = address.split(' ').next().unwrap();
    let mut connection = TcpStream::connect(address).expect("the forwarded port");
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    connection.write_all(b"forwarded").unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "FORWARDED", "{way:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    answering.join().unwrap();
}

fn until<T>(mut ask: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = ask();
        if good(&answer) || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Standard output and error of a container come in either order.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_client_does_everything_with_a_node_of_either_kind() {
    let Cluster { place, kubernetes } = cluster();
    for pass in [false, true] {
        kubernetes.pass_websockets(place, pass).expect("a node");
        for (index, way) in WAYS.into_iter().enumerate() {
            everything(way, &format!("web-{pass}-{index}"));
        }
    }
}

#[test]
fn a_command_that_ends_ends_its_pod() {
    let way = WAYS[0];
    let made = [
        "run",
        "once",
        "--image=test",
        "--restart=Never",
        "--command",
        "--",
    ];
    way.good(
        &[&made[..], &["sh", "-c", "echo done; exit 3"]].concat(),
        "",
    );
    let phase = ["get", "pod", "once", "-o", "jsonpath={.status.phase}"];
    let phase = until(|| way.good(&phase, ""), |phase| phase == "Failed");
    assert_eq!(phase, "Failed");
    assert_eq!(way.good(&["logs", "once"], ""), "done\n");
}

#[test]
fn a_deployment_gets_its_pods() {
    let way = WAYS[0];
    way.good(
        &[
            "create",
            "deployment",
            "shop",
            "--image=test",
            "--replicas=2",
        ],
        "",
    );
    let status = ["rollout", "status", "deployment/shop", "--timeout=30s"];
    way.good(&status, "");
    let pods = way.good(&["get", "pods", "-l", "app=shop", "-o", "name"], "");
    assert_eq!(pods.lines().count(), 2, "{pods}");
    way.good(&["delete", "deployment", "shop"], "");
}

#[test]
fn the_kept_requests_are_those_of_the_servers_documents() {
    let Cluster { place, kubernetes } = cluster();
    let made = requests::from_documents(place, kubernetes);
    assert!(made.lines().count() >= 1_000);
    requests::same_as_kept("requests.tsv", &made);
    requests::same_as_kept("requests.answers.jsonl", &requests::oracle("requests.tsv"));
}

#[test]
fn the_kept_answers_are_those_of_the_api_servers_function() {
    requests::same_as_kept("edges.answers.jsonl", &requests::oracle("edges.tsv"));
}
