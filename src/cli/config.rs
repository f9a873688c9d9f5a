//! `relay config`: the configuration in force, or the shipped `relay.toml`.

use crate::config::{MANUAL, Setting};
use crate::error::Error;

use super::{Globals, misconfigured, print};

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
/// `Misconfigured`: a setting that cannot be meant. `config show` prints all settings first.
pub(crate) fn run(args: &Args, globals: &Globals) -> Result<(), Error> {
    match args.verb {
        Verb::Show => {
            let effective = globals.effective()?;
            print::line(&table(&effective.settings()))?;
            effective.check().map(|_| ()).map_err(|faults| misconfigured(&faults))
        }
        Verb::Defaults => print::line(MANUAL.trim_end()),
    }
}

/// Key, value and origin in three columns.
fn table(settings: &[Setting]) -> String {
    let value = |setting: &Setting| setting.value.clone().unwrap_or_else(|| "–".to_owned());
    let longest = |width: &dyn Fn(&Setting) -> usize| settings.iter().map(width).max().unwrap_or(0);
    let keys = longest(&|setting| setting.key.len());
    let values = longest(&|setting| value(setting).chars().count());
    let line = |setting: &Setting| {
        format!("{:keys$}  {:values$}  {}", setting.key, value(setting), setting.origin)
    };
    settings.iter().map(line).collect::<Vec<_>>().join("\n")
}
