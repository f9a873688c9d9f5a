//! `relay log`: what is kept of the changes, and forgetting it.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::confirm::is_confirmed;
use super::{Globals, print};
use crate::changelog::DiskLog;
use crate::changelog::disk::{REQUEST, Settings, ask_to_forget};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;

/// How long a running relay may take. It waits for its fan-out, which has read everything in a moment.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long this command waits before it looks again whether the relay has removed the request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What `relay log` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do with the log.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Remove every change that was committed before now, so that rows deleted since are served to nobody
    #[command(after_help = "\
The change log serves what was missed, rows that were deleted since included, for log.retain_age. This removes all of it up \
to now, on a relay that runs or on its directory when none does. Nobody who is connected misses anything; whoever comes back \
with an older position is told of a gap and reads the table again. Run it as the relay's user, where log.dir is. A relay that \
stands by with a log.dir of its own has its own log. Copies of the directory, and what a disk keeps of removed files, are not \
touched.")]
    Forget {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
///
/// # Errors
/// `Misconfigured`: there is no log, or it is not ours; `LogInUse`: the relay that uses it does not answer.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let Verb::Forget { yes } = args.verb;
    let config = globals.load()?;
    let dir = &config.log.dir;
    if !dir.is_dir() {
        let context =
            format!("there is no change log in {}; is it the log.dir of the relay?", dir.display());
        return Err(Error::new(ErrorKind::Misconfigured, context));
    }
    let question =
        "Whoever is away will be told of a gap and must read its tables again. Forget? [y/N]";
    if !yes && !is_confirmed("forget the changes", &[], question)? {
        return print::line("nothing was forgotten");
    }
    match DiskLog::open(&settings(&config), Metrics::new()) {
        Ok(log) => {
            log.forget().await;
            log.close();
        }
        Err(error) if error.kind() == ErrorKind::LogInUse => ask(dir).await?,
        Err(error) => return Err(error),
    }
    let text = format!(
        "forgotten: nothing that was committed before now is in {} any more",
        dir.display()
    );
    print::line(&text)
}

fn settings(config: &Config) -> Settings {
    Settings {
        dir: config.log.dir.clone(),
        retain_bytes: config.log.retain_bytes as u64,
        retain_age: config.log.retain_age,
        memory: config.postgres.max_backlog,
    }
}

/// Asks the relay that uses the directory, and waits until it has done it.
async fn ask(dir: &Path) -> Result<(), Error> {
    let failed = |cause: std::io::Error| {
        let context = format!("could not ask the relay that uses {}", dir.display());
        Error::new(ErrorKind::Misconfigured, context).because(cause)
    };
    ask_to_forget(dir).map_err(failed)?;
    let (request, until) = (dir.join(REQUEST), Instant::now() + ANSWER_TIMEOUT);
    while tokio::fs::try_exists(&request).await.map_err(failed)? {
        if until <= Instant::now() {
            let context =
                "the relay did not answer within 60 s; it forgets as soon as it can, see its log";
            return Err(Error::new(ErrorKind::LogInUse, context));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
