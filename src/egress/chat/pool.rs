//! The API's connections: a few for each API role, opened when needed, lent in the order they were asked for.
//!
//! Overflow: who waits longer than one request may take, or finds [`LINE`] others waiting, is told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::link::{Done, Link, SETTINGS, Step};
use super::problem::Problem;
use crate::model::Principal;
use crate::postgres::{Target, connect};
use crate::shutdown::Stage;

/// How many may wait for a connection of one role.
const LINE: usize = 4096;

/// Connections of every role; the allow-list of roles bounds them.
#[derive(Debug)]
pub(super) struct Pools {
    target: Target,
    size: usize,
    limit: Duration,
    stage: Stage,
    roles: Mutex<HashMap<Box<str>, Arc<Pool>>>,
}

#[derive(Debug)]
struct Pool {
    line: Semaphore,
    places: Semaphore,
    idle: Mutex<Vec<Link>>,
}

impl Pools {
    /// At most `size` connections for each role, none of them open yet.
    pub(super) fn new(target: Target, size: usize, limit: Duration, stage: Stage) -> Self {
        Self { target, size, limit, stage, roles: Mutex::default() }
    }

    /// Does all steps as the principal in one transaction; their outcomes, once it is committed.
    ///
    /// # Errors
    /// Nothing of it was done, unless the problem says that this is not known.
    pub(super) async fn run(
        &self,
        principal: &Principal,
        steps: &[Step<'_>],
    ) -> Result<Vec<Done>, Problem> {
        let pool = self.pool(principal.role());
        let _places = self.places(&pool).await?;
        loop {
            let kept = pool.take();
            let is_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.open(principal.role()).await?,
            };
            // Postgres says that time is up before this does, unless it is gone.
            let done = timeout(self.limit * 2, link.run(principal, steps)).await;
            let Ok(done) = done else { return Err(Problem::too_slow()) };
            match done {
                Ok(done) => {
                    pool.keep(link);
                    return Ok(done);
                }
                // Left behind by a restart, or prepared for a table that has changed. Every request may be made twice.
                Err(error) if is_kept && is_stale(&error) => {}
                Err(error) => {
                    if error.as_db_error().is_some() {
                        pool.keep(link);
                    }
                    return Err(Problem::of(&error));
                }
            }
        }
    }

    async fn places<'a>(
        &self,
        pool: &'a Pool,
    ) -> Result<(SemaphorePermit<'a>, SemaphorePermit<'a>), Problem> {
        let busy = || Problem::later("Too many requests are waiting for the database.");
        let line = pool.line.try_acquire().map_err(|_| busy())?;
        let place = timeout(self.limit, pool.places.acquire()).await;
        let place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok((line, place))
    }

    async fn open(&self, role: &str) -> Result<Link, Problem> {
        let limit = self.limit.as_millis().max(1).to_string();
        let mut settings = vec![("statement_timeout", &*limit), ("lock_timeout", &*limit)];
        settings.extend(SETTINGS);
        let opening = async {
            match connect(&self.target, "relay-chat", &settings, &self.stage).await {
                Ok(sql) => Link::new(sql, role).await,
                Err(error) => {
                    tracing::warn!(%error, "the chat API cannot reach Postgres");
                    Err(Problem::later("The database cannot be reached."))
                }
            }
        };
        match timeout(self.limit * 2, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Problem::later("The database cannot be reached.")),
        }
    }

    fn pool(&self, role: &str) -> Arc<Pool> {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = roles.get(role) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool {
            line: Semaphore::new(LINE),
            places: Semaphore::new(self.size),
            idle: Mutex::default(),
        });
        roles.insert(role.into(), Arc::clone(&pool));
        pool
    }
}

impl Pool {
    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|link| !link.is_closed())
    }

    fn keep(&self, link: Link) {
        if !link.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
    }
}

/// Whether another connection may do better.
fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| {
        let code = code.code();
        code.starts_with("57P") || ["0A000", "26000"].contains(&code)
    })
}
