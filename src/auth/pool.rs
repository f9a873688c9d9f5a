//! The connections of one API role: few, opened when needed, lent in the order they were asked for.
//!
//! Promises: one requester never has all of several connections, however many tokens it has and however much it asks for. One
//! whose checks take too long waits in a second line, of which only one at a time is let into the first, each requester in
//! turn: so slow policies and conditions never hold every connection, and the slow hold up the slow alone.
//!
//! Overflow: when the line is [`LINE`] long, the next one is turned away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::connection::{Connection, Purpose, Unopened};
use super::requester::Requester;
use super::visibility::Trouble;
use crate::postgres::{Target, Turn, Turns};
use crate::shutdown::Stage;

/// How many may wait for a connection.
const LINE: usize = 65_536;
/// How long a refused role is not tried again.
const REFUSED: Duration = Duration::from_secs(1);
/// How long an requester counts as slow, and how many are remembered; then all are forgotten.
const SLOW: Duration = Duration::from_secs(30);
const MOST_SLOW: usize = 10_000;

/// Connections that act as one role.
#[derive(Debug)]
pub(super) struct Pool {
    role: Box<str>,
    purpose: Purpose,
    target: Target,
    check_timeout: Duration,
    stage: Stage,
    line: Semaphore,
    turns: Turns<Requester>,
    slow_turns: Turns<Requester>,
    idle: Mutex<Vec<Connection>>,
    refused: Mutex<Option<(Instant, Trouble)>>,
    slow: Mutex<HashMap<Requester, Instant>>,
}

/// A connection in use. Dropping it closes it; [`Lent::give_back`] keeps it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    /// The connection.
    pub(super) connection: Connection,
    pool: &'a Pool,
    _permits: Permits<'a>,
}

/// What is taken with a connection, and given back together.
#[derive(Debug)]
struct Permits<'a> {
    _line: SemaphorePermit<'a>,
    _slow: Option<Turn<'a, Requester>>,
    _turn: Turn<'a, Requester>,
}

impl Pool {
    /// A pool of at most `size` connections, none of them open yet, of which an requester has at most `each`.
    pub(super) fn new(
        role: &str,
        purpose: Purpose,
        (size, each): (usize, usize),
        target: Target,
        check_timeout: Duration,
        stage: Stage,
    ) -> Self {
        Self {
            role: role.into(),
            purpose,
            target,
            check_timeout,
            stage,
            line: Semaphore::new(LINE),
            turns: Turns::new(size.max(1), each.max(1)),
            slow_turns: Turns::new(1, 1),
            idle: Mutex::default(),
            refused: Mutex::default(),
            slow: Mutex::default(),
        }
    }

    /// A connection, when it is the requester's turn.
    pub(super) async fn lend(&self, requester: &Requester) -> Result<Lent<'_>, Unopened> {
        let permits = self.acquire(requester).await?;
        if let Some(trouble) = self.known_refusal() {
            return Err(Unopened::Refused(trouble));
        }
        let idle = || {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| idle.pop()).find(|connection| !connection.is_closed())
        };
        let connection = match idle() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        Ok(Lent { connection, pool: self, _permits: permits })
    }

    /// Remembers that this requester's checks take too long.
    pub(super) fn mark_slow(&self, requester: &Requester) {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST_SLOW <= slow.len() {
            slow.clear();
        }
        slow.insert(requester.clone(), Instant::now());
    }

    async fn acquire(&self, requester: &Requester) -> Result<Permits<'_>, Unopened> {
        let full = |_| Unopened::Unreachable("too many checks are waiting".to_owned());
        let line = self.line.try_acquire().map_err(full)?;
        let slow = match self.is_slow(requester) {
            true => Some(self.slow_turns.take(requester).await),
            false => None,
        };
        let turn = self.turns.take(requester).await;
        Ok(Permits { _line: line, _slow: slow, _turn: turn })
    }

    fn is_slow(&self, requester: &Requester) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = slow.get(requester) else { return false };
        let is_slow = since.elapsed() < SLOW;
        if !is_slow {
            slow.remove(requester);
        }
        is_slow
    }

    fn known_refusal(&self) -> Option<Trouble> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, trouble) = refused.as_ref()?;
        (since.elapsed() < REFUSED).then(|| trouble.clone())
    }

    async fn open(&self) -> Result<Connection, Unopened> {
        let limit = self.check_timeout;
        let opened =
            Connection::open(&self.target, &self.role, self.purpose, limit, &self.stage).await;
        if let Err(Unopened::Refused(trouble)) = &opened {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some((Instant::now(), trouble.clone()));
        }
        opened
    }
}

impl Lent<'_> {
    /// Closes it, and those that nobody uses: what it was opened for is not so any more.
    pub(super) fn drop_all(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps the connection for the next question.
    pub(super) fn give_back(self) {
        if !self.connection.is_closed() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(self.connection);
        }
    }
}
