//! Which rows a principal may read: the tables' own policies, judged by Postgres on the row image.
//!
//! Promises: a row is readable only when Postgres said so, for this role and these claims, seeing every transaction
//! asked about; what could not be asked is [`Trouble`], never a verdict. One principal's errors and slowness stay its own.
//!
//! A policy runs on the image, so a row that is already gone is still judged. It runs on the stored row instead when the
//! image lacks what the policy needs, and then only a row that still is what the image says is readable. One that is not
//! found so is hidden if somebody who sees every row finds it, and [`Verdict::RowChanged`] otherwise: "not the same any more"
//! does not mean that it was hidden.
//!
//! Not here: which policies apply (`catalog`), which change needs which question (`fanout`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::check::MOST_ROWS;
use super::connection::Purpose;
use super::first::{self, FirstRows, Reading, Unread};
use super::gate::Gate;
use super::image::computing;
use super::judge::{Judge, RowVisibility};
use super::pool::Pool;
use super::requester::Requester;
use crate::metrics::Metrics;
use crate::model::filter::Condition;
use crate::model::table::Policy;
use crate::model::{Principal, Snapshot, Table};
use crate::postgres::Target;
use crate::shutdown::Stage;

/// Questions of one principal asked at once, and of one requester, if there are more connections than that.
const AT_ONCE: usize = 2;
/// Questions got ready together: each takes a few kilobytes.
const PREPARED: usize = 64;
/// Connections for what is not asked on behalf of anybody.
const SERVICE: usize = 2;

/// One thing to ask Postgres on behalf of a principal.
#[derive(Clone, Debug)]
pub enum Question {
    /// May the principal read these rows of the table?
    Readable {
        /// The table, whose policy for the principal's role is the one asked.
        table: Arc<Table>,
        /// The policy.
        policy: Arc<Policy>,
        /// The rows.
        rows: Vec<Asked>,
    },
    /// Do these values pass the condition?
    Passes {
        /// The condition.
        condition: Condition,
        /// `pg_type.oid` of the values.
        type_oid: u32,
        /// The values' text; `None` is SQL null.
        values: Vec<Option<Arc<str>>>,
    },
}

impl Question {
    /// How many rows or values it asks about.
    pub const fn len(&self) -> usize {
        match self {
            Self::Readable { rows, .. } => rows.len(),
            Self::Passes { values, .. } => values.len(),
        }
    }

    /// Whether it asks about nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same question about the first half of its rows or values, and about the others.
    pub fn halve(mut self) -> (Self, Self) {
        let half = self.len() / 2;
        let rest = match &mut self {
            Self::Readable { table, policy, rows } => Self::Readable {
                table: Arc::clone(table),
                policy: Arc::clone(policy),
                rows: rows.split_off(half),
            },
            Self::Passes { condition, type_oid, values } => Self::Passes {
                condition: condition.clone(),
                type_oid: *type_oid,
                values: values.split_off(half),
            },
        };
        (self, rest)
    }
}

/// One row to be judged.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The row image as a JSON object (see `rowjson::push_image`): the key and what the policy needs, or everything that
    /// is known when some of that is missing.
    pub image: String,
    /// Values that the policy needs are missing from the image (unchanged TOAST): the row must be read by key.
    pub is_partial: bool,
}

/// What is said of one row or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The principal may read the row; the value passes.
    Yes,
    /// It may not; it does not.
    No,
    /// The row must be judged in its table and is not what the image says any more, so nobody can tell.
    RowChanged,
}

impl Verdict {
    const fn of(passes: bool) -> Self {
        if passes { Self::Yes } else { Self::No }
    }
}

/// Why Postgres did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The policy or the condition raised an error: SQLSTATE and message (without row contents).
    Failed {
        /// The SQLSTATE.
        code: String,
        /// The message.
        message: String,
    },
    /// It took longer than the check timeout.
    TimedOut,
    /// Postgres could not be asked, after retries.
    Unavailable,
    /// The log does not have every value that is needed, and the row in the table is another by now.
    Incomplete,
    /// The table is gone.
    TableGone,
    /// The rights that the question was made from are not those in force any more: ask again, made anew.
    RightsChanged,
}

/// Asks Postgres. Shared.
#[derive(Debug)]
pub struct Visibility {
    target: Target,
    pool_size: usize,
    check_timeout: Duration,
    metrics: Metrics,
    stage: Stage,
    gate: Gate,
    /// One per API role that was asked for; the allow-list bounds them.
    pools: Mutex<Pools>,
    /// The same for computing columns and for waiting until commits are visible, so that no policy holds that up.
    services: Mutex<Pools>,
    /// The same for first reads, which may be long.
    readers: Mutex<Pools>,
}

type Pools = HashMap<Box<str>, Arc<Pool>>;

impl Visibility {
    /// Connections are opened when first needed, `pool` per role.
    pub fn new(
        target: Target,
        settings: &crate::config::Postgres,
        metrics: Metrics,
        stage: Stage,
    ) -> Arc<Self> {
        Arc::new(Self {
            target,
            pool_size: settings.pool,
            check_timeout: settings.check_timeout,
            metrics,
            stage,
            gate: Gate::default(),
            pools: Mutex::default(),
            services: Mutex::default(),
            readers: Mutex::default(),
        })
    }

    /// Answers every question, in order, one verdict per row or value, as the principal sees the database once all
    /// of `xids` are visible (waits for that), when it is the requester's turn. A question that fails does not touch the others.
    pub async fn judge(
        &self,
        requester: &Requester,
        principal: &Principal,
        xids: &[u32],
        questions: Vec<Question>,
    ) -> Vec<Result<Vec<Verdict>, Trouble>> {
        let started = Instant::now();
        let answers = match questions.as_slice() {
            [question] => vec![self.answer(requester, principal, xids, question).await],
            questions => {
                let mut answers = Vec::with_capacity(questions.len());
                for some in questions.chunks(PREPARED) {
                    let mut asking = Vec::with_capacity(some.len());
                    for question in some {
                        asking.push(self.answer(requester, principal, xids, question));
                    }
                    answers
                        .extend(stream::iter(asking).buffered(AT_ONCE).collect::<Vec<_>>().await);
                }
                answers
            }
        };
        self.metrics.check_seconds.observe(started.elapsed().as_secs_f64());
        answers
    }

    async fn answer(
        &self,
        requester: &Requester,
        principal: &Principal,
        xids: &[u32],
        question: &Question,
    ) -> Result<Vec<Verdict>, Trouble> {
        let (pool, service) = self.pools_of(principal.role());
        let judge = self.judge_with(requester, &pool, &service);
        match question {
            Question::Readable { table, policy, rows } => {
                let visibilities = judge.read(principal, xids, (table, policy), rows).await?;
                self.look_for_unseen(requester, xids, table, rows, &visibilities).await
            }
            Question::Passes { condition, type_oid, values } => {
                let passed = judge.pass(principal, xids, (condition, *type_oid), values).await?;
                Ok(passed.into_iter().map(Verdict::of).collect())
            }
        }
    }

    /// Verdicts on rows. Those that were not seen are looked for by somebody who would see them.
    async fn look_for_unseen(
        &self,
        requester: &Requester,
        xids: &[u32],
        table: &Table,
        rows: &[Asked],
        visibilities: &[RowVisibility],
    ) -> Result<Vec<Verdict>, Trouble> {
        let is_unseen =
            |(_, visibility): &(&Asked, &RowVisibility)| **visibility == RowVisibility::NotSeen;
        let unseen: Vec<&Asked> =
            rows.iter().zip(visibilities).filter(is_unseen).map(|(row, _)| row).collect();
        let found = match table.unhindered().filter(|_| !unseen.is_empty()) {
            Some(role) => {
                let (pool, service) = self.pools_of(role);
                let anybody = Principal::of_role(role);
                self.judge_with(requester, &pool, &service)
                    .find_stored(&anybody, xids, table, &unseen)
                    .await?
            }
            None => Vec::new(),
        };
        let mut found = found.into_iter();
        let verdict = |visibility: &RowVisibility| match visibility {
            RowVisibility::Readable => Verdict::Yes,
            RowVisibility::Hidden => Verdict::No,
            RowVisibility::NotSeen if found.next() == Some(true) => Verdict::No,
            RowVisibility::NotSeen => Verdict::RowChanged,
        };
        Ok(visibilities.iter().map(verdict).collect())
    }

    /// Values of generated columns for rows of `table`: one list of texts per row, in the order of `columns`, which are
    /// places of them. Runs as one of the allowed roles.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn generate(
        &self,
        table: &Table,
        columns: &[usize],
        images: Vec<String>,
    ) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        if images.is_empty() || columns.is_empty() {
            return Ok(vec![Vec::new(); images.len()]);
        }
        let sql = computing(table, columns);
        // Any role will do that may name the table and call the functions; the values do not depend on it.
        let mut roles: Vec<&str> = table.access.keys().map(AsRef::as_ref).collect();
        roles.sort_unstable();
        let mut trouble = Trouble::Unavailable;
        for role in roles {
            let service = self.service(role);
            let judge = self.judge_with(&Requester::Role, &service, &service);
            match compute_all(&judge, &sql, &images).await {
                Ok(rows) => return Ok(rows),
                Err(failed @ Trouble::Failed { .. }) => trouble = failed,
                Err(other) => return Err(other),
            }
        }
        Err(trouble)
    }

    /// Reads the first rows of tables as the principal sees them, when it is the requester's turn, all under one snapshot, which
    /// `is_early` is asked about; waits a while for one that is not.
    ///
    /// # Errors
    /// See [`Unread`].
    pub async fn read_first(
        &self,
        requester: &Requester,
        principal: &Principal,
        readings: &[Reading],
        is_early: &(dyn Fn(&Snapshot) -> bool + Send + Sync),
    ) -> Result<FirstRows, Unread> {
        let pool = self.pool(&self.readers, (SERVICE, 1), Purpose::Judging, principal.role());
        first::read(&self.judge_with(requester, &pool, &pool), principal, readings, is_early).await
    }

    fn judge_with<'a>(
        &'a self,
        requester: &'a Requester,
        pool: &'a Pool,
        service: &'a Pool,
    ) -> Judge<'a> {
        Judge {
            requester,
            pool,
            service,
            gate: &self.gate,
            metrics: &self.metrics,
            stage: &self.stage,
            limit: self.check_timeout,
        }
    }

    /// Connections to judge with, and to render.
    fn pools_of(&self, role: &str) -> (Arc<Pool>, Arc<Pool>) {
        // Somebody else has one of them, unless it is the only one.
        let each = AT_ONCE.min(self.pool_size.saturating_sub(1));
        let pool = self.pool(&self.pools, (self.pool_size, each), Purpose::Judging, role);
        (pool, self.service(role))
    }

    fn service(&self, role: &str) -> Arc<Pool> {
        self.pool(&self.services, (SERVICE, SERVICE), Purpose::Rendering, role)
    }

    fn pool(
        &self,
        pools: &Mutex<Pools>,
        places: (usize, usize),
        purpose: Purpose,
        role: &str,
    ) -> Arc<Pool> {
        let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(role) {
            return Arc::clone(pool);
        }
        let (target, limit, stage) = (self.target.clone(), self.check_timeout, self.stage.clone());
        let pool = Arc::new(Pool::new(role, purpose, places, target, limit, stage));
        pools.insert(role.into(), Arc::clone(&pool));
        pool
    }
}

/// Computes for a bounded number of images at a time.
async fn compute_all(
    judge: &Judge<'_>,
    sql: &str,
    images: &[String],
) -> Result<Vec<Vec<Option<String>>>, Trouble> {
    let mut rows = Vec::with_capacity(images.len());
    for piece in images.chunks(MOST_ROWS) {
        rows.extend(judge.compute(sql, piece).await?);
    }
    Ok(rows)
}
