//! `relay run`: the server.

use crate::error::{Error, ErrorKind};

use super::Globals;

/// What `relay run` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay run
  relay run --config /etc/relay.toml --log-format json
  RELAY_POSTGRES__URL=postgres://relay@db/app RELAY_AUTH__JWT_SECRET_FILE=/run/secrets/jwt relay run

SIGTERM and Ctrl-C drain: clients are told, and reconnect elsewhere.")]
pub(crate) struct Args {}

/// Does it.
///
/// # Errors
/// Whatever ended it.
#[allow(clippy::unused_async, reason = "every verb is called alike")]
pub(crate) async fn run(_args: Args, globals: &Globals) -> Result<(), Error> {
    let _config = globals.load()?;
    Err(Error::new(ErrorKind::Bug, "`relay run` is not part of this build"))
}
