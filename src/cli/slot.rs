//! `relay slot`: what the replication slot holds back, who holds it, and dropping it.

pub(crate) mod outlook;
pub(crate) mod state;

use std::time::Duration;

use state::Slot;

use super::confirm::is_confirmed;
use super::{Globals, print};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::shutdown::Stage;

/// How long an ended holder may take to let go.
const PATIENCE: Duration = Duration::from_secs(10);

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
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Drop it; the next `relay run` starts a new one, and what happened in between is not delivered
    Drop {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// End the connection that holds it
        #[arg(long)]
        force: bool,
    },
}

/// Does it.
///
/// # Errors
/// What Postgres answered; `SlotInUse`, naming the holder, when the slot to drop is held.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let config = globals.load()?;
    let stage = Stage::new();
    let sql = open(&config, &stage).await?;
    let done = match args.verb {
        Verb::Status { json } => status(&sql, &config, json).await,
        Verb::Drop { yes, force } => drop_slot(&sql, &config, yes, force).await,
    };
    drop(sql);
    stage.stop(Duration::from_secs(1)).await;
    done
}

/// A connection to the configured database.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn open(config: &Config, stage: &Stage) -> Result<Sql, Error> {
    let target = Target::parse(config.postgres.url.reveal())?;
    connect(&target, "relay-cli", &[], stage).await
}

async fn status(sql: &Sql, config: &Config, json: bool) -> Result<(), Error> {
    let (name, budget) = (&config.postgres.slot, config.postgres.max_slot_lag);
    let slot = Slot::read(sql, name).await?;
    if json {
        return print::line(&serde_json::to_string(&slot).unwrap_or_default());
    }
    match slot {
        None => print::line(&format!(
            "slot {name:?} does not exist; `relay run` creates it when it first connects"
        )),
        Some(slot) => slot.lines(budget).iter().try_for_each(|line| print::line(line)),
    }
}

async fn drop_slot(sql: &Sql, config: &Config, yes: bool, force: bool) -> Result<(), Error> {
    let (name, budget) = (&config.postgres.slot, config.postgres.max_slot_lag);
    let Some(slot) = Slot::read(sql, name).await? else {
        return print::line(&format!("slot {name:?} does not exist; nothing to drop"));
    };
    if let Some(holder) = slot.holder().filter(|_| !force) {
        let context = format!(
            "slot {name:?} is held by {holder}; stop that reader first, or end it with --force"
        );
        return Err(Error::new(ErrorKind::SlotInUse, context));
    }
    let question = "Changes that were not delivered yet will never be. Drop it? [y/N]";
    if !yes && !is_confirmed("drop the slot", &slot.lines(budget), question)? {
        return print::line("not dropped");
    }
    let end = async {
        loop {
            if force {
                sql.client
                    .query(include_str!("../../sql/queries/slot_end_holder.sql"), &[&name])
                    .await
                    .map_err(said)?;
            }
            let dropped =
                sql.client.query(include_str!("../../sql/queries/slot_drop.sql"), &[&name]).await;
            match dropped {
                // The holder was told to end and has not yet.
                Err(error) if force && is_in_use(&error) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other.map(|_| ()).map_err(said),
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.map_err(|_| {
        let context =
            format!("slot {name:?} is taken again as soon as its holder ends; stop the reader");
        Error::new(ErrorKind::SlotInUse, context)
    })??;
    print::line(&format!("dropped slot {name:?}; clients must read again what they show"))
}

fn is_in_use(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE)
}

fn said(error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::SourceRejected, "Postgres refused").because(error)
}
