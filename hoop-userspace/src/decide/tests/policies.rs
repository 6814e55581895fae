//! What operators write: places of unqualified names, what beats what, and mistakes.

use super::*;

fn with(policies: &[&str], sql: &str) -> &'static str {
    let files: Vec<_> = policies.iter().map(|text| ("p.cedar", *text)).collect();
    let joined: String = files.iter().map(|(_, text)| format!("{text}\n")).collect();
    verdict(&decider(&[], &[("p.cedar", &joined)], &[]), sql)
}

const ALL: &str = "permit (principal, action in Action::\"sql\", resource);";

#[test]
fn unqualified_names_do_not_evade_rules() {
    let by_id = r#"forbid (principal, action, resource == Table::"orders/appdb/hr/salaries");"#;
    let by_schema = r#"forbid (principal, action, resource in Schema::"orders/appdb/hr");"#;
    let by_text = r#"forbid (principal, action, resource) when { resource is Table && resource.schema == "hr" };"#;
    let by_pattern = r#"forbid (principal, action, resource) when { resource is Table && resource.schema like "h*" };"#;
    for forbid in [by_id, by_schema, by_text, by_pattern] {
        assert_eq!(
            with(&[ALL, forbid], "SELECT * FROM hr.salaries"),
            "refuse",
            "{forbid}"
        );
        assert_eq!(
            with(&[ALL, forbid], "SELECT * FROM salaries"),
            "refuse",
            "{forbid}"
        );
        assert_eq!(
            with(&[ALL, forbid], "SELECT * FROM public.salaries"),
            "allow",
            "{forbid}"
        );
        assert_eq!(with(&[ALL, forbid], "SELECT 1"), "allow", "{forbid}");
    }
    assert_eq!(with(&[ALL, by_id], "SELECT * FROM people"), "allow");
    let unless =
        r#"forbid (principal, action, resource is Table) unless { resource.schema == "public" };"#;
    assert_eq!(with(&[ALL, unless], "SELECT * FROM people"), "refuse");
    assert_eq!(with(&[ALL, unless], "SELECT * FROM public.people"), "allow");
}

#[test]
fn a_permit_for_one_schema_wants_the_name_qualified() {
    let permit = r#"permit (principal, action == Action::"sql:read", resource in Schema::"orders/appdb/public");"#;
    assert_eq!(with(&[permit], "SELECT * FROM public.users"), "allow");
    assert_eq!(with(&[permit], "SELECT * FROM users"), "refuse");
    let files = [("p.cedar", permit)];
    let decider = decider(&[], &files, &[]);
    let refusal = decider
        .explain(&subject(), text("SELECT * FROM users"))
        .refusal
        .unwrap();
    assert_eq!(refusal.retry, Retry::Narrower);
    assert!(refusal.hint.contains("public.users"), "{}", refusal.hint);
    // Another database, or resource, is another place.
    let elsewhere = Subject {
        database: "other".into(),
        ..subject()
    };
    assert!(
        decider
            .explain(&elsewhere, text("SELECT * FROM public.users"))
            .refusal
            .is_some()
    );
}

#[test]
fn every_access_needs_its_permit() {
    let reads = r#"permit (principal, action == Action::"sql:read", resource);"#;
    let one = r#"permit (principal, action == Action::"sql:write", resource == Table::"orders/appdb/public/log");"#;
    let inserts = r#"permit (principal, action == Action::"sql:write", resource) when { context.verb == "INSERT" };"#;
    assert_eq!(
        with(&[reads, one], "INSERT INTO public.log SELECT * FROM users"),
        "allow"
    );
    assert_eq!(
        with(&[one], "INSERT INTO public.log SELECT * FROM users"),
        "refuse"
    );
    assert_eq!(
        with(
            &[reads, one],
            "INSERT INTO public.log VALUES (1); DELETE FROM users"
        ),
        "refuse"
    );
    assert_eq!(
        with(&[reads, inserts], "INSERT INTO a VALUES (1); DELETE FROM a"),
        "refuse"
    );
    assert_eq!(
        with(
            &[reads, inserts],
            "WITH d AS (DELETE FROM a) INSERT INTO a VALUES (1)"
        ),
        "refuse"
    );
}

#[test]
fn refuse_beats_ask_beats_allow() {
    let ask = "@id(\"ask\") @approvers(\"dba, oncall\") permit (principal, action == Action::\"sql:write\", resource);";
    let forbid = "forbid (principal, action, resource) when { context.verb == \"DELETE\" };";
    assert_eq!(with(&[ALL, ask], "SELECT 1"), "allow");
    assert_eq!(with(&[ALL, ask], "UPDATE a SET b = 1"), "ask");
    assert_eq!(with(&[ALL, ask, forbid], "DELETE FROM a"), "refuse");
    assert_eq!(
        with(
            &[ALL, ask, forbid],
            "INSERT INTO a VALUES (1); DELETE FROM a"
        ),
        "refuse"
    );
}

#[test]
fn unknown_must_be_named() {
    assert_eq!(
        with(&["permit (principal, action, resource);"], "SELEC 1"),
        "refuse"
    );
    assert_eq!(
        with(&["permit (principal, action, resource);"], "SELECT 1"),
        "allow"
    );
    let named = r#"permit (principal, action == Action::"sql:unknown", resource);"#;
    assert_eq!(with(&[named], "SELEC 1"), "allow");
    assert_eq!(with(&[named], "SELECT 1"), "refuse");
    let listed =
        r#"permit (principal, action in [Action::"sql", Action::"sql:unknown"], resource);"#;
    assert_eq!(with(&[listed], "SELEC 1"), "allow");
}

#[test]
fn functions_by_name() {
    let reads = r#"permit (principal, action == Action::"sql:read", resource);"#;
    let own = r#"permit (principal, action == Action::"sql:procedural", resource == Function::"orders/appdb/public/total");"#;
    assert_eq!(with(&[reads, own], "SELECT public.total(1)"), "allow");
    assert_eq!(with(&[reads, own], "SELECT total(1)"), "refuse");
    assert_eq!(with(&[reads, own], "SELECT hr.total(1)"), "refuse");
    assert_eq!(with(&[reads, own], "CALL public.total(1)"), "allow");
    let forbid = r#"forbid (principal, action in Action::"sql", resource) when { context.functions.contains("random") };"#;
    assert_eq!(
        with(&[reads, forbid], "SELECT pg_catalog.random()"),
        "refuse"
    );
}

#[test]
fn who_asks_and_with_what() {
    let group = r#"permit (principal in Group::"bots", action in Action::"sql", resource);"#;
    let program = r#"permit (principal, action in Action::"sql", resource) when { context.process has executable && context.process.executable == "/usr/bin/psql" };"#;
    let nobody = r#"permit (principal == Agent::"other-bot", action in Action::"sql", resource);"#;
    assert_eq!(with(&[group], "SELECT 1"), "allow");
    assert_eq!(with(&[program], "SELECT 1"), "allow");
    assert_eq!(with(&[nobody], "SELECT 1"), "refuse");
}

#[test]
fn a_rule_that_cannot_be_evaluated_refuses() {
    // Cedar would pass over this forbid: the sum overflows.
    let forbid = "@id(\"sums\") forbid (principal, action in Action::\"sql\", resource) when { context.statements + 9223372036854775807 > 0 };";
    let joined = format!("{ALL}\n{forbid}");
    let decider = decider(&[], &[("p.cedar", &joined)], &[]);
    let refusal = decider
        .explain(&subject(), text("SELECT 1"))
        .refusal
        .unwrap();
    assert_eq!(
        (refusal.code, refusal.rule),
        (Code::PolicyError, Some(Rule("sums".into())))
    );
}

fn problems(text: &str) -> String {
    let config = config(&[], &[("10-mine.cedar", text)], &[]);
    Decider::new(&config).unwrap_err().to_string()
}

#[test]
fn mistakes_have_their_place() {
    let mistakes = [
        "permit (principal, action, resource)\n\nforbid",
        "\n\npermit (principal, action == Action::\"sql:raed\", resource);",
        "permit (principal, action, resource) when {\n  context.verbb == \"SELECT\"\n};",
        "permit (principal, action, resource) when { context.verb == 1 };",
        "permit (principal, action, resource == Tabel::\"a\");",
        "// a comment\n@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
        "@approver(\"dba\")\npermit (principal, action, resource);",
        "@scope(\"session\")\nforbid (principal, action, resource);",
        "@approvers(\" , \")\npermit (principal, action, resource);",
        "@ttl(\"5m\")\npermit (principal, action, resource);",
        "@approvers(\"dba\") @ttl(\"5 minutes\")\npermit (principal, action, resource);",
        "@approvers(\"dba\") @min_approvals(\"0\")\npermit (principal, action, resource);",
        "@approvers(\"dba\") @scope(\"forever\")\npermit (principal, action, resource);",
        "@approvers(\"dba & \")\npermit (principal, action, resource);",
        "@approvers(\"dba & oncall\") @min_approvals(\"1\")\npermit (principal, action, resource);",
        "@approvers(\"dba\") @lasts(\"5m\")\npermit (principal, action, resource);",
        "@approvers(\"dba\") @reason(\"maybe\")\npermit (principal, action, resource);",
        "@break_glass(\"dba\")\npermit (principal, action, resource);",
        "permit (principal == ?principal, action, resource);",
        "permit (principal, action, resource) when { context.process.executable == \"/x\" };",
    ];
    // Which of several near names Cedar suggests for an action is chance.
    let said = |text: &&str| match problems(text).split_once(" (did you mean `Action") {
        Some((what, _)) => what.to_owned(),
        None => problems(text),
    };
    let all: Vec<_> = mistakes.iter().map(said).collect();
    insta::assert_snapshot!(all.join("\n"));
    let config = config(&["read-only", "read-onyl"], &[], &[]);
    insta::assert_snapshot!(Decider::new(&config).unwrap_err(), @"pack read-onyl: there is no such pack; there are read-only, no-destroy, ask-before-write, sql-starter");
}

#[test]
fn a_forbid_that_people_may_lift_asks_and_permits_nothing_by_itself() {
    let rules = "@id(\"reads\") permit (principal, action == Action::\"sql:read\", resource);
        @id(\"writes\") @approvers(\"owners\") permit (principal, action == Action::\"sql:write\", resource);
        @id(\"frozen\") @approvers(\"oncall\") @scope(\"session\") forbid (principal, action, resource)
        when { context.activity.session.rows > 1000 };
        @id(\"never\") forbid (principal, action, resource is Table) when { resource.name == \"salaries\" };";
    let decider = decider(&[], &[("freeze", rules)], &[]);
    let said = |rows: u64, sql: &str| {
        let mut subject = subject();
        subject.activity.session.rows = rows;
        let explained = decider.explain(&subject, text(sql));
        let verdict = match (&explained.refusal, explained.asks) {
            (None, _) => "allow",
            (Some(_), true) => "ask",
            (Some(_), false) => "refuse",
        };
        let whose = explained
            .refusal
            .map(|refusal| refusal.message)
            .unwrap_or_default();
        (verdict, whose)
    };
    assert_eq!(said(7, "SELECT * FROM public.users").0, "allow");
    let (verdict, whose) = said(2000, "SELECT * FROM public.users");
    assert_eq!(verdict, "ask");
    assert!(
        whose.contains("the approval of oncall") && whose.contains("\"frozen\""),
        "{whose}"
    );
    // Both must approve.
    let (verdict, whose) = said(2000, "DELETE FROM public.users WHERE id = 1");
    assert_eq!(verdict, "ask");
    assert!(
        whose.contains("oncall") && whose.contains("owners"),
        "{whose}"
    );
    // What is refused in any case is asked of nobody.
    assert_eq!(said(2000, "DROP TABLE public.users").0, "refuse");
    assert_eq!(said(2000, "SELECT * FROM hr.salaries").0, "refuse");
    assert_eq!(said(2000, "SELECT 1").0, "ask");
}

#[test]
fn rules_without_an_id_are_named_by_their_place() {
    let file = (
        "10-mine.cedar",
        "// first\npermit (principal, action, resource);\n\n// second\nforbid (principal, action, resource);\n",
    );
    let decider = decider(&[], &[file], &[]);
    let explained = decider.explain(&subject(), text("SELECT 1"));
    assert_eq!(explained.rules, [Rule("10-mine.cedar:5".into())]);
}

#[test]
fn what_happened_lately_counts_where_a_policy_speaks_of_it() {
    let rules = "@id(\"reads\") permit (principal, action == Action::\"sql:read\", resource);
        @id(\"slow\") forbid (principal, action, resource)
        when { context.activity.session.statements > 100 || context.activity.agent.refusals >= 5 };
        @id(\"much\") @approvers(\"dba\") permit (principal, action, resource)
        when { context.activity.agent.rows > 1000 };
        @id(\"new\") @approvers(\"dba\") permit (principal, action, resource)
        when { context.activity.session.new_tables.containsAny([\"public.users\", \"users\"]) };";
    let decider = decider(&[], &[("activity", rules)], &[]);
    assert!(decider.watches());
    assert!(!super::decider(&["read-only", "ask-before-write"], &[], &[]).watches());
    let said = |activity: Activity, sql: &str| {
        let subject = Subject {
            activity,
            ..subject()
        };
        decider.explain(&subject, text(sql)).rules
    };
    let seen = |names: &[&str]| {
        let names = names.iter().map(|n| RelationName::new(Some("public"), n));
        Arc::new(names.collect())
    };
    let quiet = || Activity {
        session: Tally {
            seen: seen(&["users"]),
            ..Tally::default()
        },
        ..Activity::default()
    };
    let sql = "SELECT * FROM public.users";
    let reads = Rule("reads".into());
    assert_eq!(said(quiet(), sql), std::slice::from_ref(&reads));
    assert_eq!(
        said(Activity::default(), sql),
        [Rule("new".into()), reads.clone()]
    );
    let mut busy = quiet();
    busy.session.statements = 101;
    assert_eq!(said(busy, sql), [Rule("slow".into())]);
    let mut clumsy = quiet();
    clumsy.agent.refusals = 5;
    assert_eq!(said(clumsy, sql), [Rule("slow".into())]);
    let mut greedy = quiet();
    greedy.agent.rows = 1001;
    assert_eq!(said(greedy, sql), [Rule("much".into()), reads]);
}
