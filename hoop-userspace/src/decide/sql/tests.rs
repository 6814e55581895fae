use super::*;

fn facts(text: &str) -> Facts {
    Parser::new(Limits::default()).facts(text)
}

#[test]
fn ctes_and_aliases_are_resolved_away() {
    let found = facts(
        "WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT x FROM d JOIN public.c USING (id)",
    );
    let names = |list: &[crate::decide::RelationName]| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&found.reads), ["a", "public.c"]);
    assert_eq!(names(&found.writes), ["a", "b"]);
    assert!(found.has(Flag::WritesInCte) && found.has(Flag::Unbounded));
}
