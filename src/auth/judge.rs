//! Asking until there is an answer: gate, retries, and what is final.
//!
//! Promises: an answer counts only when every transaction asked about was visible to it; a lost connection is never an
//! answer, nor is a database that is away for a while; one question's error is that question's alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::check::{self, Check};
use super::connection::{Outcome, Unopened};
use super::gate::{self, Gate};
use super::pool::{Lent, Pool};
use super::requester::Requester;
use super::trouble::Setback;
use super::visibility::{Asked, Trouble};
use crate::backoff::Backoff;
use crate::log_rate::admit;
use crate::metrics::Metrics;
use crate::model::filter::Condition;
use crate::model::table::{Names, Policy};
use crate::model::{Principal, Table};
use crate::shutdown::Stage;

/// How often a question is asked again after lost connections and passing errors, and how long is waited in between.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After waiting this long for a commit to become visible, the log says so.
const LONG_GATE: Duration = Duration::from_secs(10);

/// What was found out about one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowVisibility {
    /// The principal may read it.
    Readable,
    /// The principal may not read it.
    Hidden,
    /// The principal does not see it in the table as the image says: it may not read it, or the row is another by now.
    NotSeen,
}

impl RowVisibility {
    const fn of_image(passes: bool) -> Self {
        if passes { Self::Readable } else { Self::Hidden }
    }
}

/// What asking needs.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    /// Whose turn at the connections is used.
    pub(super) requester: &'a Requester,
    /// Connections of the principal's role.
    pub(super) pool: &'a Pool,
    /// Connections of the same role for what is not asked on anybody's behalf.
    pub(super) service: &'a Pool,
    /// Transactions known to be visible.
    pub(super) gate: &'a Gate,
    /// Counts.
    pub(super) metrics: &'a Metrics,
    /// Ends the waiting.
    pub(super) stage: &'a Stage,
    /// `statement_timeout` of the connections.
    pub(super) limit: Duration,
}

impl Judge<'_> {
    /// One answer per row of the table, which `policy` decides.
    pub(super) async fn read(
        &self,
        principal: &Principal,
        xids: &[u32],
        (table, policy): (&Table, &Policy),
        rows: &[Asked],
    ) -> Result<Vec<RowVisibility>, Trouble> {
        let needs_stored = policy.reads.stored || policy.names == Names::Nobodys;
        let stored = |row: &Asked| row.is_partial || needs_stored;
        let mut visibilities = vec![RowVisibility::NotSeen; rows.len()];
        let from_image: Vec<&Asked> = rows.iter().filter(|row| !stored(row)).collect();
        let mut places = (0..).zip(rows).filter(|(_, row)| !stored(row)).map(|(at, _)| at);
        for piece in check::pieces(&from_image) {
            let check = check::of_images(table, principal.role(), policy, &piece);
            let answers = match self.ask(principal, xids, &check).await {
                Ok(Some(answers)) => answers.into_iter().map(RowVisibility::of_image).collect(),
                Ok(None) if policy.is_constant() => return Err(Trouble::Unavailable),
                Ok(None) => self.ask_stored(principal, xids, table, &piece).await?,
                // No row of the table's type can be made of what breaks a check that its domain has got since.
                Err(trouble)
                    if policy.reads.whole_row
                        && table.has_primary_key()
                        && piece.len() == 1
                        && is_of_integrity(&trouble) =>
                {
                    self.ask_stored(principal, xids, table, &piece).await?
                }
                Err(trouble) => return Err(trouble),
            };
            put(&mut visibilities, &mut places, answers);
        }
        let by_key: Vec<&Asked> = rows.iter().filter(|row| stored(row)).collect();
        let mut places = (0..).zip(rows).filter(|(_, row)| stored(row)).map(|(at, _)| at);
        for piece in check::pieces(&by_key) {
            let answers = self.ask_stored(principal, xids, table, &piece).await?;
            put(&mut visibilities, &mut places, answers);
        }
        Ok(visibilities)
    }

    /// One verdict per value, each text read as the type `type_oid`.
    pub(super) async fn pass(
        &self,
        principal: &Principal,
        xids: &[u32],
        (condition, type_oid): (&Condition, u32),
        values: &[Option<Arc<str>>],
    ) -> Result<Vec<bool>, Trouble> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let bound = &condition.sql_type;
        let type_name = if [0, bound.oid, bound.base().oid].contains(&type_oid) {
            condition.spelling.type_name.to_string()
        } else {
            self.type_name(type_oid).await?
        };
        let check = check::of_values(condition, &type_name, values);
        self.ask(principal, xids, &check).await?.ok_or(Trouble::Unavailable)
    }

    /// Which of these rows are in the table as their images say, as far as the principal sees it.
    pub(super) async fn find_stored(
        &self,
        principal: &Principal,
        xids: &[u32],
        table: &Table,
        rows: &[&Asked],
    ) -> Result<Vec<bool>, Trouble> {
        let mut found = Vec::with_capacity(rows.len());
        for piece in check::pieces(rows) {
            let check = check::of_stored(table, principal, &piece).ok_or_else(|| keyless(table))?;
            let answers = self.ask(principal, xids, &check).await?;
            found.extend(answers.ok_or(Trouble::Unavailable)?);
        }
        Ok(found)
    }

    /// Texts computed by `sql` from images.
    pub(super) async fn compute(
        &self,
        sql: &str,
        images: &[String],
    ) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        let json = check::array(images);
        let mut patience = Patience::new();
        loop {
            let mut lent = self.lend(self.service).await?;
            let asked_at = Instant::now();
            let answer =
                tokio::time::timeout(self.limit * 2, lent.connection.compute(sql, json.clone()));
            match self.settle(lent_result(answer.await), asked_at) {
                Ok(rows) => {
                    lent.give_back();
                    return Ok(rows);
                }
                Err(setback) => patience.bear(setback, lent, self.stage).await?,
            }
        }
    }

    async fn type_name(&self, oid: u32) -> Result<String, Trouble> {
        let mut patience = Patience::new();
        loop {
            let mut lent = self.lend(self.pool).await?;
            let asked_at = Instant::now();
            let answer = tokio::time::timeout(self.limit * 2, lent.connection.type_name(oid));
            match self.settle(lent_result(answer.await), asked_at) {
                Ok(name) => {
                    lent.give_back();
                    return Ok(name);
                }
                Err(setback) => patience.bear(setback, lent, self.stage).await?,
            }
        }
    }

    /// What the principal sees of these rows in the table.
    async fn ask_stored(
        &self,
        principal: &Principal,
        xids: &[u32],
        table: &Table,
        rows: &[&Asked],
    ) -> Result<Vec<RowVisibility>, Trouble> {
        let found = self.find_stored(principal, xids, table, rows).await?;
        let visibility =
            |is_found| if is_found { RowVisibility::Readable } else { RowVisibility::NotSeen };
        Ok(found.into_iter().map(visibility).collect())
    }

    /// `None`: this check cannot tell.
    async fn ask(
        &self,
        principal: &Principal,
        xids: &[u32],
        check: &Check,
    ) -> Result<Option<Vec<bool>>, Trouble> {
        let mut patience = Patience::new();
        let mut may_be_early = true;
        loop {
            let unknown = self.gate.unknown(xids);
            let mut lent = self.lend(self.pool).await?;
            self.metrics.checks.inc();
            let asked_at = Instant::now();
            let answer = tokio::time::timeout(
                self.limit * 2,
                lent.connection.ask(principal, check, &unknown),
            );
            match self.settle(lent_result(answer.await), asked_at) {
                Ok(Outcome::CannotTell) => {
                    lent.give_back();
                    return Ok(None);
                }
                Ok(Outcome::RightsChanged) => {
                    lent.give_back();
                    return Err(Trouble::RightsChanged);
                }
                // The next connection is opened under those of now.
                Ok(Outcome::SettingsChanged) => lent.drop_all(),
                Ok(Outcome::Answered(answer)) if answer.is_visible => {
                    lent.give_back();
                    self.gate.learn(xids);
                    if answer.verdicts.len() == check.count {
                        return Ok(Some(answer.verdicts));
                    }
                    warn!(
                        "a row check answered for another number of rows than it was asked about"
                    );
                    return Err(Trouble::Unavailable);
                }
                Ok(Outcome::Answered(_)) => {
                    lent.give_back();
                    self.wait_until_visible(xids).await?;
                }
                // A policy that cannot see the transaction yet may fail because of that.
                Err(Setback::Final(Trouble::Failed { .. }))
                    if may_be_early && !unknown.is_empty() =>
                {
                    may_be_early = false;
                    lent.give_back();
                    self.wait_until_visible(xids).await?;
                }
                Err(setback) => {
                    // Waiting for a lock holds a connection as well as being slow does.
                    if let Setback::Final(Trouble::TimedOut) | Setback::Passing(Trouble::TimedOut) =
                        setback
                    {
                        self.pool.mark_slow(self.requester);
                    }
                    patience.bear(setback, lent, self.stage).await?;
                }
            }
        }
    }

    /// Waits until all of `xids` are visible. One caller asks, the others wait for it.
    async fn wait_until_visible(&self, xids: &[u32]) -> Result<(), Trouble> {
        let turn = tokio::select! {
            () = self.stage.stopping() => return Err(Trouble::Unavailable),
            turn = self.gate.turn() => turn,
        };
        let started = Instant::now();
        let mut patience = Patience::new();
        let mut has_warned = false;
        for count in 0.. {
            let unknown = self.gate.unknown(xids);
            if unknown.is_empty() {
                break;
            }
            let mut lent = self.lend(self.service).await?;
            let asked_at = Instant::now();
            let answer = tokio::time::timeout(self.limit * 2, lent.connection.sees(&unknown));
            match self.settle(lent_result(answer.await), asked_at) {
                Ok(true) => {
                    lent.give_back();
                    self.gate.learn(xids);
                    break;
                }
                Ok(false) => {
                    lent.give_back();
                    patience = Patience::new();
                }
                Err(setback) => patience.bear(setback, lent, self.stage).await?,
            }
            self.metrics.check_waits.inc();
            if !has_warned && LONG_GATE < started.elapsed() {
                has_warned = true;
                if let Some(left_out) = admit(&["invisible"]) {
                    warn!(
                        left_out,
                        "a committed transaction is still not visible to queries; is a synchronous standby missing?"
                    );
                }
            }
            pause(gate::wait(count), self.stage).await?;
        }
        drop(turn);
        Ok(())
    }

    /// A connection, however long Postgres is away: nothing is withheld for that. What waits meanwhile is bounded by
    /// whoever asks.
    pub(super) async fn lend<'p>(&self, pool: &'p Pool) -> Result<Lent<'p>, Trouble> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for attempt in 1_u32.. {
            let lent = tokio::select! {
                () = self.stage.stopping() => return Err(Trouble::Unavailable),
                lent = pool.lend(self.requester) => lent,
            };
            match lent {
                Ok(lent) => return Ok(lent),
                Err(Unopened::Refused(trouble)) => return Err(trouble),
                Err(Unopened::Unreachable(reason)) => {
                    if attempt == TRIES
                        && let Some(left_out) = admit(&["unchecked", &reason])
                    {
                        warn!(%reason, left_out, "rows cannot be checked; they wait until they can");
                    }
                    pause(backoff.wait(u64::from(attempt)), self.stage).await?;
                }
            }
        }
        Err(Trouble::Unavailable)
    }

    /// What an answer comes to.
    pub(super) fn settle<T>(
        &self,
        answer: Result<T, Option<tokio_postgres::Error>>,
        asked_at: Instant,
    ) -> Result<T, Setback> {
        answer.map_err(|error| match error {
            Some(error) => Setback::of(&error, asked_at.elapsed(), self.limit),
            // Postgres did not even say that time was up: it is not the question that takes long.
            None => Setback::Broken,
        })
    }
}

/// `None`: our own clock ran out.
pub(super) fn lent_result<T>(
    answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
) -> Result<T, Option<tokio_postgres::Error>> {
    answer.map_err(|_| None)?.map_err(Some)
}

/// How often a question may still be asked again.
#[derive(Debug)]
pub(super) struct Patience {
    left: u32,
    backoff: Backoff,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { left: TRIES, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// Keeps or drops the connection as the setback demands. Errs when the setback is the answer.
    pub(super) async fn bear(
        &mut self,
        setback: Setback,
        lent: Lent<'_>,
        stage: &Stage,
    ) -> Result<(), Trouble> {
        match setback {
            // A connection on which time ran out may be busy, and is dropped.
            Setback::Final(trouble) => {
                if trouble != Trouble::TimedOut {
                    lent.give_back();
                }
                Err(trouble)
            }
            Setback::Broken => {
                drop(lent);
                self.rest(Trouble::Unavailable, stage).await
            }
            Setback::Passing(trouble) => {
                lent.give_back();
                self.rest(trouble, stage).await
            }
            Setback::Stale(trouble) => {
                drop(lent);
                self.rest(trouble, stage).await
            }
        }
    }

    async fn rest(&mut self, otherwise: Trouble, stage: &Stage) -> Result<(), Trouble> {
        if self.left == 0 {
            return Err(otherwise);
        }
        self.left -= 1;
        pause(self.backoff.wait(u64::from(self.left)), stage).await
    }
}

/// Sleeps, unless the stage stops.
pub(super) async fn pause(length: Duration, stage: &Stage) -> Result<(), Trouble> {
    tokio::select! {
        () = stage.stopping() => Err(Trouble::Unavailable),
        () = tokio::time::sleep(length) => Ok(()),
    }
}

fn put(
    visibilities: &mut [RowVisibility],
    places: &mut impl Iterator<Item = usize>,
    answers: Vec<RowVisibility>,
) {
    for (answer, place) in answers.into_iter().zip(places) {
        if let Some(visibility) = visibilities.get_mut(place) {
            *visibility = answer;
        }
    }
}

/// Whether a value broke a constraint.
fn is_of_integrity(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Failed { code, .. } if code.starts_with("23"))
}

fn keyless(table: &Table) -> Trouble {
    Trouble::Failed {
        code: "0A000".to_owned(),
        message: format!(
            "\"{}\" has no primary key by which to read the row its policies need",
            table.name
        ),
    }
}
