//! The API's connections: a few for each API role, opened when needed, lent in the order they were asked for.
//!
//! What was sent is finished even when nobody waits for it any more, a client that hung up included: Postgres would go on
//! with it anyway, and until then its connection has its place.
//!
//! Overflow: who waits longer than one request may take, or finds [`LINE`] others waiting, is told to come back.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_postgres::Error;

use super::link::{Done, Link, SETTINGS, Step};
use super::problem::Problem;
use crate::log_rate::admit;
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
    line: Arc<Semaphore>,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Link>>,
}

/// A place in the line and a connection's; both given back when dropped.
type Place = [OwnedSemaphorePermit; 2];

/// What comes of a request.
type Outcome = Result<Vec<Done>, Problem>;

/// One request on its way.
struct Errand {
    pool: Arc<Pool>,
    principal: Arc<Principal>,
    steps: Vec<Step<'static>>,
    /// Who asked, until they are answered.
    asker: Option<oneshot::Sender<Outcome>>,
    _place: Place,
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
        self: &Arc<Self>,
        principal: &Arc<Principal>,
        steps: &[Step<'_>],
    ) -> Outcome {
        let pool = self.pool(principal.role());
        let (asker, answer) = oneshot::channel();
        let errand = Errand {
            _place: self.place(&pool).await?,
            pool,
            principal: Arc::clone(principal),
            steps: steps.iter().map(Step::kept).collect(),
            asker: Some(asker),
        };
        let pools = Arc::clone(self);
        self.stage.spawn(async move { pools.finish(errand).await });
        answer.await.unwrap_or_else(|_| Err(Problem::broken("The request was given up.")))
    }

    /// Runs an errand to its end.
    async fn finish(&self, mut errand: Errand) {
        loop {
            let kept = errand.pool.take();
            let is_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => match self.open(errand.principal.role()).await {
                    Ok(link) => link,
                    Err(problem) => return errand.answer(Err(problem)),
                },
            };
            let Some(done) = self.attempt(&mut link, &mut errand).await else { return };
            let outcome = match done {
                Ok(done) => Ok(done),
                // Left behind by a restart, or prepared for a table that has changed. Every request may be made twice.
                Err(error) if is_kept && is_stale(&error) && errand.is_awaited() => continue,
                Err(error) if error.as_db_error().is_none() => {
                    return errand.answer(Err(Problem::of(&error)));
                }
                Err(error) => Err(Problem::of(&error)),
            };
            errand.pool.keep(link);
            return errand.answer(outcome);
        }
    }

    /// Runs an errand on a connection; nothing when Postgres does not end it.
    async fn attempt(
        &self,
        link: &mut Link,
        errand: &mut Errand,
    ) -> Option<Result<Vec<Done>, Error>> {
        let Errand { principal, steps, asker, .. } = errand;
        let mut running = pin!(link.run(principal, steps));
        if let Ok(done) = timeout(self.limit * 2, &mut running).await {
            return Some(done);
        }
        tell(asker, Err(Problem::too_slow()));
        // Postgres ends each statement in time: those of the steps, prepared and run, and those around them.
        let statements = u32::try_from(steps.len() * 2 + 4).unwrap_or(u32::MAX);
        timeout(self.limit.saturating_mul(statements), running).await.ok()
    }

    async fn place(&self, pool: &Pool) -> Result<Place, Problem> {
        let busy = || Problem::later("Too many requests are waiting for the database.");
        let line = Arc::clone(&pool.line).try_acquire_owned().map_err(|_| busy())?;
        let place = timeout(self.limit, Arc::clone(&pool.places).acquire_owned()).await;
        let place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok([line, place])
    }

    async fn open(&self, role: &str) -> Result<Link, Problem> {
        let limit = self.limit.as_millis().max(1).to_string();
        let mut settings = vec![("statement_timeout", &*limit), ("lock_timeout", &*limit)];
        settings.extend(SETTINGS);
        let opening = async {
            match connect(&self.target, "relay-chat", &settings, &self.stage).await {
                Ok(sql) => Link::new(sql, role).await,
                Err(error) => {
                    if let Some(left_out) = admit(&["chat pool", &error.to_string()]) {
                        tracing::warn!(%error, left_out, "the chat API cannot reach Postgres");
                    }
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
            line: Arc::new(Semaphore::new(LINE)),
            places: Arc::new(Semaphore::new(self.size)),
            idle: Mutex::default(),
        });
        roles.insert(role.into(), Arc::clone(&pool));
        pool
    }
}

impl Errand {
    fn answer(mut self, outcome: Outcome) {
        tell(&mut self.asker, outcome);
    }

    fn is_awaited(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| !asker.is_closed())
    }
}

/// Tells who asked, unless they were told before or went away.
fn tell(asker: &mut Option<oneshot::Sender<Outcome>>, outcome: Outcome) {
    if let Some(asker) = asker.take() {
        let _ = asker.send(outcome);
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
fn is_stale(error: &Error) -> bool {
    error.code().is_none_or(|code| {
        let code = code.code();
        code.starts_with("57P") || ["0A000", "26000"].contains(&code)
    })
}
