//! One connection that tries policies, one question at a time.
//!
//! A question is one transaction, sent whole before any of it is answered: begin, what is tried, rollback. So it takes
//! one round trip, and the rollback is on its way whatever fails. Outside of such a transaction the connection is
//! read-only: should `begin` fail, what follows it changes nothing.
//!
//! Statements stay prepared, their plans do not, nor those of functions: a plan may hold what it computed for one
//! principal.

use std::collections::VecDeque;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use futures_util::future::{join_all, join3, join4, join5, try_join, try_join3};
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::policy::{Asking, Extension, Kept, MOST_BYTES, Past};
use crate::postgres::Sql;

/// What a connection is opened with, next to limits of time.
pub(super) const SETTINGS: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "60000"),
    ("default_transaction_read_only", "on"),
    ("plan_cache_mode", "force_custom_plan"),
    ("row_security", "on"),
    ("jit", "off"),
];

const BEGIN: &str = "begin isolation level read committed read write; discard plans";
const ROLLBACK: &str = "rollback";

/// Becomes the principal, under the settings of its role.
const ACT_AS: &str = concat!(
    "with setting as (\n",
    include_str!("../../sql/queries/acting_settings.sql"),
    ")\n",
    include_str!("../../sql/queries/policy_act_as.sql")
);

/// A connection that tries policies. Exclusive to whoever asks.
#[derive(Debug)]
pub(super) struct Link {
    sql: Sql,
    probe: Prepared,
    act_as: Prepared,
    read: Prepared,
    write: Prepared,
    gate: Prepared,
    replay: Prepared,
    clock: Prepared,
    /// Whether nothing of the last question is left.
    is_clean: bool,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke, or what it has prepared fits no more: another one may answer.
    Stale(Error),
    /// No transaction can be begun that writes.
    Shut,
    /// What was asked for failed.
    Said(Error),
}

impl Link {
    pub(super) fn new(sql: Sql) -> Self {
        let prepared = |text| Prepared { text, statement: OnceCell::new() };
        Self {
            sql,
            probe: prepared(include_str!("../../sql/queries/policy_probe.sql")),
            act_as: prepared(ACT_AS),
            read: prepared(include_str!("../../sql/queries/policy_read.sql")),
            write: prepared(include_str!("../../sql/queries/policy_write.sql")),
            gate: prepared(include_str!("../../sql/queries/visibility_gate.sql")),
            replay: prepared(include_str!("../../sql/queries/policy_replay.sql")),
            clock: prepared(include_str!("../../sql/queries/policy_clock.sql")),
            is_clean: true,
        }
    }

    /// Whether another question may be asked here.
    pub(super) const fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Puts a message per extension into the topic and looks which of them the principal sees.
    pub(super) async fn try_reading(
        &mut self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Fault> {
        let client = &self.sql.client;
        let (probe, act_as, read) =
            try_join3(self.probe.on(client), self.act_as.on(client), self.read.on(client))
                .await
                .map_err(Fault::of)?;
        let words: Vec<&str> = extensions.iter().map(|extension| extension.word()).collect();
        self.is_clean = false;
        // Polled in this order, so sent in this order.
        let (begun, probed, acted, seen, ended) = join5(
            client.batch_execute(BEGIN),
            client.query(probe, &[&asking.topic, &words]),
            become_principal(client, act_as, asking),
            client.query(read, &[&asking.topic]),
            client.batch_execute(ROLLBACK),
        )
        .await;
        self.is_clean = begun.is_ok() && ended.is_ok();
        begun.map_err(Fault::of_begin)?;
        let (probed, (), seen, ()) = (
            probed.map_err(Fault::of)?,
            acted.map_err(Fault::of)?,
            seen.map_err(Fault::of)?,
            ended.map_err(Fault::of)?,
        );
        let seen = texts(&seen)?;
        let probes = probed.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let probes = probes.collect::<Result<Vec<(&str, &str)>, Error>>().map_err(Fault::Said)?;
        let is_seen = |word: &&str| {
            probes.iter().any(|(id, extension)| extension == word && seen.contains(id))
        };
        Ok(words.iter().map(is_seen).collect())
    }

    /// Puts a message per extension into the topic as the principal, each as if it were the only one.
    pub(super) async fn try_writing(
        &mut self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Fault> {
        let client = &self.sql.client;
        let (act_as, write) =
            try_join(self.act_as.on(client), self.write.on(client)).await.map_err(Fault::of)?;
        self.is_clean = false;
        let tries = extensions.iter().map(|extension| async move {
            let word = extension.word();
            let (saved, written, undone) = join3(
                client.batch_execute("savepoint probe"),
                client.execute(write, &[&asking.topic, &word]),
                client.batch_execute("rollback to savepoint probe"),
            )
            .await;
            saved?;
            let is_written = match written {
                Ok(_) => true,
                Err(error) if is_refused(&error) => false,
                Err(error) => return Err(error),
            };
            undone.map(|()| is_written)
        });
        // Polled in this order, so sent in this order.
        let (begun, acted, verdicts, ended) = join4(
            client.batch_execute(BEGIN),
            become_principal(client, act_as, asking),
            join_all(tries),
            client.batch_execute(ROLLBACK),
        )
        .await;
        self.is_clean = begun.is_ok() && ended.is_ok();
        begun.map_err(Fault::of_begin)?;
        acted.map_err(Fault::of)?;
        let verdicts = verdicts.into_iter().collect::<Result<_, Error>>().map_err(Fault::of)?;
        ended.map_err(Fault::of)?;
        Ok(verdicts)
    }

    /// Messages of the past, oldest first; none when not all of these transactions can be seen yet.
    pub(super) async fn read_past(
        &mut self,
        unseen: &[i64],
        topic: &str,
        since: i64,
        at_most: i32,
    ) -> Result<Option<Past>, Fault> {
        let client = &self.sql.client;
        let (gate, clock, replay) =
            try_join3(self.gate.on(client), self.clock.on(client), self.replay.on(client))
                .await
                .map_err(Fault::of)?;
        // Polled in this order, so sent in this order: what the gate can see, the last can, and it is later.
        let (gate, clock, messages) = try_join3(
            client.query_one(gate, &[&unseen]),
            client.query_one(clock, &[]),
            newest(client, replay, topic, since, at_most),
        )
        .await
        .map_err(Fault::of)?;
        if !gate.try_get::<_, bool>(0).map_err(Fault::Said)? {
            return Ok(None);
        }
        let asked_at = clock.try_get("asked_at").map_err(Fault::Said)?;
        Ok(Some(Past { messages: messages.into(), asked_at }))
    }

    /// Asks for nothing.
    pub(super) async fn greet(&mut self) -> Result<(), Fault> {
        self.sql.client.batch_execute("").await.map_err(Fault::of)
    }

    /// Makes the partitions that are needed soon and drops those that are past.
    pub(super) async fn keep_partitions(&mut self) -> Result<(), Fault> {
        let keep = include_str!("../../sql/queries/policy_partitions.sql");
        self.is_clean = false;
        self.sql.client.batch_execute(keep).await.map_err(Fault::of)?;
        self.is_clean = true;
        Ok(())
    }
}

impl Fault {
    fn of(error: Error) -> Self {
        // The connection, as opposed to what was asked; a result that changed its shape; a statement that is gone.
        let is_stale = error.code().is_none_or(|code| {
            let code = code.code();
            code.starts_with("57P") || ["0A000", "26000"].contains(&code)
        });
        if is_stale { Self::Stale(error) } else { Self::Said(error) }
    }

    fn of_begin(error: Error) -> Self {
        match Self::of(error) {
            Self::Stale(error) if error.code().is_some_and(|code| code.code() == "0A000") => {
                Self::Shut
            }
            fault => fault,
        }
    }
}

/// A statement that is prepared when it is first needed.
#[derive(Debug)]
struct Prepared {
    text: &'static str,
    statement: OnceCell<Statement>,
}

impl Prepared {
    async fn on(&self, client: &Client) -> Result<&Statement, Error> {
        self.statement.get_or_try_init(|| client.prepare(self.text)).await
    }
}

/// Becomes the principal for the rest of the transaction.
async fn become_principal(
    client: &Client,
    act_as: &Statement,
    asking: Asking<'_>,
) -> Result<(), Error> {
    let Asking { principal, topic, headers, caller: _ } = asking;
    let sub = principal.subject();
    client
        .query_one(act_as, &[&principal.role(), &principal.claims(), &sub, &topic, &headers])
        .await?;
    Ok(())
}

/// The first column.
fn texts(rows: &[Row]) -> Result<Vec<&str>, Fault> {
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, Error>>().map_err(Fault::Said)
}

/// Messages of the past as they come, oldest first; the oldest go when they have too many bytes.
async fn newest(
    client: &Client,
    replay: &Statement,
    topic: &str,
    since: i64,
    at_most: i32,
) -> Result<VecDeque<Kept>, Error> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&topic, &since, &at_most];
    let mut rows = pin!(client.query_raw(replay, parameters).await?);
    let (mut messages, mut bytes) = (VecDeque::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let Some(kept) = message(&row)? else { continue };
        bytes += kept.size();
        messages.push_back(kept);
        while MOST_BYTES < bytes {
            let Some(oldest) = messages.pop_front() else { break };
            bytes -= oldest.size();
        }
    }
    Ok(messages)
}

/// A message; none when it has no event or nothing to say.
fn message(row: &Row) -> Result<Option<Kept>, Error> {
    let event: Option<String> = row.try_get("event")?;
    let text: Option<String> = row.try_get("payload")?;
    let bytes: Option<Vec<u8>> = row.try_get("binary_payload")?;
    let payload = text.map(|text| Ok(text.into())).or(bytes.map(Err));
    let (Some(event), Some(payload)) = (event, payload) else { return Ok(None) };
    let id: String = row.try_get("id")?;
    Ok(Some(Kept { id: id.into(), event: event.into(), payload }))
}

/// Whether the policies, or the privileges, said no.
fn is_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "42501")
}
