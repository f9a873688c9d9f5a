//! From nothing to a stream: connect, look before attaching, create the slot when there is none, and tell whether the
//! history continues.

use tokio_postgres::Client;
use tracing::{debug, error, info};

use super::connection::{Connection, Wanted};
use super::epoch::{Found, History, break_between};
use super::health::Health;
use super::messages::Messages;
use super::progress::Progress;
use super::publication::Facts;
use super::slot::{self, Slot};
use crate::config::Postgres;
use crate::error::Error;
use crate::model::Epoch;
use crate::postgres::{self, Sql, Target};
use crate::shutdown::Stage;

/// What was read so far, over all connections of this process.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) history: History,
    pub(super) progress: Progress,
}

/// An attached connection.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) connection: Connection,
    /// The connection that looked first, for looking again.
    pub(super) sql: Sql,
    /// The one server both are connected to.
    pub(super) server: Target,
    pub(super) epoch: Epoch,
    pub(super) past: Past,
    /// The stream carries the database's broadcasts.
    pub(super) has_messages: bool,
    /// What comes next does not continue what was read before.
    pub(super) is_new_history: bool,
}

/// Connects and attaches. `waiting` is called before Postgres is asked to create the slot, which takes as long as
/// the oldest open transaction.
pub(super) async fn attach(
    target: &Target,
    settings: &Postgres,
    past: Option<&Past>,
    messages: &mut Messages,
    health: &mut Health,
    stage: &Stage,
    waiting: impl FnOnce(),
) -> Result<Attached, Error> {
    let slot_name = &*settings.slot;
    let mut connection =
        Connection::open(target, slot_name, &settings.publication, settings.wal_sender_timeout)
            .await?;
    let identity = connection.identify().await?;
    let sql = postgres::connect(connection.target(), "relay-source", &[], stage).await?;
    let (found, facts) =
        look(&sql.client, target, settings, health, &mut connection, waiting).await?;

    let database = facts.database;
    let generation = past.map_or(0, |past| past.history.generation);
    let mut history = History { identity, database, generation };
    let broken = past.and_then(|past| {
        break_between(
            &past.history,
            past.progress.confirmed(),
            past.progress.received(),
            &history.identity,
            database,
            found,
        )
    });
    let progress = match (past, broken) {
        (Some(past), None) => {
            let mut progress = past.progress;
            progress.attach();
            progress
        }
        _ => Progress::new(found.confirmed),
    };
    if let Some(why) = broken {
        history.generation = found.confirmed.bytes();
        error!(slot = slot_name, from = %found.confirmed, why, "history lost; a new epoch begins");
    }
    let has_messages =
        messages.decide(facts.has_messages, history.identity.position, found.confirmed);
    let wanted = Wanted { broadcasts: has_messages, heartbeats: !settings.heartbeat.is_zero() };
    connection.start(wanted).await?;
    let epoch = history.epoch(slot_name);
    info!(slot = slot_name, %epoch, from = %found.confirmed, server = %connection.target(), "streaming");
    Ok(Attached {
        server: connection.target().clone(),
        connection,
        sql,
        epoch,
        past: Past { history, progress },
        has_messages,
        is_new_history: broken.is_some(),
    })
}

/// Checks what can be checked, and answers where the slot stands; creates it when there is none.
async fn look(
    client: &Client,
    target: &Target,
    settings: &Postgres,
    health: &mut Health,
    connection: &mut Connection,
    waiting: impl FnOnce(),
) -> Result<(Found, Facts), Error> {
    let name = &*settings.slot;
    let facts = Facts::read(client, &settings.publication).await?;
    let slot = Slot::read(client, name).await?;
    if let Some(slot) = &slot {
        health.see(slot);
    }
    facts.check(&settings.publication, slot.is_none())?;
    let found = match slot {
        Some(slot) => {
            slot.check(target.database())?;
            let confirmed = slot.confirmed_lsn.unwrap_or_default();
            debug!(slot = name, %confirmed, "slot found");
            Found { confirmed, is_new: false }
        }
        None => {
            waiting();
            let confirmed = slot::create(connection, name).await?;
            info!(slot = name, at = %confirmed, "slot created");
            Found { confirmed, is_new: true }
        }
    };
    Ok((found, facts))
}
