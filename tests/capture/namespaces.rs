//! Agents in network namespaces of their own.

use hoop::capture::Observed;
use hoop::config::Mode;

use crate::ground::{Ground, prelude, printed};

/// Tries for a while: the first connection tells the daemon of the namespace, and is refused.
const UNTIL_SERVED: &str = "
for _ in range(100):
    s = socket.socket()
    said = tried(lambda: s.connect(('192.0.2.1', 80)) or answer(s))
    if said != 'ECONNREFUSED': break
    time.sleep(0.05)
print(said)";

fn up() -> &'static str {
    "os.system('ip link set lo up')\n"
}

#[test]
fn a_namespace_of_the_host_is_served_after_its_first_connection() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let script = format!("{}{}{UNTIL_SERVED}", prelude(), up());
    let mut command = ground.enter(&["unshare", "--net"]);
    assert_eq!(
        printed(command.arg(script).output().unwrap()),
        "192.0.2.1:80"
    );
    let own = daemon.capture.health();
    assert!(own.iter().all(|hook| hook.healthy));
    let cookies: std::collections::BTreeSet<u64> = {
        let seen = daemon.seen.lock().unwrap();
        seen.captured
            .iter()
            .map(|(origin, _)| origin.netns_cookie)
            .collect()
    };
    assert_eq!(cookies.len(), 1);
}

#[test]
fn a_namespace_that_the_agent_made_stays_refused_and_is_reported() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let script = format!(
        "{}{}
l = socket.socket(); l.bind(('127.0.0.1', {})); l.listen(8)
{}",
        prelude(),
        up(),
        daemon.ports[0].port(),
        UNTIL_SERVED.replace("range(100)", "range(10)"),
    );
    let mut command = ground.enter(&["unshare", "--user", "--map-root-user", "--net"]);
    assert_eq!(
        printed(command.arg(script).output().unwrap()),
        "ECONNREFUSED"
    );
    daemon.until(|seen| {
        seen.observed.iter().find_map(|observed| match observed {
            Observed::Namespace { origin } => (origin.cgroup_id == ground.id()).then_some(()),
            _ => None,
        })
    });
    assert!(daemon.seen.lock().unwrap().captured.is_empty());
}
