//! A site's own cases.

use super::super::expect::{compare, junit};
use super::config;

const CASES: &str = r#"agent = "bot"
resource = "orders"
database = "appdb"

[[case]]
name = "reads pass"
statement = "SELECT * FROM public.users"
verdict = "allow"
rule = "ask-before-write/reads"

[[case]]
statement = """
DELETE FROM public.users
WHERE id < 5
"""
verdict = "refuse"

[[case]]
name = "restarts ask"
resource = "web"
statement = "systemctl restart nginx"
verdict = "ask"

[[case]]
name = "refused & why <x>"
statement = "SELECT pay_out()"
verdict = "refuse"
code = "forbidden"

[[case]]
name = "nobody"
agent = "nobody"
statement = "SELECT 1"
verdict = "allow"
"#;

#[test]
fn cases_are_compared_and_differences_shown() {
    let config = config(&["ask-before-write"], "");
    let all = compare(&config, CASES).unwrap();
    let ok: Vec<_> = all.iter().map(|case| case.ok).collect();
    let lines: Vec<_> = all.iter().map(|case| case.line).collect();
    assert_eq!(lines, [5, 11, 18, 24, 30]);
    let first = all[0].got.as_ref().unwrap();
    assert_eq!(ok[1..], [false, true, false, false], "{all:#?}");
    // The rule that permits is told, whatever the pack calls it.
    let expected = CASES.replace("ask-before-write/reads", &first.rules[0]);
    assert!(compare(&config, &expected).unwrap()[0].ok);
    assert_eq!(
        all[1].difference(),
        "  - expected refuse\n  + got      ask by ask-before-write\n             \
         bot needs the approval of hoop-approvers to run DELETE on table public.users by rule \"ask-before-write\"\n"
    );
    assert_eq!(all[1].name, "DELETE FROM public.users WHERE id < 5");
    let difference = all[3].difference();
    assert!(
        difference.contains("- expected refuse (forbidden)"),
        "{difference}"
    );
    assert!(
        difference.contains("+ got      refuse (not_permitted) by no rule"),
        "{difference}"
    );
    let difference = all[4].difference();
    assert!(
        difference.contains("no answer: there is no agent \"nobody\""),
        "{difference}"
    );
}

#[test]
fn a_refusal_of_what_is_not_understood_shows_nothing() {
    let config = config(&["read-only"], "");
    let case = |statement: &str, resource: &str, code: &str| {
        let text = format!(
            "[[case]]\nagent = \"bot\"\nresource = \"{resource}\"\nstatement = \"{statement}\"\n\
             verdict = \"refuse\"\n{code}"
        );
        compare(&config, &text).unwrap().remove(0)
    };
    for (statement, resource) in [
        ("DELTE FROM public.users", "orders"),
        ("rm 'x", "web"),
        ("DELETE api/v1/namespaces/shop/pods/a", "prod"),
    ] {
        let compared = case(statement, resource, "");
        assert!(!compared.ok, "{compared:#?}");
        let error = compared.error.unwrap_or_default();
        assert!(error.contains("does not understand"), "{error}");
    }
    let code = "code = \"unparsable\"\n";
    assert!(case("DELTE FROM public.users", "orders", code).ok);
    assert!(case("DELETE FROM public.users", "orders", "").ok);
}

#[test]
fn a_request_that_writes_has_a_body() {
    let config = config(&["read-only"], "");
    let case = |statement: &str, resource: &str, more: &str| {
        let text = format!(
            "[[case]]\nagent = \"bot\"\nresource = \"{resource}\"\nstatement = \"{statement}\"\n\
             verdict = \"refuse\"\n{more}"
        );
        compare(&config, &text).unwrap().remove(0)
    };
    let create = "POST /api/v1/namespaces/shop/configmaps";
    let body =
        "body = '{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}'\n";
    let error = case(create, "prod", "").error.unwrap_or_default();
    assert!(error.contains("give its body"), "{error}");
    assert!(case(create, "prod", body).ok);
    let typed = format!("{body}content_type = \"application/json\"\n");
    assert!(case(create, "prod", &typed).ok);
    for (statement, resource, more) in [
        ("SELECT 1", "orders", body),
        (create, "prod", "content_type = \"application/json\"\n"),
    ] {
        assert!(
            case(statement, resource, more).error.is_some(),
            "{statement}"
        );
    }
}

#[test]
fn junit_is_well_formed() {
    let config = config(&["ask-before-write"], "");
    let all = compare(&config, CASES).unwrap();
    let xml = junit("cases.toml", &all);
    let failed = all.iter().filter(|c| !c.ok && c.error.is_none()).count();
    assert!(
        xml.contains(&format!("tests=\"5\" failures=\"{failed}\" errors=\"1\"")),
        "{xml}"
    );
    assert!(
        xml.contains("name=\"refused &amp; why &lt;x&gt;\""),
        "{xml}"
    );
    for tag in ["testsuites", "testsuite", "failure", "error"] {
        let opened =
            xml.matches(&format!("<{tag} ")).count() + xml.matches(&format!("<{tag}>")).count();
        assert_eq!(
            opened,
            xml.matches(&format!("</{tag}>")).count(),
            "{tag}: {xml}"
        );
    }
}

#[test]
fn a_file_that_shows_nothing_is_an_error() {
    let config = config(&["read-only"], "");
    for (text, why) in [
        ("agent = \"bot\"\n", "no [[case]]"),
        (
            "[[case]]\nstatement = \"x\"\nverdict = \"maybe\"\n",
            "maybe",
        ),
        (
            "[[case]]\nstatment = \"x\"\nverdict = \"allow\"\n",
            "statment",
        ),
        ("[[case]\n", "TOML"),
    ] {
        let error = compare(&config, text).unwrap_err();
        assert!(error.0.contains(why), "{why}: {error}");
    }
}
