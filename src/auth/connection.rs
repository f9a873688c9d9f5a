//! One connection that acts as one API role, and asks one question at a time.
//!
//! Each question is one transaction sent without waiting in between: begin, claims, the check, commit. When the claims
//! cannot be set, the check fails with them. A connection is exclusive to whoever asks; after anything unexpected it
//! is dropped, not reused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join3, join5, try_join};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use super::check::{Check, Parameter};
use super::guard::{BEGIN, BEGIN_REPLANNING, Guard, mark};
use super::quote::{fill, identifier};
use super::visibility::Trouble;
use crate::model::Principal;
use crate::postgres::{NotActing, Sql, Target, connect_as};
use crate::shutdown::Stage;

/// Statements kept prepared on one connection; the longest unused goes first.
const STATEMENTS: usize = 256;
/// Types whose names are kept on one connection; all are forgotten together.
const TYPES: usize = 1024;
/// Tables whose guards are kept on one connection; all are forgotten together.
const GUARDS: usize = 256;

/// A connection that acts as a role.
#[derive(Debug)]
pub(super) struct Connection {
    sql: Sql,
    claims: Statement,
    mark: Statement,
    prepared: HashMap<String, Prepared>,
    guards: HashMap<u32, Arc<Guard>>,
    types: HashMap<u32, String>,
    uses: u64,
}

#[derive(Debug)]
struct Prepared {
    statement: Statement,
    used: u64,
}

/// What Postgres said to a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether the transactions could be seen. If not, the verdicts mean nothing.
    pub(super) is_visible: bool,
    /// One verdict per row or value.
    pub(super) verdicts: Vec<bool>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The relay may not act as the role.
    Refused(Trouble),
    /// Postgres cannot be reached, or not now.
    Unreachable(String),
}

impl Connection {
    /// Connects and becomes `role`.
    pub(super) async fn open(
        target: &Target,
        role: &str,
        check_timeout: Duration,
        stage: &Stage,
    ) -> Result<Self, Unopened> {
        let limit = check_timeout.as_millis().max(1).to_string();
        // The search path stays as the database sets it: it belongs to the functions that policies call, and a statement
        // is parsed again under the one it runs with. What it makes of a policy's names, the guard looks at. Plans are generic, because a row image tells a planner nothing.
        let settings = [
            ("statement_timeout", &*limit),
            ("lock_timeout", &*limit),
            ("idle_in_transaction_session_timeout", "60000"),
            ("default_transaction_read_only", "on"),
            ("row_security", "on"),
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ];
        let sql = connect_as(target, "relay-check", role, &settings, stage)
            .await
            .map_err(|error| unopened(role, error))?;
        let text = fill(include_str!("../../sql/queries/visibility_claims.sql"), &[]);
        let mark = mark();
        let (claims, mark) = try_join(sql.client.prepare(&text), sql.client.prepare(&mark))
            .await
            .map_err(unreachable)?;
        let (prepared, guards, types) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { sql, claims, mark, prepared, guards, types, uses: 0 })
    }

    /// Whether the server hung up.
    pub(super) fn is_closed(&self) -> bool {
        self.sql.client.is_closed()
    }

    /// Asks on behalf of `principal`, gated by `xids`. `None`: the check's text does not mean what the policies do, or
    /// what they are made of keeps changing.
    pub(super) async fn ask(
        &mut self,
        principal: &Principal,
        check: &Check,
        xids: &[i64],
    ) -> Result<Option<Answer>, Error> {
        let statement = self.prepare(check).await?;
        let Some(table) = check.table else {
            let (answer, _) =
                self.ask_once(principal, check, xids, &statement, BEGIN, None).await?;
            return Ok(Some(answer));
        };
        for is_again in [false, true, true] {
            let guard = self.guard(table).await?;
            if guard.is_shadowed && check.is_repeated {
                return Ok(None);
            }
            // A plan made meanwhile may hold what it computed for somebody else.
            let begin = if is_again { BEGIN_REPLANNING } else { guard.begin };
            let asked = self.ask_once(principal, check, xids, &statement, begin, Some(&guard));
            let (answer, is_guarded) = asked.await?;
            if is_guarded {
                return Ok(Some(answer));
            }
            self.guards.remove(&table);
        }
        Ok(None)
    }

    /// The answer, and whether nothing changed that the guard was read from.
    async fn ask_once(
        &self,
        principal: &Principal,
        check: &Check,
        xids: &[i64],
        statement: &Statement,
        begin: &str,
        guard: Option<&Guard>,
    ) -> Result<(Answer, bool), Error> {
        let sub = principal.subject();
        let (claims, role) = (principal.claims(), principal.role());
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&xids];
        parameters.extend(check.parameters.iter().map(Parameter::as_sql));
        let client = self.client();
        let claim: [&(dyn ToSql + Sync); 3] = [&claims, &sub, &role];
        // Polled in this order, so sent in this order: the mark is at least as new as the plan.
        let (begun, claimed, answered, marked, committed) = join5(
            client.batch_execute(begin),
            client.query(&self.claims, &claim),
            client.query_one(statement, &parameters),
            async {
                let Some(guard) = guard else { return Ok(true) };
                let reached: [&(dyn ToSql + Sync); 2] = [&guard.functions, &guard.relations];
                let row = client.query_one(&self.mark, &reached).await?;
                Ok(row.try_get::<_, &str>(0)? == guard.mark)
            },
            client.batch_execute("commit"),
        )
        .await;
        begun?;
        claimed?;
        let row = answered?;
        let is_guarded = marked?;
        committed?;
        Ok((Answer { is_visible: row.try_get(0)?, verdicts: row.try_get(1)? }, is_guarded))
    }

    /// What is known of a table's plans.
    async fn guard(&mut self, table: u32) -> Result<Arc<Guard>, Error> {
        if let Some(guard) = self.guards.get(&table) {
            return Ok(Arc::clone(guard));
        }
        let guard = Guard::read(&self.sql.client, table).await?;
        if GUARDS <= self.guards.len() {
            self.guards.clear();
        }
        self.guards.insert(table, Arc::clone(&guard));
        Ok(guard)
    }

    /// Begins a transaction on behalf of `principal` and asks its first question.
    pub(super) async fn begin(
        &self,
        begin: &str,
        principal: &Principal,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<Row>, Error> {
        let sub = principal.subject();
        let (claims, role) = (principal.claims(), principal.role());
        let claim: [&(dyn ToSql + Sync); 3] = [&claims, &sub, &role];
        let client = self.client();
        // Polled in this order, so sent in this order.
        let (begun, claimed, answered) = join3(
            client.batch_execute(begin),
            client.query(&self.claims, &claim),
            client.query_typed(sql, parameters),
        )
        .await;
        begun?;
        claimed?;
        Ok(answered?.pop())
    }

    /// The connection itself, for what is more than one question.
    pub(super) const fn client(&self) -> &Client {
        &self.sql.client
    }

    /// Whether all of `xids` are visible now.
    pub(super) async fn sees(&mut self, xids: &[i64]) -> Result<bool, Error> {
        let text = fill(include_str!("../../sql/queries/visibility_gate.sql"), &[]);
        let statement = self.prepare_text(&text, &[Type::INT8_ARRAY]).await?;
        self.sql.client.query_one(&statement, &[&xids]).await?.try_get(0)
    }

    /// Rows of texts for a JSON parameter.
    pub(super) async fn compute(
        &mut self,
        sql: &str,
        json: String,
    ) -> Result<Vec<Vec<Option<String>>>, Error> {
        let statement = self.prepare_text(sql, &[Type::JSON]).await?;
        let rows = self.sql.client.query(&statement, &[&Parameter::Json(json)]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// How SQL names this type.
    pub(super) async fn type_name(&mut self, oid: u32) -> Result<String, Error> {
        if let Some(name) = self.types.get(&oid) {
            return Ok(name.clone());
        }
        let text = fill(include_str!("../../sql/queries/visibility_type.sql"), &[]);
        let statement = self.prepare_text(&text, &[Type::OID]).await?;
        let name: String = self.sql.client.query_one(&statement, &[&oid]).await?.try_get(0)?;
        if TYPES <= self.types.len() {
            self.types.clear();
        }
        self.types.insert(oid, name.clone());
        Ok(name)
    }

    async fn prepare(&mut self, check: &Check) -> Result<Statement, Error> {
        let mut types = vec![Type::INT8_ARRAY];
        types.extend(check.parameters.iter().map(|parameter| match parameter {
            Parameter::Json(_) => Type::JSON,
            Parameter::Text(_) => Type::TEXT,
            Parameter::Texts(_) => Type::TEXT_ARRAY,
        }));
        self.prepare_text(&check.sql, &types).await
    }

    async fn prepare_text(&mut self, sql: &str, types: &[Type]) -> Result<Statement, Error> {
        self.uses += 1;
        if let Some(prepared) = self.prepared.get_mut(sql) {
            prepared.used = self.uses;
            return Ok(prepared.statement.clone());
        }
        let statement = self.sql.client.prepare_typed(sql, types).await?;
        if STATEMENTS <= self.prepared.len() {
            let longest = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used);
            if let Some(sql) = longest.map(|(sql, _)| sql.clone()) {
                self.prepared.remove(&sql);
            }
        }
        let prepared = Prepared { statement: statement.clone(), used: self.uses };
        self.prepared.insert(sql.to_owned(), prepared);
        Ok(statement)
    }
}

/// Why the role cannot be acted as, told as what withholds its rows.
fn unopened(role: &str, unopened: NotActing) -> Unopened {
    let failed =
        |code: &str, message| Unopened::Refused(Trouble::Failed { code: code.to_owned(), message });
    match unopened {
        NotActing::NotAMember { login } => {
            let (named, login) = (identifier(role), identifier(&login));
            let message =
                format!("the relay may not act as role \"{role}\"; run: grant {named} to {login}");
            failed("42501", message)
        }
        NotActing::NoSuchRole => failed("22023", format!("role \"{role}\" does not exist")),
        NotActing::Unreachable(error) => Unopened::Unreachable(error.to_string()),
    }
}

fn unreachable(error: Error) -> Unopened {
    Unopened::Unreachable(
        crate::error::Error::new(
            crate::error::ErrorKind::SourceUnreachable,
            "could not prepare a connection for row checks",
        )
        .because(error)
        .to_string(),
    )
}
