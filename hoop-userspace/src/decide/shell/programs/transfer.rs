//! `curl`: some of its arguments are files that it sends, or addresses that are files.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::Field;
use crate::decide::shell::walk::{Dark, Run, Walk};

const UNCLEAR: &str = "which files it reads is not known";

impl Walk<'_> {
    pub(super) fn curl(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("curl") else {
            return self.unfamiliar("curl", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        self.apply(spec, &taken, &mut run);
        for (name, _, value) in &taken.options {
            let Some(value) = value else { continue };
            let file = match name.as_str() {
                "--url" => {
                    address(value, &mut run);
                    // A list of them.
                    if value.prefix().starts_with('@') {
                        run.flag(ShellFlag::Unresolved, UNCLEAR);
                    }
                    continue;
                }
                // `#1` is what the address's first braces stand for.
                "-o" | "--output" => {
                    if value.known().is_none_or(|name| name.contains('#')) {
                        run.flag(ShellFlag::Unresolved, "which file it writes is not known");
                    }
                    continue;
                }
                "-d" | "--data" | "--data-binary" | "-H" | "--header" => {
                    sent(value, |text| text.strip_prefix('@'))
                }
                // `%output{FILE}` writes.
                "-w" | "--write-out" if value.known().is_none_or(|t| t.contains("output")) => {
                    run.flag(ShellFlag::WritesFiles, "");
                    Sent::Unclear
                }
                "-w" | "--write-out" => sent(value, |text| text.strip_prefix('@')),
                "--data-urlencode" => sent(value, |text| match text.split_once('@') {
                    Some((name, file)) if !name.contains('=') => Some(file),
                    _ => None,
                }),
                "-F" | "--form" => sent(value, |text| {
                    let (_, value) = text.split_once('=')?;
                    value.strip_prefix(['@', '<'])
                }),
                "-b" => sent(value, |text| (!text.contains('=')).then_some(text)),
                _ => continue,
            };
            match file {
                Sent::Nothing => {}
                Sent::File(name) => self.file(&mut run, FileVerb::Read, &Field::text(&name), false),
                Sent::Unclear => run.flag(ShellFlag::Unresolved, UNCLEAR),
            }
        }
        for operand in &taken.operands {
            address(operand, &mut run);
        }
        self.push(Some("curl".into()), run)
    }
}

enum Sent {
    Nothing,
    File(String),
    Unclear,
}

fn sent(value: &Field, file: impl Fn(&str) -> Option<&str>) -> Sent {
    let Some(text) = value.known() else {
        return Sent::Unclear;
    };
    match file(&text) {
        None => Sent::Nothing,
        // Several, with types and names of their own.
        Some(name) if name.contains([',', ';', '"']) => Sent::Unclear,
        Some(name) => Sent::File(name.to_owned()),
    }
}

/// `file:///etc/shadow` is an address too, and braces may hold one.
fn address(field: &Field, run: &mut Run) {
    let text = field.prefix().to_ascii_lowercase();
    let web = text.starts_with("http://") || text.starts_with("https://");
    // Without a scheme it is a host.
    let host = field.known().is_some() && !text.contains(['{', '[']) && !text.contains(':');
    let port = text.split_once(':').is_some_and(|(host, rest)| {
        let digits = rest.split('/').next().unwrap_or_default();
        host != "file" && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    });
    if !(web || host || port) {
        run.flag(ShellFlag::Unresolved, UNCLEAR);
    }
}
