//! `hoop policy test --expect`: a site's own cases, for its CI.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use crate::config::Config;
use crate::trial::expect::{Compared, compare, junit};

/// Some case is not as expected.
const MISMATCH: u8 = 1;
/// The file or the configuration cannot be used: nothing was compared.
const FAILED: u8 = 2;
/// Of the file, in bytes.
const LARGEST: u64 = 16 << 20;

#[derive(Serialize)]
struct Summary {
    cases: usize,
    failed: usize,
    ok: bool,
}

/// 0 if all is as expected, 1 if not, 2 if that cannot be said.
pub fn run(config: Result<Config>, file: &Path, xml: Option<&Path>, json: bool) -> ExitCode {
    match compared(config, file, xml, json) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hoop: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn compared(config: Result<Config>, file: &Path, xml: Option<&Path>, json: bool) -> Result<u8> {
    let config = config?;
    let shown = file.display();
    let text = read(file).with_context(|| format!("cannot read {shown}"))?;
    let all = compare(&config, &text).map_err(|why| anyhow!("{shown}: {why}"))?;
    let failed = all.iter().filter(|case| !case.ok).count();
    if let Some(path) = xml {
        std::fs::write(path, junit(&shown.to_string(), &all))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match json {
        true => {
            for case in &all {
                println!("{}", serde_json::to_string(case)?);
            }
            let summary = Summary {
                cases: all.len(),
                failed,
                ok: failed == 0,
            };
            println!("{}", serde_json::to_string(&summary)?);
        }
        false => print!("{}", for_people(file, &all)),
    }
    Ok(if failed == 0 { 0 } else { MISMATCH })
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?
        .take(LARGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        bail!("it has more than {LARGEST} bytes");
    }
    Ok(text)
}

fn for_people(file: &Path, all: &[Compared]) -> String {
    let mut text = String::new();
    for case in all.iter().filter(|case| !case.ok) {
        let statement = case.statement.replace('\n', "\n    ");
        text.push_str(&format!(
            "{}:{}: {}: {} on {}\n    {statement}\n{}\n",
            file.display(),
            case.line,
            case.name,
            case.agent,
            case.resource,
            case.difference()
        ));
    }
    let failed = all.iter().filter(|case| !case.ok).count();
    text.push_str(&match failed {
        0 => format!("{} cases, all as expected\n", all.len()),
        failed => format!("{} cases, {failed} NOT as expected\n", all.len()),
    });
    text
}
