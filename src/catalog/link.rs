//! A connection the catalog is read through: opened when needed, opened again when it broke.
//!
//! Questions are asked one after the other. A question that takes too long costs the connection, never the caller's
//! patience, and nor does a long line: overflow is the error of whoever has waited its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::shutdown::Stage;

/// How long one round of questions may take, and how long it may wait for those before it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Settings of the connection: nothing but `pg_catalog` is found without its schema, so that every expression Postgres
/// prints has its names qualified.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("default_transaction_read_only", "on"),
    ("lock_timeout", "250"),
    ("jit", "off"),
];

/// A connection that comes back.
#[derive(Debug)]
pub(super) struct Link {
    target: Target,
    /// What it is called in `pg_stat_activity`.
    application: &'static str,
    statement_timeout_ms: &'static str,
    stage: Stage,
    open: Mutex<Option<Open>>,
}

/// Parameters of a query.
pub(super) type Parameters = Arc<[Box<dyn ToSql + Send + Sync>]>;

/// A connection, and what is prepared on it.
#[derive(Debug)]
struct Open {
    sql: Sql,
    prepared: Lock<HashMap<&'static str, Statement>>,
}

impl Open {
    async fn query(
        &self,
        text: &'static str,
        parameters: Parameters,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = &self.sql.client;
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = client.prepare(text).await?;
                let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
                prepared.insert(text, statement.clone());
                statement
            }
        };
        let parameters: Vec<&(dyn ToSql + Sync)> =
            parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect();
        client.query(&statement, &parameters).await
    }
}

impl Link {
    /// Nothing is opened yet.
    pub(super) fn new(
        target: Target,
        application: &'static str,
        statement_timeout_ms: &'static str,
        stage: Stage,
    ) -> Self {
        Self { target, application, statement_timeout_ms, stage, open: Mutex::new(None) }
    }

    /// Asks, on a fresh connection once more when the connection broke.
    ///
    /// # Errors
    /// Its turn did not come, Postgres could not be reached, or refused the question.
    pub(super) async fn ask<T>(
        &self,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        self.ask_open(|open| question(&open.sql.client)).await
    }

    /// Asks one query that stays prepared, whose rows `read` reads: one round trip, but for the first time on a connection.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(super) async fn query<T, C: FromIterator<T>>(
        &self,
        text: &'static str,
        parameters: Parameters,
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<C, Error> {
        let rows = self.ask_open(|open| open.query(text, Arc::clone(&parameters)).boxed()).await?;
        let read: Result<C, tokio_postgres::Error> = rows.iter().map(read).collect();
        read.map_err(|error| unreadable(ErrorKind::Bug).because(error))
    }

    async fn ask_open<T>(
        &self,
        question: impl for<'a> Fn(&'a Open) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let mut open = in_time(self.open.lock()).await?;
        let mut was_open = open.is_some();
        loop {
            // Taken out while in use, so that a caller that goes away leaves no half-read connection behind.
            let held = match open.take().filter(|held| !held.sql.client.is_closed()) {
                Some(held) => held,
                None => self.connect().await?,
            };
            match tokio::time::timeout(PATIENCE, question(&held)).await {
                Ok(Ok(answer)) => {
                    *open = Some(held);
                    return Ok(answer);
                }
                Ok(Err(error)) if error.as_db_error().is_none() || held.sql.client.is_closed() => {
                    if !was_open {
                        return Err(unreadable(ErrorKind::SourceUnreachable).because(error));
                    }
                    was_open = false;
                }
                Ok(Err(error)) => return Err(unreadable(ErrorKind::SourceRejected).because(error)),
                Err(_) => {
                    return Err(unreadable(ErrorKind::SourceUnreachable)
                        .because(format!("no answer within {} s", PATIENCE.as_secs())));
                }
            }
        }
    }

    async fn connect(&self) -> Result<Open, Error> {
        let timeout = [("statement_timeout", self.statement_timeout_ms)];
        let settings = [SETTINGS, &timeout].concat();
        let sql = connect(&self.target, self.application, &settings, &self.stage).await?;
        Ok(Open { sql, prepared: Lock::default() })
    }
}

/// Waits in a line for as long as anybody does.
///
/// # Errors
/// The turn did not come.
pub(super) async fn in_time<T>(turn: impl Future<Output = T>) -> Result<T, Error> {
    let turn = tokio::time::timeout(PATIENCE, turn).await;
    turn.map_err(|_| {
        let seconds = PATIENCE.as_secs();
        unreadable(ErrorKind::SourceUnreachable)
            .because(format!("too many questions: no turn within {seconds} s"))
    })
}

/// The catalog was not read.
pub(super) fn unreadable(kind: ErrorKind) -> Error {
    Error::new(kind, "could not read the catalog")
}
