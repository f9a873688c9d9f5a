//! Watching over a session from an ordinary connection: is the slot safe, is the publication there, does what is
//! written come back?
//!
//! It can end a session, and cannot hold one up: when its own connection breaks, it opens another while the stream
//! goes on.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::answer::within;
use super::health::{Health, Obstacle};
use super::heartbeat::{Heartbeat, PATIENCE, Verdict};
use super::messages::Messages;
use super::publication::Facts;
use super::slot::Slot;
use super::{Ended, WAITS, random};
use crate::backoff::Backoff;
use crate::config::Postgres;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::model::Lsn;
use crate::postgres::{self, Sql, Target, refusal};
use crate::shutdown::Stage;

/// How often the slot and the publication are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A connection that does not answer for this long is broken.
const ANSWER: Duration = Duration::from_secs(10);

/// What is watched, and with what.
pub(super) struct Watch<'a> {
    /// The server that the stream comes from.
    pub(super) server: &'a Target,
    pub(super) settings: &'a Postgres,
    pub(super) sql: Sql,
    /// The process id of the stream's walsender.
    pub(super) pid: i32,
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) health: &'a mut Health,
    /// The stream goes without the database's broadcasts, for this reason.
    pub(super) without: Option<Messages>,
    /// At the last look: how far Postgres had come in sending.
    pub(super) sent: Option<Lsn>,
    /// At the last look: how far the log had come, if it had less than it was given.
    pub(super) unlogged: Option<Lsn>,
    pub(super) metrics: &'a Metrics,
    pub(super) stage: &'a Stage,
}

/// Why watching stopped for now.
enum Stopped {
    /// The session must end.
    For(Error),
    /// The next session can have the database's broadcasts as well.
    ForMessages,
    /// Nothing can be seen through this connection.
    Blind(Error),
}

impl Watch<'_> {
    /// Watches until the session must end, and says why.
    pub(super) async fn run(mut self) -> Result<Ended, Error> {
        let mut looks = every(LOOK_AGAIN);
        let mut beats = every(self.settings.heartbeat);
        loop {
            let result = tokio::select! {
                _ = looks.tick() => self.look().await,
                _ = beats.tick(), if !self.settings.heartbeat.is_zero() => self.beat().await,
            };
            match result {
                Ok(()) => {}
                Err(Stopped::For(error)) => return Err(error),
                Err(Stopped::ForMessages) => return Ok(Ended::ToAttach),
                Err(Stopped::Blind(error)) => {
                    debug!(%error, "the watching connection broke");
                    self.open_again().await;
                }
            }
        }
    }

    /// Looks at the slot and at the publication.
    async fn look(&mut self) -> Result<(), Stopped> {
        let (slot, publication) = (&self.settings.slot, &self.settings.publication);
        let seen = self.answer(Slot::read(&self.sql.client, slot)).await?;
        let mut confirmed = None;
        if let Some(seen) = seen {
            let slot = self.is_ours(seen)?;
            confirmed = slot.confirmed_lsn;
            let is_moving = self.is_moving(slot.sent_lsn);
            self.health.see(&slot, is_moving, Instant::now());
            if let Some(why) = self.health.letting_go() {
                return Err(interrupted(why.words().to_owned()));
            }
            // A walsender that must end says so first, and would wait for us to read it; the checkpoint that wants it
            // gone waits with it.
            if self.health.is_in_danger() && LOOK_AGAIN <= self.heartbeat.held() {
                return Err(interrupted(
                    "the log has no room and the slot is about to lose WAL; the connection is given up so that Postgres need not wait for it".to_owned(),
                ));
            }
        }
        // From Postgres 18 on its walsender skips a missing publication with a warning in its own log; nobody would
        // learn why changes stay away.
        if let Some(facts) = self.answer(Facts::read(&self.sql.client, publication)).await? {
            facts.check(publication, false).map_err(Stopped::For)?;
            if self.without.is_some_and(|without| without.are_due(facts.has_messages, confirmed)) {
                return Err(Stopped::ForMessages);
            }
        }
        Ok(())
    }

    /// Whether Postgres got on since the last look, and we are not what it waits for.
    fn is_moving(&mut self, sent: Option<Lsn>) -> bool {
        let before = std::mem::replace(&mut self.sent, sent);
        let (stirred, unlogged) = self.heartbeat.look();
        let stands = unlogged.is_some() && unlogged == self.unlogged;
        self.unlogged = unlogged;
        (stirred || before < sent) && !stands
    }

    /// The slot that was seen, if it is the one that we read. A stream that still seems to flow may be one that
    /// Postgres ended, and the slot may be gone or another by now.
    fn is_ours(&self, seen: Option<Slot>) -> Result<Slot, Stopped> {
        let name = &self.settings.slot;
        let Some(slot) = seen else {
            return Err(interrupted(format!("slot {name:?} is gone, though we read it")));
        };
        match &slot.holder {
            Some(holder) if holder.pid == self.pid => Ok(slot),
            Some(holder) => {
                Err(interrupted(format!("slot {name:?} is read by {holder}, and not by us")))
            }
            None => Err(interrupted(format!("Postgres let go of slot {name:?}"))),
        }
    }

    /// Judges the heartbeats that are under way, and sends another.
    async fn beat(&mut self) -> Result<(), Stopped> {
        match self.heartbeat.judge() {
            Verdict::Back => {}
            Verdict::OnItsWay => return Ok(()),
            Verdict::Missed(times) => {
                self.metrics.heartbeats_missed.inc();
                if times == PATIENCE {
                    warn!(
                        slot = self.settings.slot,
                        "the stream stands before our heartbeat; Postgres is busy with one large transaction, or waits for a standby"
                    );
                }
            }
            Verdict::Lost => {
                self.metrics.heartbeats_missed.inc();
                return Err(interrupted(format!(
                    "the heartbeat did not come back through slot {:?}, though the stream is past it",
                    self.settings.slot
                )));
            }
        }
        let Some(obstacle) = self.answer(obstacle(&self.sql)).await? else { return Ok(()) };
        self.health.hinder(obstacle);
        if obstacle.is_some() {
            return Ok(());
        }
        let Some((number, content)) = self.heartbeat.begin(Instant::now()) else { return Ok(()) };
        let written = self.answer(write(&self.sql, &content)).await;
        match &written {
            Ok(Some(Some(end))) => self.heartbeat.written(number, *end),
            _ => self.heartbeat.abandon(number),
        }
        written.map(|_| ())
    }

    /// What came of asking: an answer, a refusal that says nothing (`None`), or that this connection is broken.
    async fn answer<T>(
        &self,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Stopped> {
        match within(ANSWER, asking).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error)
                if self.sql.client.is_closed() || error.kind() == ErrorKind::SourceUnreachable =>
            {
                Err(Stopped::Blind(error))
            }
            Err(error) => {
                debug!(%error, "the watch was refused");
                Ok(None)
            }
        }
    }

    /// Connects again, for as long as it takes.
    async fn open_again(&mut self) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut is_told = false;
        loop {
            match postgres::connect(self.server, "relay-source", &[], self.stage).await {
                Ok(sql) => {
                    self.sql = sql;
                    if is_told {
                        info!(slot = self.settings.slot, "the slot is watched again");
                    }
                    return;
                }
                Err(error) if is_told => debug!(%error, "still not watching"),
                Err(error) => {
                    is_told = true;
                    warn!(slot = self.settings.slot, %error, "cannot watch the slot; trying again while the stream goes on");
                }
            }
            sleep(backoff.wait(random())).await;
        }
    }
}

/// The session must end; the next one begins at once.
fn interrupted(why: String) -> Stopped {
    Stopped::For(Error::new(ErrorKind::SourceUnreachable, why))
}

/// Ticks now and then every `period`; a late tick delays the next. Zero is for those who do not tick.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// What stands in the way of a heartbeat. Asked first, so that Postgres' own log does not fill with refusals.
async fn obstacle(sql: &Sql) -> Result<Option<Obstacle>, Error> {
    let failed = |error| refusal(&error, "could not ask whether a heartbeat may be written");
    let query = include_str!("../../sql/queries/source_may_beat.sql");
    let row = sql.client.query_one(query, &[]).await.map_err(failed)?;
    let is_standby: bool = row.try_get("is_standby").map_err(failed)?;
    let may_execute: bool = row.try_get("may_execute").map_err(failed)?;
    Ok(match (is_standby, may_execute) {
        (true, _) => Some(Obstacle::Standby),
        (false, false) => Some(Obstacle::Forbidden),
        (false, true) => None,
    })
}

/// Writes a heartbeat; where it ends in the WAL.
async fn write(sql: &Sql, content: &str) -> Result<Option<Lsn>, Error> {
    let failed = |error| refusal(&error, "could not write a heartbeat");
    let query = include_str!("../../sql/queries/source_beat.sql");
    let row = sql.client.query_one(query, &[&content]).await.map_err(failed)?;
    Ok(row.try_get::<_, &str>("lsn").map_err(failed)?.parse().ok())
}
