//! The log: one line per event on standard error, as text or JSON; the failure that ends the program is the last of them.

use std::sync::OnceLock;

use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use super::{Globals, print};
use crate::error::{Error, ErrorKind};
use crate::model::time::PgTime;

/// How log lines are written: for people, or one JSON object per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Replaces the filter of the process' log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The most that these libraries may log, whatever the filter asks for: below, they log parameters and frames, in which there
/// are claims, tokens and values of rows.
const MOST_OF_LIBRARIES: [&str; 3] =
    ["tokio_postgres=warn", "tungstenite=warn", "tokio_tungstenite=warn"];

/// Starts logging, with the `usual` filter unless another is asked for.
///
/// # Errors
/// `Misconfigured`: a filter that cannot be read.
pub(super) fn start(globals: &Globals, usual: &str) -> Result<(), Error> {
    let (filter, handle) = reload::Layer::new(parse(globals.filter().unwrap_or(usual))?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match globals.log_format {
        Format::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(is_terminal).boxed()
        }
        Format::Json => {
            std::panic::set_hook(Box::new(|panic| say_as_json(&panic.to_string(), None)));
            lines.json().flatten_event(true).boxed()
        }
    };
    // Only a second log could find it set, and starting that one fails.
    let _ = FILTER.set(handle);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|cause| Error::new(ErrorKind::Bug, "could not start the log").because(cause))
}

/// Logs what the configuration asks for, unless a filter was given to this run.
///
/// # Errors
/// `Misconfigured`: a filter that cannot be read.
pub(super) fn set(globals: &Globals, level: &str) -> Result<(), Error> {
    if globals.filter().is_some() {
        return Ok(());
    }
    let filter = parse(level)?;
    match FILTER.get() {
        Some(handle) if handle.reload(filter).is_ok() => Ok(()),
        _ => Err(Error::new(ErrorKind::Bug, "could not change what is logged")),
    }
}

/// Writes the error that ends the program to standard error, in the log's format.
pub(super) fn last_words(format: Format, error: &Error) {
    match format {
        Format::Text => print::remark(&format!("relay: {error}")),
        Format::Json => say_as_json(&error.to_string(), Some(error.kind().exit_code())),
    }
}

/// Writes one line like those of the log, whatever its filter is and whether it was started.
fn say_as_json(message: &str, exit_code: Option<u8>) {
    let at = PgTime::from_unix_micros(super::now().saturating_mul(1_000_000)).to_string();
    let mut line =
        json!({ "timestamp": at, "level": "ERROR", "message": message, "target": "relay" });
    if let (Some(code), Some(line)) = (exit_code, line.as_object_mut()) {
        line.insert("exit_code".to_owned(), code.into());
    }
    print::remark(&line.to_string());
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let filter = EnvFilter::try_new(filter).map_err(|cause| {
        let context = format!("could not read the log filter {filter:?}");
        Error::new(ErrorKind::Misconfigured, context).because(cause)
    })?;
    Ok(MOST_OF_LIBRARIES.iter().fold(filter, |filter, most| match most.parse() {
        Ok(most) => filter.add_directive(most),
        Err(_) => filter,
    }))
}
