//! From nothing to a stream: connect, look before attaching, create the slot when there is none, and tell whether the
//! history continues.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tracing::{debug, error, info, warn};

use super::answer::within;
use super::connection::{Connection, Identity, Wanted};
use super::epoch::{Before, Break, Found, History, break_between, end_of};
use super::health::Health;
use super::messages::Messages;
use super::progress::Progress;
use super::publication::Facts;
use super::slot::{self, Holder, Slot};
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
    /// Why this history began, when there was one before it.
    pub(super) begun_by: Option<Break>,
    /// Whose log an earlier process left, until the first connection showed that it is ours.
    left: Option<Origin>,
}

impl Past {
    /// What an earlier process left in the log. Nothing beyond its end was ever confirmed.
    pub(super) fn recalled(past: changelog::Past) -> Self {
        let changelog::Past { origin, end, .. } = past;
        let (system, timeline) = (origin.system.as_str().into(), origin.timeline.as_str().into());
        let history = History {
            identity: Identity { system, timeline, position: end },
            born_on: origin.timeline.as_str().into(),
            database: origin.database_oid,
            generation: origin.generation,
        };
        Self { history, progress: Progress::new(end), begun_by: None, left: Some(origin) }
    }

    fn before(&self) -> Before<'_> {
        let (durable, received) = (self.progress.confirmed(), self.progress.received());
        Before { history: &self.history, durable, received }
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It streams.
    Attached(Box<Attached>),
    /// Another connection reads the slot.
    Held {
        /// The connection that looked, for looking again.
        sql: Box<Sql>,
        /// Who reads it.
        holder: Holder,
    },
}

/// An attached connection.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) connection: Connection,
    /// Its walsender: the process id, and since when it is there.
    pub(super) walsender: (i32, String),
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

/// What looking came to.
enum Looked {
    Free(Found),
    Held(Holder),
}

/// A server that does not answer for this long is given up, or the next one is tried.
const ANSWER: Duration = Duration::from_secs(10);

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
) -> Result<Attempt, Error> {
    let slot_name = &*settings.slot;
    let mut connection =
        Connection::open(target, slot_name, &settings.publication, settings.wal_sender_timeout)
            .await?;
    let identity = within(ANSWER, connection.identify()).await?;
    let walsender = within(ANSWER, connection.walsender()).await?;
    let sql = postgres::connect(connection.target(), "relay-source", &[], stage).await?;
    let facts = within(ANSWER, Facts::read(&sql.client, &settings.publication)).await?;
    let database = facts.database;
    let generation = past.map_or(0, |past| past.history.generation);
    let born_on = past.map_or(&identity.timeline, |past| &past.history.born_on).clone();
    let mut history = History { identity, born_on, database, generation };
    if let Some(left) = past.and_then(|past| past.left.as_ref()) {
        check_log(left, &history.origin(slot_name, target.database()))?;
    }
    let looked =
        look((&sql.client, &facts), target, settings, health, &mut connection, waiting).await?;
    let found = match looked {
        Looked::Free(found) => found,
        Looked::Held(holder) => return Ok(Attempt::Held { sql: Box::new(sql), holder }),
    };
    let broken = match past {
        Some(past) => {
            let fork = fork(&mut connection, &past.history, &history).await?;
            break_between(past.before(), &history.identity, fork, database, found)
        }
        // A process that finds no slot begins; one that replaced a slot ended the history of another process.
        None => found.made.filter(|made| *made != Break::SlotDropped),
    };
    let (progress, begun_by) = match (past, broken) {
        (Some(past), None) => {
            let mut progress = past.progress;
            progress.attach();
            (progress, past.begun_by)
        }
        _ => (Progress::new(found.confirmed), broken),
    };
    if let Some(why) = broken {
        history.generation = found.confirmed.bytes();
        history.born_on = history.identity.timeline.clone();
        health.begin_anew();
        let why = why.words();
        warn!(slot = slot_name, from = %found.confirmed, why, "history lost; a new epoch begins");
    }
    let has_messages =
        messages.decide(facts.has_messages, history.identity.position, found.confirmed);
    let wanted = Wanted { broadcasts: has_messages, heartbeats: !settings.heartbeat.is_zero() };
    within(ANSWER, connection.start(wanted)).await?;
    let epoch = history.epoch(slot_name);
    info!(slot = slot_name, %epoch, from = %found.confirmed, server = %connection.target(), "streaming");
    Ok(Attempt::Attached(Box::new(Attached {
        server: connection.target().clone(),
        connection,
        walsender,
        sql,
        epoch,
        begins: (past.is_none() || broken.is_some())
            .then(|| (history.origin(slot_name, target.database()), found.confirmed)),
        past: Past { history, progress, begun_by, left: None },
        has_messages,
    })))
}

/// Where the timeline read before ended, when the server is on another that goes on from it.
async fn fork(
    connection: &mut Connection,
    before: &History,
    now: &History,
) -> Result<Option<Lsn>, Error> {
    let (before, now) = (&before.identity.timeline, &now.identity.timeline);
    if before == now {
        return Ok(None);
    }
    let asking = async { Ok(connection.timeline_history(now).await) };
    let told = within(ANSWER, asking).await?;
    Ok(told.and_then(|told| end_of(before, &told)))
}

/// Checks what can be checked, and answers where the slot stands; creates it when there is none, or when it must go.
async fn look(
    (client, facts): (&Client, &Facts),
    target: &Target,
    settings: &Postgres,
    health: &mut Health,
    connection: &mut Connection,
    waiting: impl FnOnce(),
) -> Result<Looked, Error> {
    let name = &*settings.slot;
    let mut slot = within(ANSWER, Slot::read(client, name)).await?;
    if let Some(found) = slot.as_ref().filter(|slot| slot.is_ours(target.database())) {
        health.see(found, false, Instant::now());
        // Before anything else is asked for: whatever is wrong besides, the disk must not fill.
        if let (Some(why), None) = (health.letting_go(), &found.holder) {
            let (lag_bytes, retained_bytes) = (found.lag_bytes(), found.retained_bytes);
            let why = why.words();
            error!(slot = name, lag_bytes, retained_bytes, why, "dropping the slot");
            within(ANSWER, Slot::drop(client, name)).await?;
            slot = None;
        }
    }
    facts.check(&settings.publication, slot.is_none())?;
    let Some(slot) = slot else {
        waiting();
        let made = health.letting_go().unwrap_or(Break::SlotDropped);
        let confirmed = slot::create(connection, name, facts.has_failover_slots()).await?;
        info!(slot = name, at = %confirmed, "slot created");
        return Ok(Looked::Free(Found { confirmed, made: Some(made) }));
    };
    slot.check(target.database())?;
    if let Some(holder) = slot.holder {
        return Ok(Looked::Held(holder));
    }
    let confirmed = slot.confirmed_lsn.unwrap_or_default();
    debug!(slot = name, %confirmed, "slot found");
    Ok(Looked::Free(Found { confirmed, made: None }))
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
