//! From nothing to a stream: connect, look before attaching, create the slot when there is none, and tell whether the
//! history continues.

use tokio_postgres::Client;
use tracing::{debug, error, info};

use super::connection::{Connection, Identity, Wanted};
use super::epoch::{Found, History, break_between};
use super::health::Health;
use super::messages::Messages;
use super::progress::Progress;
use super::publication::Facts;
use super::slot::{self, Slot};
use crate::changelog::{self, Origin};
use crate::config::Postgres;
use crate::error::{Error, ErrorKind};
use crate::model::{Epoch, Lsn};
use crate::postgres::{self, Sql, Target};
use crate::shutdown::Stage;

/// What was read so far, over all connections of this process.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) history: History,
    pub(super) progress: Progress,
    /// Whose log an earlier process left, until the first connection showed that it is ours.
    left: Option<Origin>,
}

impl Past {
    /// What an earlier process left in the log. Nothing beyond its end was ever confirmed.
    pub(super) fn recalled(past: changelog::Past) -> Self {
        let changelog::Past { origin, end, .. } = past;
        let (system, timeline) = (origin.system.as_str().into(), origin.timeline.as_str().into());
        let identity = Identity { system, timeline, position: end };
        let history =
            History { identity, database: origin.database_oid, generation: origin.generation };
        Self { history, progress: Progress::new(end), left: Some(origin) }
    }
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
    /// What comes next does not continue what was read before: whose history begins, and where.
    pub(super) begins: Option<(Origin, Lsn)>,
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
    let facts = Facts::read(&sql.client, &settings.publication).await?;
    let database = facts.database;
    let generation = past.map_or(0, |past| past.history.generation);
    let mut history = History { identity, database, generation };
    if let Some(left) = past.and_then(|past| past.left.as_ref()) {
        check_log(left, &history.origin(slot_name, target.database()))?;
    }
    let found =
        look((&sql.client, &facts), target, settings, health, &mut connection, waiting).await?;
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
        begins: (past.is_none() || broken.is_some())
            .then(|| (history.origin(slot_name, target.database()), found.confirmed)),
        past: Past { history, progress, left: None },
        has_messages,
    })
}

/// Checks what can be checked, and answers where the slot stands; creates it when there is none.
async fn look(
    (client, facts): (&Client, &Facts),
    target: &Target,
    settings: &Postgres,
    health: &mut Health,
    connection: &mut Connection,
    waiting: impl FnOnce(),
) -> Result<Found, Error> {
    let name = &*settings.slot;
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
    Ok(found)
}

/// Refuses a log of another database before anything is touched in this one.
fn check_log(left: &Origin, ours: &Origin) -> Result<(), Error> {
    match left.is_foreign_to(ours) {
        None => Ok(()),
        Some(why) => Err(Error::new(
            ErrorKind::Misconfigured,
            format!(
                "log.dir is the change log of something else: {why}; name another log.dir, or remove \
                 the old one if nobody needs what it holds"
            ),
        )),
    }
}
