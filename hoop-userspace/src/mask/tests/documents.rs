//! JSON documents by path.

use super::copied::copied;
use super::traced::{bench, labelled};
use super::*;

#[test]
fn documents_lose_what_paths_name() {
    let inside = How::Inside(
        [
            (JsonPath::new("$.card.number").unwrap(), How::Partial),
            (JsonPath::new("$..ssn").unwrap(), How::Redact),
        ]
        .into(),
    );
    let document = r#"{"card": {"number": "4111111111111111", "name": "A"}, "x": [{"ssn": 7}]}"#;
    let masked =
        r#"{"card": {"number": "************1111", "name": "A"}, "x": [{"ssn": "[masked]"}]}"#;
    let shown = |sql: &str, columns: Vec<Column>, value: &str| {
        bench(inside.clone())
            .row(sql, columns, &[Some(value)])
            .remove(0)
            .unwrap()
    };
    for kind in [114, 3802, TEXT] {
        let plain = vec![labelled("ssn", 20000, 3, kind)];
        assert_eq!(
            shown("SELECT ssn FROM users", plain.clone(), document),
            masked
        );
        let renamed = vec![labelled("x", 0, 0, kind)];
        let sql = "SELECT x FROM (SELECT ssn AS x FROM users UNION SELECT note FROM other) s";
        assert_eq!(shown(sql, renamed, document), masked);
        assert!(shown("SELECT ssn FROM users", plain, "{no document").contains("[masked]"));
    }
    let computed = vec![labelled("?column?", 0, 0, TEXT)];
    assert_eq!(
        shown("SELECT ssn ->> 'x' FROM users", computed, document),
        "[masked]"
    );
    let copied = copied(
        "COPY users TO STDOUT",
        inside,
        "1\tA\t{\"ssn\": \"a\\\\nb\"}\n",
    );
    assert_eq!(copied, "1\tA\t{\"ssn\": \"[masked]\"}\n");
}

#[test]
fn of_several_rules_of_a_document_all_paths_count_and_a_whole_mask_more() {
    let inside = |path: &str| How::Inside([(JsonPath::new(path).unwrap(), How::Redact)].into());
    let shown = |hows: [How; 2]| {
        let rules = hows.map(|how| (pattern("public.users.ssn"), how));
        let mut bench = bench(How::Redact);
        bench.masker = Masker::new(Rules::of(rules, &HashKey::new(&[5; 32]), 1 << 20));
        let column = vec![labelled("ssn", 20000, 3, 114)];
        bench
            .row(
                "SELECT ssn FROM users",
                column,
                &[Some(r#"{"a":1,"b":2,"c":3}"#)],
            )
            .remove(0)
    };
    let both = shown([inside("$.a"), inside("$.b")]);
    assert_eq!(
        both.as_deref(),
        Some(r#"{"a":"[masked]","b":"[masked]","c":3}"#)
    );
    assert_eq!(shown([inside("$.a"), How::Null]), None);
}
