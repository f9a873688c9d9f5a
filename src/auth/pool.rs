//! The connections of one API role: few, opened when needed, lent in the order they were asked for.
//!
//! Overflow: when the line is [`LINE`] long, the next one is turned away. A principal whose checks take too long waits in a
//! second line of which only one at a time is let into the first, so that slow policies never hold every connection.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::connection::{Connection, Purpose, Unopened};
use super::visibility::Trouble;
use crate::postgres::Target;
use crate::shutdown::Stage;

/// How many may wait for a connection.
const LINE: usize = 65_536;
/// How long a refused role is not tried again.
const REFUSED: Duration = Duration::from_secs(1);
/// How long a principal counts as slow, and how many are remembered; then all are forgotten.
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
    places: Semaphore,
    slow_places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    refused: Mutex<Option<(Instant, Trouble)>>,
    slow: Mutex<HashMap<Box<str>, Instant>>,
}

/// A connection in use. Dropping it closes it; [`Lent::give_back`] keeps it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    /// The connection.
    pub(super) connection: Connection,
    pool: &'a Pool,
    _places: Places<'a>,
}

/// Places taken, freed together.
#[derive(Debug)]
struct Places<'a> {
    _line: SemaphorePermit<'a>,
    _slow: Option<SemaphorePermit<'a>>,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    /// A pool of at most `size` connections, none of them open yet.
    pub(super) fn new(
        role: &str,
        purpose: Purpose,
        size: usize,
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
            places: Semaphore::new(size.max(1)),
            slow_places: Semaphore::new(1),
            idle: Mutex::default(),
            refused: Mutex::default(),
            slow: Mutex::default(),
        }
    }

    /// A connection, when it is this caller's turn. `claims` tells who asks.
    pub(super) async fn lend(&self, claims: &str) -> Result<Lent<'_>, Unopened> {
        let places = self.take_places(claims).await?;
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
        Ok(Lent { connection, pool: self, _places: places })
    }

    /// Remembers that this principal's checks take too long.
    pub(super) fn mark_slow(&self, claims: &str) {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST_SLOW <= slow.len() {
            slow.clear();
        }
        slow.insert(claims.into(), Instant::now());
    }

    async fn take_places(&self, claims: &str) -> Result<Places<'_>, Unopened> {
        let closed = |_| Unopened::Unreachable("the pool is closed".to_owned());
        let full = |_| Unopened::Unreachable("too many checks are waiting".to_owned());
        let line = self.line.try_acquire().map_err(full)?;
        let slow = if self.is_slow(claims) {
            Some(self.slow_places.acquire().await.map_err(closed)?)
        } else {
            None
        };
        let place = self.places.acquire().await.map_err(closed)?;
        Ok(Places { _line: line, _slow: slow, _place: place })
    }

    fn is_slow(&self, claims: &str) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = slow.get(claims) else { return false };
        let is_slow = since.elapsed() < SLOW;
        if !is_slow {
            slow.remove(claims);
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
