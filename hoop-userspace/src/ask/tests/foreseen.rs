//! What a held request would change, at the desk.

use super::*;
use crate::mask::ChangeKind;

#[test]
fn what_would_change_is_for_the_question_that_waits_and_is_in_the_log() {
    let change = |diff: &str| HeldChange {
        kind: ChangeKind::Changed,
        note: "It would change this.".into(),
        diff: diff.into(),
    };
    let mut desk = asked(&demand(&[&["dba"]], 1));
    let step = desk.foreseen(Ticket(1), change("+a: 1\n"));
    let expected = Entry::ApprovalForeseen {
        question: id(1),
        change: change("+a: 1\n"),
    };
    assert_eq!(step.entries, [expected]);
    let written = serde_json::to_value(&step.entries[0]).unwrap();
    assert_eq!(
        (&written["event"], &written["change"]["kind"]),
        (&"approval_foreseen".into(), &"changed".into())
    );
    // The same once more is no news; more than hoop says is nobody's.
    assert_eq!(desk.foreseen(Ticket(1), change("+a: 1\n")), Step::default());
    let large = "+".repeat(1 << 20);
    assert_eq!(desk.foreseen(Ticket(1), change(&large)), Step::default());
    assert_eq!(desk.foreseen(Ticket(9), change("")), Step::default());
    let mut log = desk.carried();
    log.extend(desk.foreseen(Ticket(1), change("+a: 2\n")).entries);
    let mut restored = Desk::new(TERMS);
    restored.restore(log);
    let kept = restored.case(id(1)).unwrap().change.clone();
    assert_eq!(kept, Some(change("+a: 2\n")));
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    assert_eq!(desk.foreseen(Ticket(1), change("")), Step::default());
}
