//! The log: one line per event on standard error, as text or JSON; the failure that ends the program is the last of them.

use std::sync::OnceLock;

use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::{Globals, print};
use crate::error::{Error, ErrorKind};
use crate::model::time::PgTime;

/// How log lines are written: for people, or one JSON object per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Replaces the filter of the log, of which a process has one.
static REPLACE: OnceLock<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = OnceLock::new();
/// Below these levels parameters and frames are logged, which are claims, tokens and values of rows.
const TALKATIVE: [&str; 3] = ["tokio_postgres=warn", "tungstenite=warn", "tokio_tungstenite=warn"];

/// Starts logging, with the `usual` filter unless another is asked for.
///
/// # Errors
/// `Misconfigured`: a filter that cannot be read.
pub(super) fn start(globals: &Globals, usual: &str) -> Result<(), Error> {
    let filter = parse(globals.filter().unwrap_or(usual))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match globals.log_format {
        Format::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let log = log.with_ansi(is_terminal).with_filter_reloading();
            let handle = log.reload_handle();
            let _ = REPLACE.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            log.try_init()
        }
        Format::Json => {
            std::panic::set_hook(Box::new(|panic| say_as_json(&panic.to_string(), None)));
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            let _ = REPLACE.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            log.try_init()
        }
    };
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
    match REPLACE.get() {
        Some(replace) if replace(filter) => Ok(()),
        _ => Err(Error::new(ErrorKind::Bug, "could not change what is logged")),
    }
}

/// Says why the program ends.
pub(super) fn last_words(format: Format, error: &Error) {
    match format {
        Format::Text => print::remark(&format!("relay: {error}")),
        Format::Json => say_as_json(&error.to_string(), Some(error.kind().exit_code())),
    }
}

/// One line like those of the log, whatever is logged and whether the log was started.
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
    Ok(TALKATIVE.iter().fold(filter, |filter, most| match most.parse() {
        Ok(most) => filter.add_directive(most),
        Err(_) => filter,
    }))
}
