//! `relay config`: the configuration in force, or the shipped `relay.toml`.

use crate::error::Error;

use super::{Globals, print};

/// What `relay config` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print every setting in force and where it came from; secrets print as ‹set›
    Show,
    /// Print the shipped relay.toml: every setting at its default, and what it costs to change
    Defaults,
}

/// Does it.
///
/// # Errors
/// `Misconfigured`: a setting that cannot be meant.
pub(crate) fn run(args: &Args, globals: &Globals) -> Result<(), Error> {
    match args.verb {
        Verb::Show => globals.load().map(|_| ()),
        Verb::Defaults => print::line(include_str!("../../relay.toml")),
    }
}
