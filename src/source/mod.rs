//! Reading the slot: connect, attach, decode, append, confirm; again after every failure.
//!
//! Promises: a position is confirmed only after every transaction up to it is in the log, and exactly; a transaction
//! that Postgres repeats is appended once; a history that does not continue is told as a new epoch, never glued to the
//! old one. Reading goes on for as long as the process lives: what heals by itself is tried again soon, what a person
//! must mend is named and tried again slowly.
//!
//! Not here: what the bytes mean (`pgoutput`), and who gets them. Heartbeats prove that what is written comes
//! back; they do not move the slot: keepalives carry the end of foreign WAL, and confirming them is what keeps the slot
//! from holding it.

mod answer;
mod attach;
mod connection;
mod epoch;
mod governor;
mod health;
mod heartbeat;
mod lag;
mod messages;
mod progress;
mod publication;
mod slot;
mod standby;
mod stream;
mod watch;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch::Sender;
use tracing::{debug, warn};

use self::attach::{Attached, Attempt, Past, attach};
use self::health::Health;
use self::heartbeat::Heartbeat;
use self::messages::Messages;
use self::stream::{Clock, Stream};
use self::watch::Watch;
use crate::backoff::Backoff;
use crate::changelog::ChangeLog;
use crate::config::Postgres;
use crate::error::{Error, Remedy};
use crate::metrics::Metrics;
use crate::model::Epoch;
use crate::pgoutput::Assembler;
use crate::postgres::{Target, sqlstate};
use crate::shutdown::Stage;

pub use epoch::Break;
pub use publication::Facts;
pub use slot::{Holder, Slot};

/// The first and the longest wait between two attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What the source is doing, for `/readyz` and `relay check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not connected yet, or connecting again after a failure that heals by itself.
    Connecting {
        /// The last failure, or what is being waited for.
        reason: Option<String>,
    },
    /// Attached to the slot.
    Streaming {
        /// The life of this history: system identifier, timeline and slot.
        epoch: Epoch,
        /// Whether messages that the database broadcasts come along.
        has_messages: bool,
        /// Why this history began, when there was one before it.
        begun_by: Option<Break>,
    },
    /// Another connection reads the slot; this relay takes over when that one stops.
    Standby {
        /// Who reads it.
        reason: String,
    },
    /// A person must act; attempts continue slowly.
    Blocked {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Of a larger transaction, pieces of this size go to the log before its end is known.
const PIECE_BYTES: usize = 1 << 20;

/// What to do about a failure that usually heals by itself.
const IF_IT_STAYS: &str =
    "it is tried again; if it stays, see that Postgres runs where postgres.url says";

/// The same where Postgres itself refused.
const IT_IS_TRIED_AGAIN: &str = "it is tried again";

/// Reads the slot into `log` until the stage stops, reporting through `state`.
///
/// # Errors
/// Only for errors whose remedy is to exit.
pub async fn run<L: ChangeLog>(
    target: Target,
    settings: Postgres,
    log: Arc<L>,
    state: Sender<SourceState>,
    metrics: Metrics,
    stage: Stage,
) -> Result<(), Error> {
    let recalled = log.recall();
    let mut source = Source {
        health: Health::new(metrics.clone(), settings.max_slot_lag),
        target,
        settings,
        log,
        state,
        metrics,
        stage: stage.clone(),
        backoff: Backoff::new(WAITS.0, WAITS.1),
        generation: recalled.as_ref().map_or(0, |recalled| recalled.relations),
        past: recalled.map(Past::recalled),
        walsender: None,
        messages: Messages::default(),
    };
    loop {
        let result = source.session().await;
        source.metrics.source_streaming.set(0);
        source.metrics.standby.set(0);
        let wait = match result {
            Ok(Ended::Stopping) => return Ok(()),
            Ok(Ended::ToAttach) => continue,
            Err(error) => source.judge(error)?,
        };
        tokio::select! {
            () = stage.stopping() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Why a session ended well.
enum Ended {
    Stopping,
    /// The next one can have more: the slot, or the database's broadcasts.
    ToAttach,
}

struct Source<L> {
    target: Target,
    settings: Postgres,
    log: Arc<L>,
    state: Sender<SourceState>,
    metrics: Metrics,
    health: Health,
    stage: Stage,
    backoff: Backoff,
    past: Option<Past>,
    /// The last walsender that was ours: its process id, and since when it is there. A restarted server gives
    /// process ids again.
    walsender: Option<(i32, String)>,
    messages: Messages,
    /// Continues the count of relation descriptions over sessions.
    generation: u64,
}

impl<L: ChangeLog> Source<L> {
    /// One connection, from its start to its end.
    async fn session(&mut self) -> Result<Ended, Error> {
        let waiting = || {
            let reason = format!(
                "creating slot {:?}; Postgres waits for the transactions that are open now",
                self.settings.slot
            );
            self.state.send_replace(SourceState::Connecting { reason: Some(reason) });
        };
        let past = self.past.as_ref();
        let attempt = tokio::select! {
            () = self.stage.stopping() => return Ok(Ended::Stopping),
            attempt = attach(
                &self.target, &self.settings, past, &mut self.messages, &mut self.health,
                &self.stage, waiting,
            ) => attempt?,
        };
        let attached = match attempt {
            Attempt::Attached(attached) => *attached,
            Attempt::Held { sql, holder } => return self.stand_by(sql, holder).await,
        };
        let Attached { connection, walsender, sql, server, epoch, past, has_messages, begins } =
            attached;
        let pid = walsender.0;
        self.walsender = Some(walsender);
        let begun_by = past.begun_by;
        if let Some((origin, from)) = begins {
            self.log.begin(origin, from);
        }
        let past = self.past.insert(past);
        self.metrics.source_connects.inc();
        self.metrics.source_streaming.set(1);
        self.state.send_replace(SourceState::Streaming { epoch, has_messages, begun_by });
        let refuses_messages = connection.refuses_messages();
        // Relations are described anew to every session.
        let mut assembler = Assembler::new(PIECE_BYTES, self.generation);
        let (told, received) = (past.progress.confirmed(), past.progress.received());
        let heartbeat = Heartbeat::new(random());
        let watch = Watch {
            server: &server,
            settings: &self.settings,
            sql,
            pid,
            heartbeat: &heartbeat,
            health: &mut self.health,
            without: (!has_messages).then_some(self.messages),
            sent: None,
            unlogged: None,
            metrics: &self.metrics,
            stage: &self.stage,
        };
        let stream = Stream {
            connection,
            assembler: &mut assembler,
            progress: &mut past.progress,
            log: &*self.log,
            heartbeat: &heartbeat,
            metrics: &self.metrics,
            stage: &self.stage,
            clock: Clock::new(self.settings.wal_sender_timeout, told),
        };
        let result = tokio::select! {
            result = stream.run() => result.map(|()| Ended::Stopping),
            ended = watch.run() => ended,
        };
        if refuses_messages.load(Ordering::Relaxed) {
            self.messages = Messages::Refused;
        }
        // Attaching is no success yet: a slot that cannot be decoded attaches well, every time.
        if past.progress.received() > received {
            self.backoff.reset();
        }
        self.generation = assembler.generation();
        result
    }

    /// Tells the world about a failure, and how long to wait before the next attempt.
    fn judge(&mut self, error: Error) -> Result<Duration, Error> {
        let (state, advice) = match error.kind().remedy() {
            Remedy::Exit => return Err(error),
            Remedy::StandBy => {
                self.overtaken(&error);
                return Ok(WAITS.0);
            }
            Remedy::Retry => {
                // Who answers is there; what it said, and what mends it, is in the error.
                let is_answered = sqlstate(&error).is_some();
                let advice = if is_answered { IT_IS_TRIED_AGAIN } else { IF_IT_STAYS };
                let reason = Some(format!("{error}; {advice}"));
                (SourceState::Connecting { reason }, advice)
            }
            Remedy::AskOperator(advice) => {
                (SourceState::Blocked { reason: format!("{error}; {advice}") }, advice)
            }
        };
        let is_news = self.state.send_if_modified(|current| {
            let is_news = *current != state;
            *current = state;
            is_news
        });
        if is_news {
            warn!(error = %error, advice, "source interrupted; trying again");
        } else {
            debug!(error = %error, "source still interrupted");
        }
        Ok(self.backoff.wait(random()))
    }
}

/// A number nobody can foresee. No secret depends on it: it only keeps sessions and relays apart.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
