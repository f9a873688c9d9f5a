//! `relay demo`.

pub(crate) mod state;

use crate::error::{Error, ErrorKind};

use super::Globals;

/// What `relay demo` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Does it.
///
/// # Errors
/// Whatever ended it.
#[allow(clippy::unused_async, reason = "every verb is called alike")]
pub(crate) async fn run(_args: Args, _globals: &Globals) -> Result<(), Error> {
    Err(Error::new(ErrorKind::Bug, "`relay demo` is not part of this build"))
}
