//! How refusals read.

use super::*;
use crate::ids::ExchangeId;
use crate::terminate::Undecidable;

fn shown(refusal: &Refusal) -> String {
    format!("{}\n  {}\n", refusal.message, refusal.json_line())
}

#[test]
fn every_kind() {
    let said = |packs: &[&str], masks: &[&str], sql: &str| {
        let refusal = decider(packs, &[], masks)
            .explain(&subject(), text(sql))
            .refusal;
        shown(&refusal.unwrap())
    };
    let failing = (
        "p.cedar",
        "@id(\"sums\") forbid (principal, action in Action::\"sql\", resource) when { context.statements + 9223372036854775807 > 0 };",
    );
    let narrow = (
        "p.cedar",
        r#"permit (principal, action, resource in Schema::"orders/appdb/public");"#,
    );
    let by_policy = |policy| {
        let refusal = decider(&[], &[policy], &[])
            .explain(&subject(), text("SELECT * FROM users"))
            .refusal;
        shown(&refusal.unwrap())
    };
    let renamed = || {
        let all = ("p.cedar", "permit (principal, action, resource);");
        let refusal = decider(&[], &[all], &["public.users.ssn"])
            .explain(&subject(), text("ALTER TABLE users RENAME ssn TO harmless"))
            .refusal;
        shown(&refusal.unwrap())
    };
    let undecidable = |why| {
        let words = crate::decide::words::undecidable(&"billing-bot".into(), &why);
        shown(&words.refusal(ExchangeId(1), 0, None))
    };
    let all = [
        said(&["read-only"], &[], "DELETE FROM public.users"),
        said(
            &["read-only", "sql-starter"],
            &[],
            "SELECT charge_customer(7)",
        ),
        said(&[], &[], "SELECT 1"),
        said(&["no-destroy"], &[], "DROP TABLE users"),
        said(&["sql-starter"], &[], "UPDATE users SET name = 'x'"),
        said(&["read-only"], &[], "SELEC * FROM users"),
        said(&["read-only"], &[], "SET standard_conforming_strings = off"),
        said(
            &["read-only"],
            &["public.users.ssn"],
            "COPY users TO STDOUT (ENCODING 'SJIS')",
        ),
        said(
            &["sql-starter"],
            &["public.users.ssn"],
            "INSERT INTO t SELECT lo_get(1)",
        ),
        said(
            &["read-only"],
            &["public.users.ssn"],
            "SELECT * FROM pg_stats",
        ),
        renamed(),
        said(&["ask-before-write"], &[], "DELETE FROM users WHERE id = 1"),
        by_policy(failing),
        by_policy(narrow),
        undecidable(Undecidable::TooLarge {
            bytes: 70_000_000,
            most: 67_108_864,
        }),
        undecidable(Undecidable::UnknownName("s1".into())),
        undecidable(Undecidable::NotUtf8),
        shown(&Refusal::identity(
            "billing-bot",
            "its token expired at 12:00",
        )),
        shown(&Refusal::destination(
            "billing-bot",
            "10.0.0.7:5432",
            "it is no configured resource",
        )),
    ];
    insta::assert_snapshot!(all.concat());
}
