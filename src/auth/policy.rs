//! Who may read from and send to a private topic: the policies on `realtime.messages`, tried on the table itself.
//!
//! Promises: a permission is what SELECT and INSERT as that role do, because they are done, with the claims and the topic
//! policies expect, and rolled back; so nothing stays and nothing is streamed. What could not be tried is a [`Denial`],
//! never a permission.
//!
//! Not here: when a channel asks, and what it remembers of the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join3;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Error};

use super::denial::Denial;
use crate::model::Principal;
use crate::postgres::{Sql, Target, connect};
use crate::shutdown::Stage;

/// Who asks about what.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The topic without its prefix.
    pub topic: &'a str,
    /// Headers of the request, as one JSON object.
    pub headers: &'a str,
}

/// What policies distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Messages.
    Broadcast,
    /// Who is here.
    Presence,
}

impl Extension {
    /// As the column `extension` has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Presence => "presence",
        }
    }
}

/// A message of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: Box<str>,
    /// Its event; one without is never delivered.
    pub event: Box<str>,
    /// Its JSON text, or its bytes.
    pub payload: Result<Box<str>, Vec<u8>>,
}

/// Asks Postgres. Shared.
#[derive(Debug)]
pub struct Policies {
    target: Target,
    limit: Duration,
    stage: Stage,
    places: Semaphore,
    idle: Mutex<Vec<Sql>>,
}

impl Policies {
    /// Connections, at most as many as for one role's row checks, are opened when first needed.
    pub fn new(target: Target, settings: &crate::config::Postgres, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            target,
            limit: settings.check_timeout,
            stage,
            places: Semaphore::new(settings.pool.max(1)),
            idle: Mutex::default(),
        })
    }

    /// Which of `extensions` may be read, in their order.
    ///
    /// # Errors
    /// It could not be tried, or a policy raised an error.
    pub async fn may_read(
        &self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Denial> {
        let _place = self.place().await?;
        loop {
            let lent = self.lend().await?;
            let answer = self.in_time(try_reading(&lent.sql.client, asking, extensions)).await;
            if let Some(answer) = self.settle(lent, answer) {
                return answer;
            }
        }
    }

    /// Which of `extensions` may be sent, in their order.
    ///
    /// # Errors
    /// It could not be tried, or a policy raised an error.
    pub async fn may_write(
        &self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Denial> {
        let _place = self.place().await?;
        loop {
            let lent = self.lend().await?;
            let answer = self.in_time(try_writing(&lent.sql.client, asking, extensions)).await;
            if let Some(answer) = self.settle(lent, answer) {
                return answer;
            }
        }
    }

    /// The newest `at_most` messages of a private topic since a moment in Unix milliseconds, oldest first. Whether they
    /// may be read is asked before.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn replay(
        &self,
        topic: &str,
        since: i64,
        at_most: usize,
    ) -> Result<Vec<Kept>, Denial> {
        let at_most = i32::try_from(at_most).unwrap_or(i32::MAX);
        // Beyond these Postgres has no timestamps; nothing is older or newer either.
        let since = since.clamp(-210_000_000_000_000, 9_000_000_000_000_000);
        let _place = self.place().await?;
        loop {
            let lent = self.lend().await?;
            let answer = self.in_time(read_past(&lent.sql.client, topic, since, at_most)).await;
            if let Some(answer) = self.settle(lent, answer) {
                return answer;
            }
        }
    }

    /// Makes the partitions that are needed soon and drops those that are past, when the database has the function.
    ///
    /// # Errors
    /// Postgres could not be asked, or refused.
    pub async fn keep_partitions(&self) -> Result<(), Denial> {
        let _place = self.place().await?;
        loop {
            let lent = self.lend().await?;
            let keep = include_str!("../../sql/queries/policy_partitions.sql");
            let answer = self.in_time(lent.sql.client.batch_execute(keep)).await;
            if let Some(answer) = self.settle(lent, answer) {
                return answer;
            }
        }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, Denial> {
        let place = tokio::time::timeout(self.limit, self.places.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(Denial::Busy)
    }

    async fn lend(&self) -> Result<Lent, Denial> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(sql) => Ok(Lent { sql, is_kept: true }),
            None => Ok(Lent { sql: self.open().await?, is_kept: false }),
        }
    }

    /// `None`: our own clock ran out, because not even Postgres said that time was up.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Option<Error>> {
        tokio::time::timeout(self.limit * 4, answer).await.map_err(|_| None)?.map_err(Some)
    }

    /// Keeps a connection after a good end only: dropping it rolls back. `None`: it was lost while nobody used it, and
    /// another may answer.
    fn settle<T>(&self, lent: Lent, answer: Result<T, Option<Error>>) -> Option<Result<T, Denial>> {
        match answer {
            Ok(answer) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lent.sql);
                Some(Ok(answer))
            }
            Err(Some(error)) if lent.is_kept && is_lost(&error) => None,
            Err(Some(error)) => Some(Err(Denial::of(&error))),
            Err(None) => Some(Err(Denial::Cancelled)),
        }
    }

    async fn open(&self) -> Result<Sql, Denial> {
        let limit = self.limit.as_millis().max(1).to_string();
        let settings = [
            ("statement_timeout", &*limit),
            ("lock_timeout", &*limit),
            ("idle_in_transaction_session_timeout", "60000"),
            ("row_security", "on"),
            ("jit", "off"),
        ];
        connect(&self.target, "relay-policy", &settings, &self.stage).await.map_err(|error| {
            tracing::warn!(%error, "policies cannot be asked");
            Denial::of_connecting(&error)
        })
    }
}

/// A connection that is nobody else's meanwhile.
#[derive(Debug)]
struct Lent {
    sql: Sql,
    is_kept: bool,
}

async fn try_reading(
    client: &Client,
    asking: Asking<'_>,
    extensions: &[Extension],
) -> Result<Vec<bool>, Error> {
    let words: Vec<&str> = extensions.iter().map(|extension| extension.word()).collect();
    client.batch_execute("begin").await?;
    let probe = include_str!("../../sql/queries/policy_probe.sql");
    let rows = client.query(probe, &[&asking.topic, &words]).await?;
    let probes = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let probes = probes.collect::<Result<Vec<(String, String)>, Error>>()?;
    let ids: Vec<&str> = probes.iter().map(|(id, _)| &**id).collect();
    act_as(client, asking).await?;
    let read = include_str!("../../sql/queries/policy_read.sql");
    let rows = client.query(read, &[&ids]).await?;
    let seen = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    client.batch_execute("rollback").await?;
    let is_seen =
        |word: &&str| probes.iter().any(|(id, extension)| extension == word && seen.contains(id));
    Ok(words.iter().map(is_seen).collect())
}

async fn try_writing(
    client: &Client,
    asking: Asking<'_>,
    extensions: &[Extension],
) -> Result<Vec<bool>, Error> {
    client.batch_execute("begin").await?;
    act_as(client, asking).await?;
    let write = client.prepare(include_str!("../../sql/queries/policy_write.sql")).await?;
    let mut verdicts = Vec::with_capacity(extensions.len());
    for extension in extensions {
        let word = extension.word();
        // Polled in this order, so sent in this order.
        let (saved, written, undone) = join3(
            client.batch_execute("savepoint probe"),
            client.execute(&write, &[&asking.topic, &word]),
            client.batch_execute("rollback to savepoint probe"),
        )
        .await;
        saved?;
        verdicts.push(match written {
            Ok(_) => true,
            Err(error) if is_refused(&error) => false,
            Err(error) => return Err(error),
        });
        undone?;
    }
    client.batch_execute("rollback").await?;
    Ok(verdicts)
}

async fn read_past(
    client: &Client,
    topic: &str,
    since: i64,
    at_most: i32,
) -> Result<Vec<Kept>, Error> {
    let replay = include_str!("../../sql/queries/policy_replay.sql");
    let rows = client.query(replay, &[&topic, &since, &at_most]).await?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let event: Option<String> = row.try_get("event")?;
        let text: Option<String> = row.try_get("payload")?;
        let bytes: Option<Vec<u8>> = row.try_get("binary_payload")?;
        let payload = text.map(|text| Ok(text.into())).or(bytes.map(Err));
        if let (Some(event), Some(payload)) = (event, payload) {
            let id: String = row.try_get("id")?;
            kept.push(Kept { id: id.into(), event: event.into(), payload });
        }
    }
    Ok(kept)
}

/// Whether the connection broke, as opposed to what was asked.
fn is_lost(error: &Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("57P"))
}

/// Becomes the principal for the rest of the transaction.
async fn act_as(client: &Client, asking: Asking<'_>) -> Result<(), Error> {
    let Asking { principal, topic, headers } = asking;
    let sub = principal.subject();
    let act_as = include_str!("../../sql/queries/policy_act_as.sql");
    client
        .query_one(act_as, &[&principal.role(), &principal.claims(), &sub, &topic, &headers])
        .await?;
    Ok(())
}

/// Whether the policies, or the privileges, said no.
fn is_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "42501")
}
