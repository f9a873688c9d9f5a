//! `relay slot`.

use crate::error::{Error, ErrorKind};

use super::Globals;

/// What `relay slot` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do with the slot.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Say how far behind it is, what it retains, and who holds it
    Status,
    /// Drop it; the next `relay run` starts a new one, and what happened in between is not delivered
    Drop,
}

/// Does it.
///
/// # Errors
/// Whatever ended it.
#[allow(clippy::unused_async, reason = "every verb is called alike")]
pub(crate) async fn run(_args: Args, _globals: &Globals) -> Result<(), Error> {
    Err(Error::new(ErrorKind::Bug, "`relay slot` is not part of this build"))
}
