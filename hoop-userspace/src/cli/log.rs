//! Logging: to standard error, in the form that whoever reads it wants.
//!
//! Under journald each line starts with its priority (sd-daemon(3)) and carries no time of its own.

use std::fmt;
use std::io::IsTerminal;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// How to write the log
    #[arg(long, value_enum, default_value = "text")]
    pub log: Form,
    /// What to log: a level, or a filter such as `info,hoop::forward=debug`
    #[arg(long, value_name = "FILTER", env = "HOOP_LOG", default_value = "info")]
    pub log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Text,
    Json,
}

impl LogArgs {
    /// The same, for the command line of the worker.
    pub fn to_arguments(&self) -> Vec<String> {
        let form = if self.log == Form::Json {
            "json"
        } else {
            "text"
        };
        let level = &self.log_level;
        vec![format!("--log={form}"), format!("--log-level={level}")]
    }

    /// Sends this process's log to standard error from now on.
    pub fn start(&self) -> Result<()> {
        let filter = EnvFilter::try_new(&self.log_level)
            .with_context(|| format!("the log filter {:?} is not one", self.log_level))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = match self.log {
            Form::Json => builder.json().flatten_event(true).try_init(),
            Form::Text => builder
                .event_format(Lines {
                    journal: std::env::var_os("JOURNAL_STREAM").is_some(),
                })
                .fmt_fields(DefaultFields::new())
                .try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
    }
}

struct Lines {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (priority, name) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warning"),
            Level::INFO => (6, "info"),
            Level::DEBUG | Level::TRACE => (7, "debug"),
        };
        if self.journal {
            write!(writer, "<{priority}>")?;
        } else {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {name} ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
