//! Connections on which values are tried as the role that wrote them, under the settings that role has in the database.
//!
//! Promises: nobody's values are read under settings that were changed before the join asked. At most [`KEPT`] connections
//! are open; the one that was not used for longest makes room.

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::link::{Link, PATIENCE, in_time, unreadable};
use crate::error::ErrorKind;
use crate::postgres::{NotActing, Sql, Target, connect_as};
use crate::shutdown::Stage;

/// Roles whose connections stay open.
const KEPT: usize = 4;

/// What the connections have beyond the settings of their roles.
const LIMITS: &[(&str, &str)] = &[
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "2000"),
    ("lock_timeout", "250"),
    ("jit", "off"),
];

/// Connections by role.
#[derive(Debug)]
pub(super) struct Acting {
    target: Target,
    stage: Stage,
    /// The longest unused first.
    open: Mutex<Vec<Actor>>,
}

/// A connection that acts as a role.
#[derive(Debug)]
struct Actor {
    role: Box<str>,
    /// The settings of roles when it was opened.
    settings: String,
    sql: Sql,
}

impl Acting {
    /// Nothing is opened yet.
    pub(super) fn new(target: Target, stage: Stage) -> Self {
        Self { target, stage, open: Mutex::default() }
    }

    /// Asks as `role`, on a fresh connection once more when the connection broke. What roles' settings are is asked
    /// through `link`.
    ///
    /// # Errors
    /// It cannot be acted as the role, or Postgres refused the question.
    pub(super) async fn ask<T>(
        &self,
        link: &Link,
        role: &str,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, NotActing> {
        let mut open = in_time(self.open.lock()).await.map_err(NotActing::Unreachable)?;
        let settings = link.ask(settings).await.map_err(NotActing::Unreachable)?;
        // Taken out while in use, so that a caller that goes away leaves no half-read connection behind.
        let mut held = open.iter().position(|actor| *actor.role == *role).map(|at| open.remove(at));
        held = held.filter(|actor| actor.settings == settings && !actor.sql.client.is_closed());
        loop {
            let was_open = held.is_some();
            let actor = match held.take() {
                Some(actor) => actor,
                None => self.open(role, settings.clone()).await?,
            };
            let failed = match tokio::time::timeout(PATIENCE, question(&actor.sql.client)).await {
                Ok(Ok(answer)) => {
                    if KEPT <= open.len() {
                        open.remove(0);
                    }
                    open.push(actor);
                    return Ok(answer);
                }
                Ok(Err(error)) if error.as_db_error().is_none() || actor.sql.client.is_closed() => {
                    if was_open {
                        continue;
                    }
                    unreadable(ErrorKind::SourceUnreachable).because(error)
                }
                Ok(Err(error)) => unreadable(ErrorKind::SourceRejected).because(error),
                Err(_) => unreadable(ErrorKind::SourceUnreachable)
                    .because(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            return Err(NotActing::Unreachable(failed));
        }
    }

    async fn open(&self, role: &str, settings: String) -> Result<Actor, NotActing> {
        let sql = connect_as(&self.target, "relay-bind", role, LIMITS, &self.stage).await?;
        Ok(Actor { role: role.into(), settings, sql })
    }
}

/// A text that changes with the settings of any role or database.
fn settings(client: &Client) -> BoxFuture<'_, Result<String, tokio_postgres::Error>> {
    Box::pin(async move {
        let sql = include_str!("../../sql/queries/bind_settings.sql");
        client.query_typed(sql, &[]).await?.first().map_or(Ok(String::new()), |row| row.try_get(0))
    })
}
