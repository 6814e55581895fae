//! What a report counts, what it shows, and that its permits permit just what they should.

use std::time::{Duration, SystemTime};

use super::super::policy::Verdict;
use super::super::recorded::Filter;
use super::super::report::{Kind, Report, Row};
use super::{Scene, all};
use crate::config::Mode;
use crate::wire::ssh::channel::Message;

fn reported(scene: &Scene, filter: &Filter) -> Report {
    super::super::report::report(&scene.directory(), &scene.config, true, filter, 50).unwrap()
}

fn only<'r>(report: &'r Report, shape: &str) -> &'r Row {
    let mut found = report.rows.iter().filter(|row| row.shape.contains(shape));
    let row = found.next().unwrap_or_else(|| panic!("{:#?}", report.rows));
    assert_eq!(found.next(), None);
    row
}

#[test]
fn refusals_are_counted_by_shape_and_the_permit_is_for_that_shape_alone() {
    let mut scene = Scene::new(&["read-only"], "");
    for n in 0..3 {
        scene.session("orders", Mode::Enforce, |live| {
            live.sql(&format!(
                "UPDATE public.users SET note = 's3cret{n}' WHERE id = {n}"
            ));
            live.sql("SELECT 1");
            live.prepared(&format!("DELETE FROM orders WHERE id = {n} -- s3cret"));
        });
    }
    let report = reported(&scene, &all());
    assert_eq!((report.totals.refused, report.totals.shapes), (6, 2));
    let row = only(&report, "update");
    assert_eq!(row.shape, "update public.users set note = ? where id = ?");
    assert_eq!((row.count, row.sessions, row.kind), (3, 3, Kind::Refused));
    assert_eq!(row.code.as_deref(), Some("not_permitted"));
    let json = serde_json::to_string(&report.rows).unwrap();
    assert!(!json.contains("s3cret"), "{json}");

    let permit = row.permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "orders", text);
    assert_eq!(
        says("UPDATE public.users SET note = 'x' WHERE id = 77"),
        Verdict::Allow
    );
    for neighbour in [
        "UPDATE public.users SET note = 'x'",
        "UPDATE public.users SET note = 'x' WHERE name = 'y'",
        "UPDATE public.users SET name = 'x' WHERE id = 77",
        "UPDATE public.people SET note = 'x' WHERE id = 77",
        "DELETE FROM public.users WHERE id = 77",
        "UPDATE public.users SET note = 'x' WHERE id = 77; DROP TABLE users",
    ] {
        assert_eq!(says(neighbour), Verdict::Refuse, "{neighbour}");
    }
    // A name without its schema, in a prepared statement.
    let row = only(&report, "delete");
    let permit = row.permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "orders", text);
    assert_eq!(says("DELETE FROM orders WHERE id = 4"), Verdict::Allow);
    assert_eq!(
        says("DELETE FROM public.orders WHERE id = 4"),
        Verdict::Refuse
    );
    assert_eq!(says("DELETE FROM orders"), Verdict::Refuse);
}

#[test]
fn several_permits_are_proposed_where_each_is_needed_and_no_more() {
    let mut scene = Scene::new(&["read-only"], "");
    let text =
        "WITH gone AS (DELETE FROM a.old RETURNING id) INSERT INTO b.log SELECT id FROM gone";
    scene.session("orders", Mode::Enforce, |live| live.sql(text));
    let report = reported(&scene, &all());
    let permit = report.rows[0].permit.as_deref().unwrap();
    // DELETE on one table and INSERT on the other; what is read is permitted already.
    assert_eq!(permit.matches("permit (").count(), 2, "{permit}");
    assert_eq!(permit.matches("sql:write").count(), 2, "{permit}");
    assert_eq!(scene.says(permit, "orders", text), Verdict::Allow);
    let half = permit.split("@id").nth(1).unwrap();
    assert_eq!(
        scene.says(&format!("@id{half}"), "orders", text),
        Verdict::Refuse
    );
}

#[test]
fn all_that_is_proposed_can_stand_in_one_file() {
    let mut scene = Scene::new(&["read-only"], "");
    let text = "DELETE FROM public.users WHERE id = 1";
    scene.session("orders", Mode::Enforce, |live| live.sql(text));
    scene.session("orders", Mode::Observe, |live| live.sql(text));
    scene.session("web", Mode::Enforce, |live| {
        live.exec("rm /srv/a");
        live.exec("sudo rm /srv/a");
    });
    let report = reported(&scene, &all());
    assert_eq!(report.rows.len(), 4);
    let permits: Vec<_> = report
        .rows
        .iter()
        .filter_map(|r| r.permit.clone())
        .collect();
    assert_eq!(permits.len(), 3);
    assert_eq!(
        scene.says(&permits.concat(), "orders", text),
        Verdict::Allow
    );
}

#[test]
fn no_permit_is_proposed_that_would_not_help_or_cover_more() {
    let policy = "@id(\"never\") forbid (principal, action in Action::\"sql\", resource is Table)\n\
        when { resource.name == \"salaries\" };";
    let mut scene = Scene::new(&["read-only"], policy);
    let cases = [
        ("SELECT * FROM hr.salaries", "never"),
        ("SELEKT s3cret", "does not understand"),
        ("DO $$ BEGIN PERFORM s3cret(); END $$", "any code"),
        ("COPY public.t FROM '/etc/s3cret'", "by hand"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT s3cret'",
            "by hand",
        ),
        ("SET standard_conforming_strings = off", "reads SQL"),
    ];
    for (text, _) in cases {
        scene.session("orders", Mode::Enforce, |live| live.sql(text));
    }
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("DROP TABLE public.old");
    });
    let report = reported(&scene, &all());
    assert_eq!(report.totals.refused, 7);
    let json = serde_json::to_string(&report.rows).unwrap();
    assert!(!json.contains("s3cret"), "{json}");
    for (text, why) in cases {
        let told = |row: &&Row| row.no_permit.as_ref().is_some_and(|no| no.contains(why));
        assert!(
            report.rows.iter().any(|r| told(&r)),
            "{text}: {:#?}",
            report.rows
        );
    }
    // Without constants a fingerprint is the text itself.
    let permit = only(&report, "drop table").permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "orders", text);
    assert_eq!(says("DROP TABLE public.old"), Verdict::Allow);
    assert_eq!(says("DROP TABLE public.old CASCADE"), Verdict::Refuse);
}

#[test]
fn no_permit_covers_every_file_every_value_or_every_text_for_unseen_code() {
    let mut scene = Scene::new(&[], "");
    scene.session("orders", Mode::Enforce, |live| {
        live.prepared("SELECT pg_read_file($1)");
        live.sql("SET app.tenant = '7'");
        live.sql("SET search_path = 's3cret'");
        live.prepared("SELECT public.run_report($1)");
        live.sql("SELECT public.run_report('x')");
        live.sql("SELECT public.run_report(1)");
    });
    let report = reported(&scene, &all());
    for shape in [
        "pg_read_file",
        "app.tenant",
        "search_path",
        "public.run_report($1)",
    ] {
        let row = only(&report, shape);
        assert!(row.no_permit.is_some(), "{row:#?}");
    }
    let mut calls = report.rows.iter().filter(|r| r.shape.ends_with("(?)"));
    let permits = calls.by_ref().filter(|row| row.permit.is_some()).count();
    // One shape: the first of them, which passes a text, is the example.
    assert_eq!(permits, 0);
    let mut scene = Scene::new(&[], "");
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("SELECT public.run_report(1)");
    });
    assert!(reported(&scene, &all()).rows[0].permit.is_some());
}

#[test]
fn what_enforce_mode_would_do_and_what_is_asked_is_told_apart() {
    let mut scene = Scene::new(&["ask-before-write"], "");
    scene.session("orders", Mode::Observe, |live| {
        live.sql("DELETE FROM public.t WHERE id = 1");
        live.prepared("CALL public.pay(1)");
    });
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("DELETE FROM public.t WHERE id = 1");
    });
    let totals = reported(&scene, &all()).totals;
    assert_eq!((totals.would_ask, totals.would_refuse), (1, 1));
    // Asked about once, although it was recorded as refused in the end.
    assert_eq!((totals.asked, totals.refused), (1, 0));
    let report = reported(&scene, &all());
    let asked = report.rows.iter().find(|row| row.kind == Kind::Asked);
    assert_eq!(asked.unwrap().rules, ["ask-before-write"]);
    assert_eq!(asked.unwrap().permit, None);
    let call = only(&report, "call");
    let permit = call.permit.as_deref().unwrap();
    assert!(permit.contains("sql:procedural"), "{permit}");
}

#[test]
fn connections_that_enforce_mode_would_refuse_count_too() {
    let mut scene = Scene::new(&["read-only"], "");
    let refusal = |code| crate::decide::Refusal {
        code,
        ..crate::decide::Refusal::destination("bot", "10.0.0.1:5432", "none")
    };
    scene.session("orders", Mode::Observe, |live| {
        let identity = refusal(crate::decide::Code::Identity);
        live.recorder.would_refuse(&identity).unwrap();
        live.sql("SELECT 1");
    });
    scene.session("orders", Mode::Observe, |live| {
        let destination = refusal(crate::decide::Code::Destination);
        live.recorder.would_refuse(&destination).unwrap();
    });
    let report = reported(&scene, &all());
    assert_eq!((report.totals.would_refuse, report.totals.refused), (2, 0));
    for code in ["identity", "destination"] {
        let row = report.rows.iter().find(|r| r.code.as_deref() == Some(code));
        assert_eq!(row.unwrap().kind, Kind::WouldRefuse);
        assert!(row.unwrap().no_permit.is_some(), "{row:#?}");
    }
    // It was no request.
    let files = crate::record::Store::files(&scene.directory());
    let requests = files
        .iter()
        .map(|path| crate::replay::Summary::read(path).unwrap().requests);
    assert_eq!(requests.sum::<u64>(), 1);
}

#[test]
fn masks_count_once_for_each_statement_and_show_nothing() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("orders", Mode::Enforce, |live| {
        let text = "SELECT note FROM public.users WHERE note = 'ann@example.com'";
        live.sql(text);
        live.answered(text, "write to ann@example.com");
        live.answered(text, "bob@example.com");
        live.sql("SELECT \"eve@example.com\" FROM public.t");
        live.answered("SELECT 1", "nothing of the kind");
    });
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("DELETE FROM public.\"eve@example.com\"");
    });
    let report = reported(&scene, &all());
    let masked = report.rows.iter().find(|row| row.kind == Kind::Masked);
    let masked = masked.unwrap();
    assert_eq!((masked.count, masked.values), (1, 2));
    assert_eq!(masked.rules, ["read-only"]);
    assert_eq!(masked.shape, "select note from public.users where note = ?");
    let json = serde_json::to_string(&report.rows).unwrap();
    assert!(!json.contains("@example"), "{json}");
}

#[test]
fn commands_are_told_by_program_and_subcommand() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("web", Mode::Enforce, |live| {
        live.exec("systemctl restart nginx");
        live.exec("systemctl restart s3cret");
        live.exec("sudo -u app rm -f /srv/a");
        live.exec("mysql -p s3cret");
        live.ssh(Message::Shell);
        live.ssh(Message::Connect {
            host: "db".into(),
            port: 5432,
        });
    });
    let report = reported(&scene, &all());
    let json = serde_json::to_string(&report.rows).unwrap();
    assert!(!json.contains("s3cret"), "{json}");
    let row = only(&report, "systemctl restart");
    assert_eq!((row.count, row.place.as_deref()), (2, Some("web1")));
    let permit = row.permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "web", text);
    assert_eq!(says("systemctl restart nginx"), Verdict::Allow);
    assert_eq!(says("systemctl restart other"), Verdict::Allow);
    for neighbour in [
        "systemctl stop nginx",
        "systemctl stop restart",
        "sudo systemctl restart nginx",
        "systemctl restart nginx; reboot",
        "reboot",
    ] {
        assert_eq!(says(neighbour), Verdict::Refuse, "{neighbour}");
    }
    let permit = only(&report, "sudo rm").permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "web", text);
    assert_eq!(says("sudo -u app rm -f /srv/a"), Verdict::Allow);
    assert_eq!(says("sudo -u app rm -f /srv/b"), Verdict::Refuse);
    assert_eq!(says("sudo rm -f /srv/a"), Verdict::Refuse);
    assert_eq!(says("rm -f /srv/a"), Verdict::Refuse);
    for (shape, action) in [
        ("interactive", "ssh:shell"),
        ("connection to db", "ssh:forward"),
    ] {
        let permit = only(&report, shape).permit.as_deref().unwrap();
        assert!(permit.contains(action), "{permit}");
    }
}

#[test]
fn many_files_become_their_folder_and_files_all_over_the_host_become_nothing() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("web", Mode::Enforce, |live| {
        for n in 0..20 {
            live.exec(&format!("touch /srv/app/{n}/stamp"));
            live.exec(&format!("rm /{n}/x"));
        }
        live.exec("mkdir /srv/new");
        live.exec("mkdir /srv/newer");
    });
    let report = reported(&scene, &all());
    let permit = only(&report, "touch").permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "web", text);
    assert_eq!(says("touch /srv/app/7/stamp"), Verdict::Allow);
    assert_eq!(says("touch /srv/other"), Verdict::Refuse);
    let no = only(&report, "rm").no_permit.as_deref().unwrap();
    assert!(no.contains("all over"), "{no}");
    let permit = only(&report, "mkdir").permit.as_deref().unwrap();
    let says = |text| scene.says(permit, "web", text);
    assert_eq!(says("mkdir /srv/newer"), Verdict::Allow);
    assert_eq!(says("mkdir /srv/newest"), Verdict::Refuse);
}

#[test]
fn filters_choose_by_time_agent_and_resource() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("orders", Mode::Enforce, |live| live.sql("DELETE FROM t"));
    scene.session("web", Mode::Enforce, |live| live.exec("reboot"));
    let refused = |filter: Filter| reported(&scene, &filter).totals.refused;
    let (agent, resource) = (Some("other".to_owned()), Some("web".to_owned()));
    assert_eq!(refused(all()), 2);
    let nobody = Filter { agent, ..all() };
    let error = super::super::report::report(&scene.directory(), &scene.config, true, &nobody, 50);
    assert!(error.err().unwrap().0.contains("\"other\""));
    assert_eq!(refused(Filter { resource, ..all() }), 1);
    // By when it happened: it was recorded a moment ago, in sessions that say they began before.
    let since = |ago| Some(SystemTime::now() - Duration::from_secs(ago));
    assert_eq!(
        refused(Filter {
            since: since(600),
            ..all()
        }),
        2
    );
    let since = Some(SystemTime::now() + Duration::from_secs(600));
    assert_eq!(refused(Filter { since, ..all() }), 0);
}

#[test]
fn a_damaged_recording_is_told_and_the_others_count() {
    let mut scene = Scene::new(&["read-only"], "");
    for _ in 0..2 {
        scene.session("orders", Mode::Enforce, |live| live.sql("DELETE FROM t"));
    }
    let path = crate::record::Store::files(&scene.directory()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = reported(&scene, &all());
    assert_eq!((report.totals.unreadable, report.unreadable.len()), (1, 1));
    assert!((1..=2).contains(&report.totals.refused));
}
