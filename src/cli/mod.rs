//! The verbs: what `relay` can be told to do.
//!
//! Each verb is a file with its arguments and one function. What describes the deployment is in `relay.toml`; only
//! what describes this one run is a flag.

mod bench;
mod change_log;
mod check;
mod client;
mod cluster;
mod config;
mod confirm;
mod demo;
mod gaptest;
mod get;
mod log;
mod migrate;
mod print;
mod process;
mod random;
mod run;
mod slot;
mod tail;
mod token;

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, Parser, Subcommand};

use crate::config::{self as settings, Config, Effective, Nonsense};
use crate::error::{Error, ErrorKind};

/// Streams committed Postgres changes to browsers over WebSockets, each row only to those who may read it.
#[derive(Debug, Parser)]
#[command(name = "relay", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  relay demo                              try it: a throwaway Postgres and the relay on it
  relay config defaults > relay.toml      start a configuration; the file is the manual
  relay check                             is Postgres ready? says what mends what is not
  relay run                               the server
  relay tail chat_messages                watch a table as a client would

Every setting can be given as RELAY_SECTION__KEY, e.g. RELAY_POSTGRES__URL.
Exit codes: 0 stopped as asked, 2 configuration, 69 Postgres unusable, 70 a bug.";

/// What every verb is told.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// The configuration file [default: ./relay.toml, if there is one]
    #[arg(long, global = true, env = "RELAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How log lines are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    pub(crate) log_format: log::Format,
    /// What is logged, e.g. `debug` or `relay=debug,warn` [default: info for `run`, else warn]
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server
    Run(run::Args),
    /// Try it: a throwaway Postgres, the SQL applied, the server on it, and a chat to use
    Demo(demo::Args),
    /// Check the configuration, Postgres and the running relay, and say what mends what is wrong
    Check(check::Args),
    /// Create what private channels and broadcasts from the database need, with an owner's rights
    Migrate(migrate::Args),
    /// Show the configuration in force, or the shipped relay.toml
    Config(config::Args),
    /// Make a token for testing, or read one as the relay would
    Token(token::Args),
    /// Watch a table as a client would
    Tail(tail::Args),
    /// Load a relay and measure latency, throughput and loss
    Bench(bench::Args),
    /// Break connections on purpose, and see whether any change is missing afterwards
    Gaptest(gaptest::Args),
    /// Look at the replication slot, or drop it
    Slot(slot::Args),
    /// Forget what the change log keeps
    Log(change_log::Args),
}

/// Reports the failure that ends the program, in the format of its log.
#[derive(Clone, Copy, Debug)]
pub struct LastWords(log::Format);

impl LastWords {
    /// Writes the failure to standard error.
    pub fn say(self, error: &Error) {
        log::last_words(self.0, error);
    }
}

impl Cli {
    /// How to report the failure that ends the program; it is taken before [`Cli::run`] consumes the command line.
    pub const fn last_words(&self) -> LastWords {
        LastWords(self.globals.log_format)
    }

    /// Starts logging to standard error.
    ///
    /// # Errors
    /// `Misconfigured`: a filter that cannot be read.
    pub fn start_log(&self) -> Result<(), Error> {
        // What a server does is news; what any other verb does is what it prints.
        let usual = if matches!(self.verb, Verb::Run(_)) { "info" } else { "warn" };
        log::start(&self.globals, usual)
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever ended the verb.
    pub async fn run(self) -> Result<(), Error> {
        let globals = &self.globals;
        match self.verb {
            Verb::Run(args) => Box::pin(run::run(args, globals)).await,
            Verb::Demo(args) => Box::pin(demo::run(args, globals)).await,
            Verb::Check(args) => Box::pin(check::run(args, globals)).await,
            Verb::Migrate(args) => Box::pin(migrate::run(args, globals)).await,
            Verb::Config(args) => config::run(&args, globals),
            Verb::Token(args) => Box::pin(token::run(args, globals)).await,
            Verb::Tail(args) => Box::pin(tail::run(args, globals)).await,
            Verb::Bench(args) => Box::pin(bench::run(args, globals)).await,
            Verb::Gaptest(args) => Box::pin(gaptest::run(args, globals)).await,
            Verb::Slot(args) => Box::pin(slot::run(args, globals)).await,
            Verb::Log(args) => Box::pin(change_log::run(args, globals)).await,
        }
    }
}

impl Globals {
    /// The filter of the log that a flag or variable gave to this run, if any. An empty variable counts as absent.
    pub(crate) fn filter(&self) -> Option<&str> {
        self.log.as_deref().filter(|filter| !filter.is_empty())
    }

    /// The file to read: the one named, else `./relay.toml` when there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .or_else(|| Some(PathBuf::from("relay.toml")).filter(|path| path.exists()))
    }

    /// What file and environment say, not yet checked.
    ///
    /// # Errors
    /// `Misconfigured`: the file or a variable cannot be read.
    pub(crate) fn effective(&self) -> Result<Effective, Error> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let strangers = settings::strangers(variables, &variables_of(&Cli::command()));
        if !strangers.is_empty() {
            return Err(misconfigured(&strangers));
        }
        Effective::read(self.file().as_deref(), &environment)
            .map_err(|faults| misconfigured(&faults))
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// `Misconfigured`, naming every setting that cannot be meant.
    pub(crate) fn load(&self) -> Result<Config, Error> {
        self.effective()?.check().map_err(|faults| misconfigured(&faults))
    }
}

/// The environment variables that flags of this command and of its subcommands are read from.
fn variables_of(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|flag| Some(flag.get_env()?.to_str()?.to_owned()));
    own.chain(command.get_subcommands().flat_map(variables_of)).collect()
}

/// One variable of the process' environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Unix seconds now. Commands are where time enters the program.
#[allow(clippy::disallowed_methods, reason = "the outermost edge, where time is taken")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The same error, about the address that `flag` gave instead of about the setting `postgres.url`.
pub(crate) fn about_flag(flag: &str, error: &Error) -> Error {
    Error::new(error.kind(), error.to_string().replace("postgres.url", flag))
}

/// All faults as one error.
pub(crate) fn misconfigured(faults: &[Nonsense]) -> Error {
    let lines: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Error::new(ErrorKind::Misconfigured, format!("the configuration cannot be meant:{lines}"))
}
