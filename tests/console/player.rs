//! Terminal sessions in the console: played, sought through, watched as they go on, and read as text.

use std::io::Write;
use std::process::Stdio;

use hoop_tests::browser::Browser;
use hoop_tests::sshd::HOST;
use hoop_tests::{PATIENCE, WRITER, Who};

use super::site;

/// It prints a card's number that stands in no statement.
const SCRIPT: &str = "printf '\\033[1;32mplayed-%s\\033[0m\\n' first; sleep 3; \
    n=411111111111; echo \"card ${n}1111 end\"; sleep 7; printf '\\033[2J\\033[3;5H漢字 <b>last</b>\\n'";
const CARD: &str = "4111111111111111";

fn terminal() {
    let mut ssh = site().world.ssh(Who::Agent(WRITER), "ssh").unwrap();
    ssh.args(["-tt", HOST, SCRIPT]);
    let ran = hoop_tests::run(&mut ssh, "", PATIENCE).unwrap();
    assert!(ran.stdout.contains("[masked:card]"), "{}", ran.stdout);
}

fn screen(browser: &mut Browser) -> String {
    browser.text(".screen pre").unwrap()
}

#[test]
fn a_terminal_session_is_played_sought_through_and_read() {
    terminal();
    let site = site();
    let mut browser = site.browse("vic@acme.example");
    site.search(&mut browser, "text=played-%25s");
    browser.click("tbody a").unwrap();
    // Before anything is pressed: the first that it printed.
    browser.wait(".screen >> text=played-first").unwrap();
    assert!(!screen(&mut browser).contains("card"));
    browser.wait(".screen .bold").unwrap();
    site.is_sound(&mut browser, "player");

    // Its pauses are skipped, so the end comes soon.
    browser.click("[data-play]").unwrap();
    browser
        .wait(".screen >> text=card [masked:card] end")
        .unwrap();
    browser.wait("[data-said] >> text=That was all.").unwrap();
    let last = screen(&mut browser);
    assert!(last.contains("漢字 <b>last</b>"), "{last}");
    assert!(
        !last.contains("played-first"),
        "the screen was cleared: {last}"
    );
    assert_eq!(browser.text("[data-play]").unwrap(), "Play");
    site.is_sound(&mut browser, "player-end");

    // By the keyboard, from the screen and from the slider.
    browser.click(".screen").unwrap();
    browser.press("Home").unwrap();
    browser.wait("[data-clock] >> text=0:00 /").unwrap();
    assert!(!screen(&mut browser).contains("played-first"));
    browser.press("ArrowRight").unwrap();
    browser.press("ArrowRight").unwrap();
    browser.wait("[data-clock] >> text=0:10 /").unwrap();
    browser
        .wait(".screen >> text=card [masked:card] end")
        .unwrap();
    assert!(!screen(&mut browser).contains("last"));
    browser.press("ArrowLeft").unwrap();
    browser.wait("[data-clock] >> text=0:05 /").unwrap();
    browser.press("End").unwrap();
    browser.wait(".screen >> text=last").unwrap();
    browser.fill("[data-place]", "2.5").unwrap();
    browser.wait(".screen >> text=played-first").unwrap();
    assert!(!screen(&mut browser).contains("card"));
    browser.press("<").unwrap();
    browser.wait("[data-said] >> text=Speed 0.5×").unwrap();
    browser.press(" ").unwrap();
    browser.wait("[data-play] >> text=Pause").unwrap();
    browser.press(" ").unwrap();
    browser.wait("[data-play] >> text=Play").unwrap();

    // Masked everywhere: on the timeline, as text, and by the API.
    let page = browser.text("main").unwrap();
    assert!(
        page.contains("1 masked") && page.contains("It ended well"),
        "{page}"
    );
    assert!(!page.contains(CARD), "{page}");
    browser.click("text=What was printed, as text").unwrap();
    let text = browser.text("pre.transcript").unwrap();
    assert!(
        text.contains("played-first\ncard [masked:card] end") && text.contains("漢字 <b>last</b>"),
        "{text}"
    );
    assert!(!text.contains(CARD) && !text.contains('\u{1b}'), "{text}");
    site.is_sound(&mut browser, "transcript");
    let place = browser.url().unwrap();
    let session = place.split('/').nth(4).unwrap();
    browser
        .go(&format!("{}/api/v1/sessions/{session}/cast", site.url))
        .unwrap();
    let cast = browser.text("body").unwrap();
    assert!(
        cast.contains("[masked:card]") && !cast.contains(CARD),
        "{cast}"
    );
    assert!(
        cast.contains("\"over\":true") && cast.contains("\"r\",\"80x24\""),
        "{cast}"
    );
    browser.complaints().unwrap();
}

#[test]
fn a_terminal_session_that_goes_on_is_watched() {
    let site = site();
    let mut ssh = site.world.ssh(Who::Agent(WRITER), "ssh").unwrap();
    ssh.args([
        HOST,
        "echo watched-begun; read word; echo \"later $word\"; read word",
    ]);
    let mut ssh = ssh
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let mut browser = site.browse("vic@acme.example");
    site.search(&mut browser, "text=watched-begun");
    browser.click("tbody a").unwrap();
    browser.wait(".screen >> text=watched-begun").unwrap();
    browser
        .wait("[data-said] >> text=what is printed appears here")
        .unwrap();
    input.write_all(b"<one>\n").unwrap();
    browser.wait(".screen >> text=later <one>").unwrap();
    // Whoever looks back is not taken away from there, and comes back at will.
    browser.click(".screen").unwrap();
    browser.press("Home").unwrap();
    browser.wait("text=Follow what goes on").unwrap();
    assert!(!screen(&mut browser).contains("later"));
    browser.click("[data-now]").unwrap();
    browser.wait(".screen >> text=later <one>").unwrap();
    site.is_sound(&mut browser, "player-live");
    drop(input);
    browser
        .wait("[data-said] >> text=the session has ended")
        .unwrap();
    browser.complaints().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn files_that_moved_are_read_on_the_timeline() {
    let site = site();
    let sent = site.world.place.path("moved-by-scp");
    std::fs::write(&sent, "seven b").unwrap();
    let mut scp = site.world.ssh(Who::Agent(WRITER), "scp").unwrap();
    scp.arg("-q").arg(&sent).arg(format!("{HOST}:moved-by-scp"));
    hoop_tests::run(&mut scp, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let mut browser = site.browse("vic@acme.example");
    site.search(&mut browser, "text=moved-by-scp&agent=etl&resource=web");
    browser.click("tbody a").unwrap();
    let page = browser.text("main").unwrap();
    for word in [
        "open for writing",
        "moved-by-scp",
        "7 bytes written by the agent, SHA-256",
        "Sealed by key",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    site.is_sound(&mut browser, "session-files");
}

/// What the emulator makes of each sequence, and of what means harm.
#[test]
fn the_players_terminal_shows_what_a_terminal_shows() {
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/console/terminal.mjs");
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../hoop-userspace/src/console/assets/terminal.js"
    );
    let mut node = std::process::Command::new("node");
    node.args([cases, source]);
    let ran = hoop_tests::run(&mut node, "", PATIENCE).unwrap();
    assert_eq!(ran.stdout, "ok\n", "{}", ran.stderr);
}
