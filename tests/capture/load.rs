//! Many connections at once: none lost, none mixed up.

use std::collections::HashSet;

use hoop::config::Mode;

use crate::ground::Ground;

const THREADS: usize = 8;
const EACH: usize = 2500;

#[test]
fn twenty_thousand_connections_of_eight_threads_all_arrive() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let wrong = ground.agent(&format!(
        "wrong = []
def work(t):
    for i in range({EACH}):
        to = ('198.51.%d.%d' % (t, i % 250), 1000 + i)
        s = socket.socket(); s.connect(to)
        if s.getpeername() != to or answer(s) != '%s:%d' % to: wrong.append(to)
        s.close()
threads = [threading.Thread(target=work, args=(t,)) for t in range({THREADS})]
for t in threads: t.start()
for t in threads: t.join()
print(len(wrong), wrong[:3])"
    ));
    assert_eq!(wrong, "0 []");
    let seen = daemon.seen.lock().unwrap();
    let distinct: HashSet<_> = seen.captured.iter().map(|(_, to)| *to).collect();
    assert_eq!(
        (seen.captured.len(), distinct.len()),
        (THREADS * EACH, THREADS * EACH)
    );
    assert!(seen.refused.is_empty());
    assert_eq!(daemon.capture.waiting(), 0);
}
