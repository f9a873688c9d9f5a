//! `relay tail`.

use crate::error::{Error, ErrorKind};

use super::Globals;

/// What `relay tail` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  relay tail chat_messages
  relay tail public.chat_messages --event INSERT --filter session_id=eq.7
  relay tail chat_messages --url ws://relay.example:4000 --token \"$TOKEN\"")]
pub(crate) struct Args {
    /// The table, with its schema unless that is `public`; `*` is every table
    pub(crate) table: String,
    /// Which changes: INSERT, UPDATE, DELETE or *
    #[arg(long, default_value = "*", value_name = "EVENT")]
    pub(crate) event: String,
    /// Only rows that match, e.g. `status=in.(waiting,active)`
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// The relay to join
    #[arg(long, default_value = "ws://127.0.0.1:4000", value_name = "URL")]
    pub(crate) url: String,
    /// The token to join with [default: one minted with the configured secret]
    #[arg(long, env = "RELAY_TOKEN", hide_env_values = true, value_name = "JWT")]
    pub(crate) token: Option<String>,
    /// The role of the minted token
    #[arg(long, default_value = "service_role", value_name = "ROLE")]
    pub(crate) role: String,
}

/// Does it.
///
/// # Errors
/// Whatever ended it.
#[allow(clippy::unused_async, reason = "every verb is called alike")]
pub(crate) async fn run(_args: Args, _globals: &Globals) -> Result<(), Error> {
    Err(Error::new(ErrorKind::Bug, "`relay tail` is not part of this build"))
}
