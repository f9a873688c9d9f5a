//! First reads: rows of tables as a subscriber sees them, all under one snapshot that can be compared with the stream.
//!
//! Postgres applies policies and privileges by itself: the transaction acts as the subscriber's role with its claims.
//! Promises: the rows are those of one snapshot, which the caller found late enough; values read as the stream writes
//! them; memory is bounded by [`MOST_BYTES`].
//!
//! Not here: which rows were streamed already (`fanout`), and what is made of the rows.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::{ToSql, Type};

use super::connection::Connection;
use super::gate;
use super::guard::END_UNLOCKING;
use super::image::{as_text, qualified};
use super::judge::{Judge, Patience, lent_result, pause};
use super::switch;
use super::trouble::Setback;
use super::visibility::Trouble;
use crate::model::filter::{Filter, Parameter};
use crate::model::{Cell, FirstRead, Lsn, Principal, Row, Snapshot, Table};
use crate::postgres::quote::{fill, identifier};

/// Bytes of values that one read may have.
pub const MOST_BYTES: usize = 64 << 20;

/// How long a snapshot is waited for that is late enough.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plans are made for the values at hand: a read is rare, and its limit matters. What functions planned for somebody else
/// is forgotten. Nothing is remembered of one row for another: settings are switched for each.
const BEGIN: &str = "begin isolation level repeatable read read only; discard plans; set local plan_cache_mode = force_custom_plan; set local enable_memoize = off";

/// What is read of one table.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The table.
    pub table: Arc<Table>,
    /// Places of its columns that are read; the others stay out of the rows.
    pub columns: Box<[usize]>,
    /// Conditions, all of which must hold.
    pub filter: Filter,
    /// Which rows.
    pub first: FirstRead,
}

/// What was read.
#[derive(Debug)]
pub struct FirstRows {
    /// What was seen.
    pub snapshot: Snapshot,
    /// Nothing that was seen committed here or later.
    pub until: Lsn,
    /// For each reading its rows in order, with one cell per column of the table.
    pub rows: Vec<Vec<Row>>,
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// No snapshot was late enough in time: commits are not visible yet, as when a synchronous standby is missing.
    Early,
    /// The rows have too many bytes.
    TooLarge,
    /// Postgres did not answer.
    Trouble(Trouble),
}

/// What one transaction came to.
enum Attempt {
    Rows(FirstRows),
    Early,
    TooLarge,
    /// The connection acts by what is not so any more.
    Stale,
}

/// Reads, until a snapshot is late enough.
pub(super) async fn read(
    judge: &Judge<'_>,
    principal: &Principal,
    readings: &[Reading],
    is_early: &(dyn Fn(&Snapshot) -> bool + Send + Sync),
) -> Result<FirstRows, Unread> {
    let deadline = Instant::now() + PATIENCE;
    let mut patience = Patience::new();
    let longest = judge.limit * 2 * u32::try_from(readings.len() + 1).unwrap_or(u32::MAX);
    for count in 0.. {
        // A first read does not wait for ever: its member can be told to read by itself.
        let lent = timeout_at(deadline, judge.lend(judge.pool)).await;
        let lent = lent.unwrap_or(Err(Trouble::Unavailable)).map_err(Unread::Trouble)?;
        let asked_at = Instant::now();
        let answer = attempt(&lent.connection, principal, readings, is_early);
        let answer = timeout(longest, answer).await;
        match judge.settle(lent_result(answer), asked_at) {
            Ok(Attempt::Rows(rows)) => {
                lent.give_back();
                return Ok(rows);
            }
            // The rest of the rows is still on its way: the connection is dropped.
            Ok(Attempt::TooLarge) => return Err(Unread::TooLarge),
            Ok(Attempt::Stale) => lent.drop_all(),
            Ok(Attempt::Early) => {
                lent.give_back();
                if deadline < Instant::now() {
                    return Err(Unread::Early);
                }
                pause(gate::wait(count), judge.stage).await.map_err(Unread::Trouble)?;
            }
            Err(setback) => {
                if let Setback::Final(Trouble::TimedOut) | Setback::Passing(Trouble::TimedOut) =
                    setback
                {
                    judge.pool.mark_slow(judge.requester);
                }
                patience.bear(setback, lent, judge.stage).await.map_err(Unread::Trouble)?;
            }
        }
    }
    Err(Unread::Early)
}

/// One transaction, ended whatever came of it.
async fn attempt(
    connection: &Connection,
    principal: &Principal,
    readings: &[Reading],
    is_early: &(dyn Fn(&Snapshot) -> bool + Send + Sync),
) -> Result<Attempt, tokio_postgres::Error> {
    let attempt = read_all(connection, principal, readings, is_early).await;
    if !matches!(attempt, Ok(Attempt::TooLarge)) {
        let ended = connection.client().batch_execute(END_UNLOCKING).await;
        if attempt.is_ok() {
            ended?;
        }
    }
    attempt
}

async fn read_all(
    connection: &Connection,
    principal: &Principal,
    readings: &[Reading],
    is_early: &(dyn Fn(&Snapshot) -> bool + Send + Sync),
) -> Result<Attempt, tokio_postgres::Error> {
    let sql = fill(include_str!("../../sql/queries/first_snapshot.sql"), &[]);
    let oids: Vec<u32> = readings.iter().map(|reading| reading.table.oid).collect();
    let seen = connection.begin(BEGIN, principal, &sql, &[(&oids, Type::OID_ARRAY)]).await?;
    let Some(seen) = seen else { return Ok(Attempt::Early) };
    if !connection.is_current().await? {
        return Ok(Attempt::Stale);
    }
    let (snapshot, until): (&str, &str) = (seen.try_get("seen")?, seen.try_get("until")?);
    let is_partitioned: Vec<bool> = seen.try_get("is_partitioned")?;
    // Postgres' own words are read; others would never be late enough.
    let (Ok(snapshot), Ok(until)) = (snapshot.parse(), until.parse()) else {
        return Ok(Attempt::Early);
    };
    if is_early(&snapshot) {
        return Ok(Attempt::Early);
    }
    let (mut rows, mut bytes) = (Vec::with_capacity(readings.len()), 0);
    for (reading, is_partitioned) in readings.iter().zip(is_partitioned) {
        let Some(found) = read_one(connection, reading, is_partitioned, &mut bytes).await? else {
            return Ok(Attempt::TooLarge);
        };
        rows.push(found);
    }
    Ok(Attempt::Rows(FirstRows { snapshot, until, rows }))
}

/// `None`: too many bytes.
async fn read_one(
    connection: &Connection,
    reading: &Reading,
    is_partitioned: bool,
    bytes: &mut usize,
) -> Result<Option<Vec<Row>>, tokio_postgres::Error> {
    let (sql, operands) =
        statement(reading, is_partitioned, &switch::calls(connection.own_settings()));
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        operands.iter().map(Operand::as_sql).collect();
    let mut found = pin!(connection.client().query_typed_raw(&sql, parameters).await?);
    let mut rows = Vec::new();
    while let Some(row) = found.try_next().await? {
        let mut cells = vec![Cell::Unchanged; reading.table.columns.len()];
        let texts: Vec<Option<&str>> = row.try_get(0)?;
        for (value, place) in texts.into_iter().zip(&*reading.columns) {
            *bytes += value.map_or(0, str::len) + size_of::<Cell>();
            if let Some(cell) = cells.get_mut(*place) {
                let text = |text: &str| Cell::Text(Bytes::copy_from_slice(text.as_bytes()));
                *cell = value.map_or(Cell::Null, text);
            }
        }
        if MOST_BYTES < *bytes {
            return Ok(None);
        }
        rows.push(Row { cells: cells.into() });
    }
    Ok(Some(rows))
}

/// The value of a parameter.
#[derive(Debug, PartialEq, Eq)]
enum Operand<'a> {
    Text(&'a str),
    List(Vec<Option<&'a str>>),
}

impl Operand<'_> {
    fn as_sql(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::List(texts) => (texts, Type::TEXT_ARRAY),
        }
    }
}

fn statement<'a>(
    reading: &'a Reading,
    is_partitioned: bool,
    (pinned, own): &(String, String),
) -> (String, Vec<Operand<'a>>) {
    let column = |name: &str| format!("\"relay row\".{}", identifier(name));
    let columns = reading.columns.iter().filter_map(|at| reading.table.columns.get(*at));
    let columns: Vec<String> = columns.map(|found| column(&found.name)).collect();
    let values: Vec<String> = columns.iter().map(|column| as_text(column)).collect();
    let mut operands = Vec::new();
    let mut conditions = Vec::new();
    for condition in &*reading.filter {
        // Not through its text, so that an index can be used.
        let value = column(&condition.predicate.column);
        let operand = format!("${}", operands.len() + 1);
        conditions.push(condition.sql(&condition.spelling.type_name, &value, &operand));
        match condition.parameter() {
            Parameter::None => {}
            Parameter::Text(text) => operands.push(Operand::Text(text)),
            Parameter::List(texts) => operands.push(Operand::List(texts)),
        }
    }
    if conditions.is_empty() {
        conditions.push("true".to_owned());
    }
    let sql = fill(
        include_str!("../../sql/queries/first_rows.sql"),
        &[
            ("values", &values.join(", ")),
            ("columns", &columns.join(", ")),
            ("only", if is_partitioned { "" } else { "only" }),
            ("table", &qualified(&reading.table)),
            ("condition", &conditions.join(" and ")),
            ("order", &order(reading)),
            ("limit", &reading.first.limit.to_string()),
            ("key", columns.first().map_or("null", String::as_str)),
            ("pinned", pinned),
            ("own", own),
        ],
    );
    (sql, operands)
}

/// The order asked for, and among equals that of the primary key, so that the same rows always come first.
fn order(reading: &Reading) -> String {
    let mut terms = Vec::new();
    for order in &reading.first.order {
        let direction = if order.is_descending { "desc" } else { "asc" };
        let nulls = match order.nulls_first {
            None => "",
            Some(true) => " nulls first",
            Some(false) => " nulls last",
        };
        terms.push(format!("\"relay row\".{} {direction}{nulls}", identifier(&order.column)));
    }
    let direction = if reading.first.is_newest_first() { "desc" } else { "asc" };
    let is_named = |name: &str| reading.first.order.iter().any(|order| *order.column == *name);
    for column in reading.table.columns.iter().filter(|column| column.is_primary_key) {
        if !is_named(&column.name) {
            terms.push(format!("\"relay row\".{} {direction}", identifier(&column.name)));
        }
    }
    terms.join(", ")
}
