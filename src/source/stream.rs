//! One attached stream: read → assemble → append → confirm, until it breaks or the relay stops.
//!
//! Status updates follow the clock and the server's requests, never the speed of the log: while an append waits for
//! room, nothing is read, and updates still go out, so a slow reader of the log costs neither the connection nor a
//! repetition of everything that was sent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::heartbeat::{self, Heartbeat};
use super::progress::Progress;
use crate::changelog::ChangeLog;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::model::{Lsn, Transaction};
use crate::pgoutput::{Assembler, Envelope, Malformed, emitted};
use crate::shutdown::Stage;

/// An update that tells something new waits this long for more, so that many small transactions share one.
const PROMPT: Duration = Duration::from_millis(100);
/// Without being asked, the server is told where we are at least this often.
const SELDOM: Duration = Duration::from_secs(10);
/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// One attached stream and what it writes to.
pub(super) struct Stream<'a, L> {
    pub(super) connection: Connection,
    pub(super) assembler: &'a mut Assembler,
    pub(super) progress: &'a mut Progress,
    pub(super) log: &'a L,
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) metrics: &'a Metrics,
    pub(super) stage: &'a Stage,
    pub(super) clock: Clock,
}

/// When the next status update is due, and when silence means death.
#[derive(Debug)]
pub(super) struct Clock {
    every: Duration,
    silence: Duration,
    told: Lsn,
    told_at: Instant,
    asked_at: Instant,
    heard_at: Instant,
}

impl Clock {
    pub(super) fn new(wal_sender_timeout: Duration, told: Lsn) -> Self {
        let now = Instant::now();
        // Zero switches the server's own timeout off.
        let timeout = if wal_sender_timeout.is_zero() { SELDOM * 3 } else { wal_sender_timeout };
        Self {
            every: (timeout / 3).min(SELDOM),
            // The server may be busy with one large transaction; it answers between two of its pieces.
            silence: timeout * 3,
            told,
            told_at: now,
            asked_at: now,
            heard_at: now,
        }
    }

    /// When something must be sent even if nothing arrives.
    fn due(&self, confirmed: Lsn) -> Instant {
        let unasked = self.asked_at + self.every;
        if confirmed > self.told { unasked.min(self.told_at + PROMPT) } else { unasked }
    }
}

/// Why an append did not come to its end.
enum Interrupted {
    Stopping,
    Failed(Error),
}

impl<L: ChangeLog> Stream<'_, L> {
    /// Reads until the stage stops.
    ///
    /// # Errors
    /// Whatever ended the stream.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut durable = self.log.durable();
        let mut has_data = false;
        self.tell(false);
        loop {
            let due = self.clock.due(self.progress.confirmed());
            tokio::select! {
                biased;
                () = self.stage.stopping() => return self.say_goodbye().await,
                () = sleep_until(due) => self.keep_time()?,
                Ok(()) = durable.changed(), if self.progress.is_waiting() => {}
                payload = self.connection.read() => {
                    let mut next = Some(payload?);
                    while let Some(payload) = next {
                        has_data |= payload.starts_with(b"w");
                        match self.take(payload, &mut durable).await {
                            Ok(()) => {}
                            Err(Interrupted::Stopping) => return self.say_goodbye().await,
                            Err(Interrupted::Failed(error)) => return Err(error),
                        }
                        next = self.connection.buffered()?;
                    }
                    self.clock.heard_at = Instant::now();
                    if std::mem::take(&mut has_data) {
                        self.heartbeat.stir();
                    }
                }
            }
            self.progress.log(*durable.borrow_and_update());
            self.heartbeat.log(self.progress.unlogged());
            self.measure();
        }
    }

    /// Takes one payload of the stream.
    async fn take(
        &mut self,
        payload: Bytes,
        durable: &mut watch::Receiver<Lsn>,
    ) -> Result<(), Interrupted> {
        match Envelope::decode(payload).map_err(malformed)? {
            Envelope::Data(message) => {
                if let Some(content) = emitted(&message, heartbeat::PREFIX) {
                    self.hear(&content);
                }
                if let Some(transaction) = self.assembler.push(message).map_err(malformed)? {
                    self.append(transaction, durable).await?;
                }
            }
            Envelope::Keepalive { wal_end, reply_requested } => {
                self.progress.log(*durable.borrow_and_update());
                if self.progress.keepalive(wal_end, self.assembler.in_transaction()) {
                    self.log.mark(wal_end);
                }
                self.heartbeat.reach(wal_end);
                if reply_requested {
                    self.tell(false);
                }
            }
        }
        Ok(())
    }

    /// Hands a transaction or a piece of one to the log, and keeps the connection alive while the log has no room.
    async fn append(
        &mut self,
        transaction: Arc<Transaction>,
        durable: &mut watch::Receiver<Lsn>,
    ) -> Result<(), Interrupted> {
        let changes = u64::try_from(transaction.changes.len()).unwrap_or(u64::MAX);
        let is_last = transaction.is_last;
        if is_last {
            self.progress.hand(transaction.end_lsn);
            self.heartbeat.reach(transaction.end_lsn);
        }
        self.heartbeat.hold(true);
        let log = self.log;
        let mut append = pin!(log.append(transaction));
        let is_new = loop {
            let due = self.clock.due(self.progress.confirmed());
            tokio::select! {
                biased;
                is_new = &mut append => break is_new,
                () = self.stage.stopping() => return Err(Interrupted::Stopping),
                () = sleep_until(due) => {
                    self.progress.log(*durable.borrow_and_update());
                    self.tell(false);
                    // A server that stopped reading must not stop us from waiting for the log.
                    let sent = tokio::time::timeout(PROMPT, self.connection.flush()).await;
                    sent.unwrap_or(Ok(())).map_err(Interrupted::Failed)?;
                    // Nothing is read meanwhile, so silence is ours.
                    self.clock.heard_at = Instant::now();
                }
            }
        };
        self.heartbeat.hold(false);
        if is_new {
            self.metrics.transactions.inc_by(u64::from(is_last));
            self.metrics.changes.inc_by(changes);
        }
        Ok(())
    }

    /// A message under our prefix came.
    fn hear(&self, content: &[u8]) {
        if let Some(took) = self.heartbeat.hear(content, Instant::now()) {
            self.metrics.heartbeats.inc();
            self.metrics.heartbeat_seconds.set(took.as_secs_f64());
        }
    }

    /// Something is due: a status update, or giving up on a server that is silent.
    fn keep_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let silent = now.duration_since(self.clock.heard_at);
        if silent > self.clock.silence {
            return Err(Error::new(
                ErrorKind::SourceUnreachable,
                format!("nothing was heard from Postgres for {} s", silent.as_secs()),
            ));
        }
        // The periodic update asks for an answer: an idle server says nothing by itself once it hears from us often.
        let is_periodic = now >= self.clock.asked_at + self.clock.every;
        self.tell(is_periodic);
        Ok(())
    }

    fn tell(&mut self, wants_reply: bool) {
        let now = Instant::now();
        self.connection.report(self.progress, wall_clock(), wants_reply);
        self.clock.told = self.progress.confirmed();
        self.clock.told_at = now;
        self.clock.asked_at = now;
        self.measure();
    }

    fn measure(&self) {
        let lag = i64::try_from(self.progress.lag_bytes()).unwrap_or(i64::MAX);
        self.metrics.source_lag_bytes.set(lag);
        self.metrics.source_confirmed_lsn.set(self.progress.confirmed().bytes());
    }

    async fn say_goodbye(mut self) -> Result<(), Error> {
        self.tell(false);
        // Postgres notices a closed socket as well; this only spares it the surprise.
        let _ = tokio::time::timeout(FAREWELL, self.connection.close()).await;
        Ok(())
    }
}

fn malformed(problem: Malformed) -> Interrupted {
    let error = Error::new(ErrorKind::Malformed, "could not decode the stream");
    Interrupted::Failed(error.because(problem))
}

/// The time that Postgres shows as `reply_time`; nothing depends on it.
#[allow(clippy::disallowed_methods, reason = "only shown by the server, never compared")]
fn wall_clock() -> PgTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    PgTime::from_unix_micros(micros)
}
