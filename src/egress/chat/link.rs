//! One connection that acts as one API role, and does one request at a time.
//!
//! A request is one transaction sent whole before any of it is answered: begin, claims, its statements, commit. So it
//! takes one round trip, and its answer is believed only when the commit was. Outside of such a transaction the
//! connection is read-only: should `begin` fail, what follows it changes nothing.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::BytesMut;
use futures_util::future::{join_all, join4};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Row, Statement};

use super::problem::Problem;
use crate::log_rate::admit;
use crate::model::Principal;
use crate::postgres::Sql;
use crate::postgres::quote::{fill, identifier};

/// What a connection is opened with, next to limits of time. Policies are planned for each caller: a plan may hold what
/// it computed for one.
pub(super) const SETTINGS: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "60000"),
    ("default_transaction_read_only", "on"),
    ("plan_cache_mode", "force_custom_plan"),
    ("row_security", "on"),
    ("jit", "off"),
];

const BEGIN: &str = "begin isolation level read committed read write";

/// One statement and its values.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    text: Cow<'a, str>,
    values: Vec<Value<'a>>,
}

/// A value as its text, which Postgres reads as whatever type it is compared with or written to.
#[derive(Clone, Debug)]
struct Value<'a>(Option<Cow<'a, str>>);

/// What a statement did: the rows it changed or found, and the first one found.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) count: u64,
    pub(super) row: Option<Row>,
}

/// A connection that acts as a role. Exclusive to one request.
#[derive(Debug)]
pub(super) struct Link {
    sql: Sql,
    claims: Statement,
    prepared: HashMap<String, Statement>,
}

impl<'a> Step<'a> {
    pub(super) fn new(text: &'a str, values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let values = values.into_iter().map(|value| Value(value.map(Cow::Borrowed)));
        Self { text: Cow::Borrowed(text), values: values.collect() }
    }

    /// The same, for somebody who outlives who asked.
    pub(super) fn kept(&self) -> Step<'static> {
        let keep = |text: &Cow<'a, str>| Cow::Owned(text.clone().into_owned());
        let values = self.values.iter().map(|value| Value(value.0.as_ref().map(keep)));
        Step { text: keep(&self.text), values: values.collect() }
    }
}

impl Done {
    /// A column of the row that was found.
    pub(super) fn text(&self, column: usize) -> Option<&str> {
        self.row.as_ref()?.try_get(column).ok()?
    }

    /// A verdict of the row that was found.
    pub(super) fn is(&self, column: usize) -> bool {
        self.row.as_ref().and_then(|row| row.try_get(column).ok()).unwrap_or_default()
    }
}

impl Link {
    /// Becomes `role` for good.
    pub(super) async fn new(sql: Sql, role: &str) -> Result<Self, Problem> {
        let became = sql.client.query_one("select set_config('role', $1, false)", &[&role]).await;
        match became {
            Ok(_) => {}
            Err(error)
                if error.code().is_some_and(|code| ["42501", "22023"].contains(&code.code())) =>
            {
                if let Some(left_out) = admit(&["chat role", role]) {
                    tracing::warn!(
                        role,
                        left_out,
                        "the chat API may not act as a role: create it, and grant it to the relay's own: grant {} to …",
                        identifier(role)
                    );
                }
                let detail = format!("The server may not act as role \"{role}\".");
                return Err(Problem::broken(detail));
            }
            Err(error) => return Err(Problem::of(&error)),
        }
        let text = fill(include_str!("../../../sql/queries/visibility_claims.sql"), &[]);
        let claims = sql.client.prepare(&text).await.map_err(|error| Problem::of(&error))?;
        Ok(Self { sql, claims, prepared: HashMap::new() })
    }

    /// Whether the server hung up.
    pub(super) fn is_closed(&self) -> bool {
        self.sql.client.is_closed()
    }

    /// Does all of it as the principal, or none.
    pub(super) async fn run(
        &mut self,
        principal: &Principal,
        steps: &[Step<'_>],
    ) -> Result<Vec<Done>, Error> {
        for step in steps {
            if !self.prepared.contains_key(&*step.text) {
                let statement = self.sql.client.prepare(&step.text).await?;
                self.prepared.insert(step.text.clone().into_owned(), statement);
            }
        }
        let client = &self.sql.client;
        let (claims, sub, role) = (principal.claims(), principal.subject(), principal.role());
        let claim: [&(dyn ToSql + Sync); 3] = [&claims, &sub, &role];
        let doing = steps.iter().filter_map(|step| {
            let statement = self.prepared.get(&*step.text)?;
            Some(perform(client, statement, &step.values))
        });
        // Polled in this order, so sent in this order.
        let (begun, claimed, done, committed) = join4(
            client.batch_execute(BEGIN),
            client.query(&self.claims, &claim),
            join_all(doing),
            client.batch_execute("commit"),
        )
        .await;
        begun?;
        claimed?;
        let done = done.into_iter().collect::<Result<Vec<Done>, Error>>()?;
        committed?;
        Ok(done)
    }
}

async fn perform(
    client: &Client,
    statement: &Statement,
    values: &[Value<'_>],
) -> Result<Done, Error> {
    let values: Vec<&(dyn ToSql + Sync)> =
        values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
    if statement.columns().is_empty() {
        let count = client.execute(statement, &values).await?;
        return Ok(Done { count, row: None });
    }
    let mut rows = client.query(statement, &values).await?;
    let count = rows.len() as u64;
    rows.truncate(1);
    Ok(Done { count, row: rows.pop() })
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
