//! The log: one line per event on standard error, as text or JSON.

use tracing_subscriber::EnvFilter;

use crate::error::{Error, ErrorKind};

/// How log lines are written: for people, or one JSON object per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Below these levels parameters and frames are logged, which are claims, tokens and values of rows.
const TALKATIVE: [&str; 3] = ["tokio_postgres=warn", "tungstenite=warn", "tokio_tungstenite=warn"];

/// Starts logging, with the `usual` filter unless another is asked for.
///
/// # Errors
/// `Misconfigured`: a filter that cannot be read.
pub(super) fn start(globals: &super::Globals, usual: &str) -> Result<(), Error> {
    let filter = globals.log.as_deref().unwrap_or(usual);
    let filter = EnvFilter::try_new(filter).map_err(|cause| {
        let context = format!("could not read the log filter {filter:?}");
        Error::new(ErrorKind::Misconfigured, context).because(cause)
    })?;
    let filter = TALKATIVE.iter().fold(filter, |filter, most| match most.parse() {
        Ok(most) => filter.add_directive(most),
        Err(_) => filter,
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match globals.log_format {
        Format::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_ansi(is_terminal).try_init()
        }
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|cause| Error::new(ErrorKind::Bug, "could not start the log").because(cause))
}
