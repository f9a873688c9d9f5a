//! One connection that acts as one API role, and asks one question at a time.
//!
//! There are two kinds. On a judging one policies and conditions are evaluated, under the settings of the role. On a
//! rendering one values become text, under the pinned settings.
//!
//! Each question is one transaction sent without waiting in between: begin, claims, the check, fingerprints, rollback. When the
//! claims cannot be set, the check fails with them. The rollback takes with it whatever a policy has set. A connection is
//! exclusive to whoever asks; after anything unexpected it is dropped, not reused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join3, join4};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use super::basis::{ActingRole, BasisState, RestsOn};
use super::check::{Check, Parameter};
use super::guard::{BEGIN, BEGIN_REPLANNING, END, Guard};
use super::pipeline::before_the_end;
use super::visibility::Trouble;
use crate::model::Principal;
use crate::model::table::Names;
use crate::postgres::quote::{fill, identifier};
use crate::postgres::{NotActing, PINNED, Sql, Target, connect_as, connect_pinned_as, take_over};
use crate::shutdown::Stage;

/// Statements kept prepared on one connection; the longest unused goes first.
const STATEMENTS: usize = 256;
/// Types whose names are kept on one connection; all are forgotten together.
const TYPES: usize = 1024;
/// Tables whose guards are kept on one connection; all are forgotten together.
const GUARDS: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To evaluate policies and conditions, under the role's own settings.
    Judging,
    /// To make texts of values, under the pinned settings.
    Rendering,
}

/// A connection that acts as a role.
#[derive(Debug)]
pub(super) struct Connection {
    sql: Sql,
    claims: Statement,
    role: ActingRole,
    /// What the pinned settings are here, in their order.
    own: Vec<String>,
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

/// What became of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Postgres answered.
    Answered(Answer),
    /// The check's text does not mean what the policies do, or what they are made of keeps changing.
    CannotTell,
    /// The rights it was made from are not those in force.
    RightsChanged,
    /// The role's settings are not those the connection was opened under.
    SettingsChanged,
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
        purpose: Purpose,
        check_timeout: Duration,
        stage: &Stage,
    ) -> Result<Self, Unopened> {
        let limit = check_timeout.as_millis().max(1).to_string();
        // The search path stays as the database sets it: it belongs to the functions that policies call, and a statement
        // is parsed again under the one it runs with. What it makes of a policy's names, the guard looks at. Plans are
        // generic, because a row image tells a planner nothing.
        let settings = [
            ("statement_timeout", &*limit),
            ("lock_timeout", &*limit),
            ("idle_in_transaction_session_timeout", "60000"),
            ("default_transaction_read_only", "on"),
            ("row_security", "on"),
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ];
        let opened = match purpose {
            Purpose::Judging => connect_as(target, "relay-check", role, &settings, stage).await,
            Purpose::Rendering => {
                connect_pinned_as(target, "relay-render", role, &settings, stage).await
            }
        };
        let sql = opened.map_err(|error| unopened(role, error))?;
        let opened = Self::prepare_basics(sql).await.map_err(unreachable)?;
        if purpose == Purpose::Judging {
            // What was set between the connection's start and the fingerprint of the settings is in force as well.
            take_over(&opened.sql.client, role).await.map_err(unreachable)?;
        }
        Ok(opened)
    }

    /// What every question needs: statements, what it acts as now, and what the pinned settings are.
    async fn prepare_basics(sql: Sql) -> Result<Self, Error> {
        let client = &sql.client;
        let text = fill(include_str!("../../sql/queries/visibility_claims.sql"), &[]);
        let claims = client.prepare(&text).await?;
        let role = ActingRole::of(client).await?;
        let names: Vec<&str> = PINNED.iter().map(|(name, _)| *name).collect();
        let shown = "select array(select pg_catalog.current_setting(name) from unnest($1::text[]) with ordinality as s (name, place) order by place)";
        let own = client.query_one(shown, &[&names]).await?.try_get(0)?;
        let (prepared, guards, types) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { sql, claims, role, own, prepared, guards, types, uses: 0 })
    }

    /// What the pinned settings are here, in their order.
    pub(super) fn own_settings(&self) -> &[String] {
        &self.own
    }

    /// Whether the server hung up.
    pub(super) fn is_closed(&self) -> bool {
        self.sql.client.is_closed()
    }

    /// Asks on behalf of `principal`, gated by `xids`.
    pub(super) async fn ask(
        &mut self,
        principal: &Principal,
        check: &Check,
        xids: &[i64],
    ) -> Result<Outcome, Error> {
        let asked = self.ask_prepared(principal, check, xids).await;
        let names = check.basis.as_ref().map(|basis| &basis.names);
        if !matches!(names, Some(Names::Of(_))) || !asked.as_ref().is_err_and(is_unnameable) {
            return asked;
        }
        // Postgres parsed it again, as the role, because something it was planned for has changed.
        self.prepared.remove(&check.sql);
        let asked = self.ask_prepared(principal, check, xids).await;
        if asked.as_ref().is_err_and(is_unnameable) { Ok(Outcome::CannotTell) } else { asked }
    }

    async fn ask_prepared(
        &mut self,
        principal: &Principal,
        check: &Check,
        xids: &[i64],
    ) -> Result<Outcome, Error> {
        let statement = match self.prepare(check).await {
            Ok(statement) => statement,
            Err(error) => return self.unless_changed(error, check).await,
        };
        let Some(basis) = &check.basis else {
            let asked = self.ask_once(principal, check, xids, &statement, BEGIN, None).await?;
            return Ok(match asked {
                (answer, BasisState::Unchanged) => Outcome::Answered(answer),
                _ => Outcome::SettingsChanged,
            });
        };
        for is_again in [false, true, true] {
            let guard = self.guard(basis.table).await?;
            if guard.is_shadowed && basis.is_repeated {
                return Ok(Outcome::CannotTell);
            }
            // A plan made meanwhile may hold what it computed for somebody else.
            let begin = if is_again { BEGIN_REPLANNING } else { guard.begin };
            let rests_on = Some((&*guard, basis));
            let asked = self.ask_once(principal, check, xids, &statement, begin, rests_on).await;
            let asked = match asked {
                Ok(asked) => asked,
                Err(error) => return self.unless_changed(error, check).await,
            };
            let (answer, state) = asked;
            let client = &self.sql.client;
            match self.role.basis_state_again(client, state, rests_on).await? {
                BasisState::Unchanged => return Ok(Outcome::Answered(answer)),
                BasisState::RightsChanged => return Ok(Outcome::RightsChanged),
                BasisState::SettingsChanged => return Ok(Outcome::SettingsChanged),
                BasisState::GuardChanged => drop(self.guards.remove(&basis.table)),
            }
        }
        Ok(Outcome::CannotTell)
    }

    /// An error, unless it came of rights or settings that are not in force any more.
    async fn unless_changed(&mut self, error: Error, check: &Check) -> Result<Outcome, Error> {
        let Some(basis) = check.basis.as_ref().filter(|_| error.as_db_error().is_some()) else {
            return Err(error);
        };
        let Some(guard) = self.guards.get(&basis.table) else { return Err(error) };
        let (client, rests_on) = (&self.sql.client, Some((&**guard, basis)));
        let state = self.role.basis_state(client, rests_on).await?;
        match self.role.basis_state_again(client, state, rests_on).await? {
            BasisState::Unchanged | BasisState::GuardChanged => Err(error),
            BasisState::RightsChanged => Ok(Outcome::RightsChanged),
            BasisState::SettingsChanged => Ok(Outcome::SettingsChanged),
        }
    }

    /// The answer, and whether what it rests on stands.
    async fn ask_once(
        &self,
        principal: &Principal,
        check: &Check,
        xids: &[i64],
        statement: &Statement,
        begin: &str,
        rests_on: RestsOn<'_>,
    ) -> Result<(Answer, BasisState), Error> {
        let sub = principal.subject();
        let (claims, role) = (principal.claims(), principal.role());
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&xids];
        parameters.extend(check.parameters.iter().map(Parameter::as_sql));
        let client = self.client();
        let claim: [&(dyn ToSql + Sync); 3] = [&claims, &sub, &role];
        let end = rests_on.map_or(END, |(guard, _)| guard.end);
        // Polled in this order, so sent in this order: the fingerprints are at least as new as the plan.
        let asking = join4(
            client.batch_execute(begin),
            client.query(&self.claims, &claim),
            client.query_one(statement, &parameters),
            self.role.basis_state(client, rests_on),
        );
        let (begun, claimed, answered, state) =
            before_the_end(asking, client.batch_execute(end)).await;
        begun?;
        claimed?;
        let row = answered?;
        let state = state?;
        Ok((Answer { is_visible: row.try_get(0)?, verdicts: row.try_get(1)? }, state))
    }

    /// Whether the role, and its settings, are those that the connection was opened for. Within a transaction or not.
    pub(super) async fn is_current(&self) -> Result<bool, Error> {
        Ok(self.role.basis_state(&self.sql.client, None).await? == BasisState::Unchanged)
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
        let names = check.basis.as_ref().map(|basis| &basis.names);
        let Some(Names::Of(reader)) = names.filter(|_| !self.prepared.contains_key(&check.sql))
        else {
            return self.prepare_text(&check.sql, &types).await;
        };
        // Names are looked up when a statement is parsed, functions are called as whoever runs it. The rollback makes it the
        // role again, whatever happens; what is prepared stays.
        let begin = format!("begin read only; set local role {}", identifier(reader));
        let begun = self.sql.client.batch_execute(&begin).await;
        let prepared = match begun {
            Ok(()) => self.prepare_text(&check.sql, &types).await,
            Err(error) => Err(error),
        };
        self.sql.client.batch_execute(END).await?;
        prepared
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

/// Whether whoever asked may not use a name.
fn is_unnameable(error: &Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Why the role cannot be acted as, told as what withholds its rows.
fn unopened(role: &str, error: NotActing) -> Unopened {
    let failed =
        |code: &str, message| Unopened::Refused(Trouble::Failed { code: code.to_owned(), message });
    match error {
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
