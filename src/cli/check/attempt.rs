//! Policies, tried as each role they bind: a policy that raises an error, recurses, or calls or reads what the role may not is
//! named before the first change is withheld because of it.
//!
//! Promises: every transaction is read only, limited in time, and rolled back. The role reads the table's first block as any
//! of its sessions would; then each policy that applies judges a few rows by itself, which shows which policy a failure
//! comes from. The rows are those that a role which row security does not bind reads. Where there are none, the policy judges
//! a row of nulls, and a failure is a warning: policies may rely on a column that is not null.
//!
//! Not here: whether what a policy answers is right; nobody but its author knows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::ToSql;

use super::fact::Facts;
use super::rights::{Access, Policy};
use super::tables::Table;
use super::{APPLICATION, unreadable};
use crate::error::Error;
use crate::postgres::quote::{fill, identifier};
use crate::postgres::{NotActing, Sql, Target, connect_as, connect_pinned_as, without_values};
use crate::shutdown::Stage;

/// The longest one attempt may take, whatever `postgres.check_timeout` says.
const LONGEST: Duration = Duration::from_secs(5);

/// `null_value_not_allowed`: some functions raise it, and most rows have no null for them.
const NULL_NOT_ALLOWED: &str = "22004";

/// The `sub` of a token that `--claims` gives none: no user has it.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A failure of one or more policies, and what Postgres said of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Failure {
    policies: String,
    said: Said,
    /// The policy judged a row of nulls, because there was no other.
    is_of_nulls: bool,
}

/// A refusal: its SQLSTATE, and the message as far as it quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    code: String,
    message: String,
    step: Step,
}

/// The step of a statement that Postgres refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Its text was parsed: most often it has a name that the role cannot look up.
    Parse,
    /// It was run.
    Run,
}

/// Claims of a token that policies are tried with; the name of each role is added as `role`.
pub(super) type Claims = serde_json::Map<String, Value>;

/// Tries the policies of `tables` and says which fail for which of `roles`.
///
/// # Errors
/// A connection broke.
pub(super) async fn judge(
    target: &Target,
    tables: &[Table],
    (roles, claims): (&[String], &Claims),
    timeout: Duration,
    facts: &mut Facts,
) -> Result<(), Error> {
    let stage = Stage::new();
    let timeout = timeout.min(LONGEST);
    let limit = format!("{}ms", timeout.as_millis());
    // Waiting for a lock ends sooner, so that somebody else's lock is not taken for a slow policy.
    let for_locks = format!("{}ms", (timeout / 2).as_millis().max(1));
    let settings = [
        ("statement_timeout", &*limit),
        ("lock_timeout", &*for_locks),
        ("default_transaction_read_only", "on"),
        ("jit", "off"),
    ];
    let samples = samples(target, (tables, roles), &settings, &stage).await?;
    let mut found: BTreeMap<(usize, Failure), Vec<&str>> = BTreeMap::new();
    for role in roles {
        let to_try: Vec<_> = with_access(tables, |table| to_try(table, role)).collect();
        if to_try.is_empty() {
            continue;
        }
        let Some(sql) = opened(connect_as(target, APPLICATION, role, &settings, &stage).await)?
        else {
            continue;
        };
        for (index, table, access) in to_try {
            let sample = samples.get(&index).map_or(&[][..], Vec::as_slice);
            for failure in attempt(&sql, table, (access, claims), sample).await? {
                found.entry((index, failure)).or_default().push(role);
            }
        }
    }
    stage.stop(Duration::from_secs(1)).await;
    for ((index, failure), roles) in found {
        if let Some(table) = tables.get(index) {
            report(table, &failure, &roles.join(", "), facts);
        }
    }
    Ok(())
}

/// A few rows of each table, by the table's index, as the first of `roles` reads them that its policies do not bind.
async fn samples(
    target: &Target,
    (tables, roles): (&[Table], &[String]),
    settings: &[(&str, &str)],
    stage: &Stage,
) -> Result<BTreeMap<usize, Vec<String>>, Error> {
    let mut samples = BTreeMap::new();
    for role in roles {
        let missing: Vec<_> = with_access(tables, |table| reads_all(table, role))
            .filter(|(index, ..)| !samples.contains_key(index))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let Some(sql) =
            opened(connect_pinned_as(target, APPLICATION, role, settings, stage).await)?
        else {
            continue;
        };
        for (index, table, _) in missing {
            samples.insert(index, sample(&sql, table, role).await?);
        }
    }
    Ok(samples)
}

/// The tables for which `access` gives something, each with its index and that.
fn with_access<'a>(
    tables: &'a [Table],
    access: impl Fn(&'a Table) -> Option<&'a Access>,
) -> impl Iterator<Item = (usize, &'a Table, &'a Access)> {
    tables.iter().enumerate().filter_map(move |(index, table)| Some((index, table, access(table)?)))
}

/// A connection that acts as a role; none where it may not, which the facts about the role say.
fn opened(connected: Result<Sql, NotActing>) -> Result<Option<Sql>, Error> {
    match connected {
        Ok(sql) => Ok(Some(sql)),
        Err(NotActing::NotAMember { .. } | NotActing::NoSuchRole) => Ok(None),
        Err(NotActing::Unreachable(error)) => Err(error),
    }
}

/// What the role can do with the table, if policies decide which rows it reads.
fn to_try<'a>(table: &'a Table, role: &str) -> Option<&'a Access> {
    let access = table.access(role)?;
    let is_bound = table.has_rls && !access.bypasses && !access.policies.is_empty();
    (is_bound && access.may_read()).then_some(access)
}

/// What the role can do with the table, if it reads every row that policies decide about for others.
fn reads_all<'a>(table: &'a Table, role: &str) -> Option<&'a Access> {
    let access = table.access(role)?;
    (table.has_rls && access.bypasses && access.may_read()).then_some(access)
}

/// A few rows of the table as the role reads them, each as Postgres writes it; none if it cannot read them.
async fn sample(sql: &Sql, table: &Table, role: &str) -> Result<Vec<String>, Error> {
    let text = include_str!("../../../sql/queries/check_try_sample.sql");
    let statement = fill(text, &[("table", &table.quoted)]);
    let answer = run_as(sql, (role, &Claims::new()), &statement, &[]).await?;
    let row = answer.ok().and_then(|rows| rows.into_iter().next());
    Ok(row.and_then(|row| row.try_get("rows").ok()).unwrap_or_default())
}

/// How the table's policies fail for the role: when it reads the table, or, if that succeeds, each policy by itself on the
/// rows of `sample`.
async fn attempt(
    sql: &Sql,
    table: &Table,
    (access, claims): (&Access, &Claims),
    sample: &[String],
) -> Result<Vec<Failure>, Error> {
    let asking = (&*access.name, claims);
    let text = include_str!("../../../sql/queries/check_try_rows.sql");
    let statement = fill(text, &[("table", &table.quoted)]);
    let whole = run_as(sql, asking, &statement, &[]).await?.err();
    let is_of_nulls = sample.is_empty();
    let rows: Vec<Option<&str>> =
        if is_of_nulls { vec![None] } else { sample.iter().map(|row| Some(&**row)).collect() };
    let mut alone = Vec::new();
    for policy in &access.policies {
        if let Some(statement) = judging(table, policy)
            && let Err(said) = run_as(sql, asking, &statement, &[&rows]).await?
        {
            alone.push((policy, said));
        }
    }
    let Some(said) = whole else {
        let of_policies = alone.into_iter().filter(|(_, said)| said.is_of_the_policy());
        let failures = of_policies.map(|(policy, said)| Failure {
            policies: policy.name.clone(),
            said,
            is_of_nulls,
        });
        return Ok(failures.collect());
    };
    let same: Vec<_> =
        alone.iter().filter(|(_, other)| other.is_like(&said)).map(|(policy, _)| *policy).collect();
    let guilty = if same.is_empty() { access.policies.iter().collect() } else { same };
    let names: Vec<_> = guilty.iter().map(|policy| policy.name.as_str()).collect();
    Ok(vec![Failure { policies: names.join(" or "), said, is_of_nulls: false }])
}

/// The statement by which a policy judges rows; none for a policy without a condition.
fn judging(table: &Table, policy: &Policy) -> Option<String> {
    let values = [
        ("table", &*table.quoted),
        ("alias", &*identifier(&table.name)),
        ("expression", policy.expression.as_deref()?),
    ];
    Some(fill(include_str!("../../../sql/queries/check_try_policy.sql"), &values))
}

impl Said {
    fn of(error: &DbError, step: Step) -> Self {
        let code = error.code().code();
        let message =
            if code.starts_with("42") { error.message().to_owned() } else { without_values(error) };
        Self { code: code.to_owned(), message, step }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.code, &self.message) == (&other.code, &other.message)
    }

    /// Whether it is about the policy, although reading the table succeeded. The check parses the text of the policy anew as
    /// the role, which Postgres itself does not: a name that the role cannot look up is no fault of the policy.
    fn is_of_the_policy(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        self.step == Step::Run
            && matches!(class, "P0" | "21" | "22" | "25" | "42")
            && self.code != NULL_NOT_ALLOWED
    }
}

/// Runs one statement as the role with a token's claims, and rolls it back; the inner error is what Postgres said of it.
///
/// # Errors
/// The connection broke.
async fn run_as(
    sql: &Sql,
    (role, claims): (&str, &Claims),
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Result<Vec<Row>, Said>, Error> {
    let broke = |error| unreadable("what policies do").because(error);
    let mut claims = claims.clone();
    claims.insert("role".to_owned(), role.into());
    let sub = match claims.entry("sub").or_insert_with(|| NOBODY.into()) {
        Value::String(sub) => sub.clone(),
        other => other.to_string(),
    };
    let claims = Value::Object(claims).to_string();
    let mut step = Step::Parse;
    let trying = async {
        // Policies on messages read the channel's name from this setting.
        sql.client
            .batch_execute("begin read only; set local realtime.topic = 'relay-check'")
            .await?;
        let text = include_str!("../../../sql/queries/visibility_claims.sql");
        sql.client.query_one(text, &[&claims, &sub, &role]).await?;
        let statement = sql.client.prepare(statement).await?;
        step = Step::Run;
        sql.client.query(&statement, parameters).await
    };
    let answer = match trying.await {
        Ok(rows) => Ok(rows),
        Err(error) => match error.as_db_error() {
            // Somebody else's lock says nothing of the policy.
            Some(said) if *said.code() == SqlState::LOCK_NOT_AVAILABLE => Ok(Vec::new()),
            Some(said) => Err(Said::of(said, step)),
            None => return Err(broke(error)),
        },
    };
    sql.client.batch_execute("rollback").await.map_err(broke)?;
    Ok(answer)
}

fn report(table: &Table, failure: &Failure, roles: &str, facts: &mut Facts) {
    let Failure { policies, said: Said { code, message, .. }, is_of_nulls } = failure;
    let says = format!("policy {policies} fails for {roles}: {message} (SQLSTATE {code})");
    let fact = if *is_of_nulls {
        facts.odd(
            table.about(),
            format!("{says}; tried on a row of nulls, because no role reads a row of it"),
        )
    } else {
        let consequence = if table.is_messages {
            "private channels that it judges stay closed"
        } else {
            "changes that it judges are withheld"
        };
        facts.bad(table.about(), format!("{says}; {consequence}"))
    };
    fact.also(remedy(code, message));
}

/// What to do about an error of a policy. No grant is a statement here: what it would open is for its owner to say.
fn remedy(code: &str, message: &str) -> String {
    let advice = match code {
        "42501" if message.contains("for function ") || message.contains("for procedure ") => {
            "grant execute on the function to the role, if its tokens may call it by themselves"
        }
        "42501" if message.contains("for schema ") => {
            "grant usage on the schema to the role, if nothing in it is to be out of its reach"
        }
        "42501" if message.contains("read-only") => "let the policy read only",
        "42501" => {
            "let the policy ask a security definer function, which reads that with its owner's rights; or grant select on it, if every \
             token of the role may read all of it"
        }
        "42P17" => {
            "the policy reads its own table, perhaps through another table's policy: let it ask a security definer function whose owner the \
             policies do not bind"
        }
        "P0001" => {
            "let the function return false or null where it raises; if it raises for want of a claim, try it with those that tokens have \
             (relay check --claims)"
        }
        "25006" => "let the policy read only: it is judged in a transaction that may not write",
        "42704" if message.contains("configuration parameter") => {
            "read settings that may be missing with current_setting(<name>, true)"
        }
        "57014" => {
            "it took longer than postgres.check_timeout for the table's first block: give the tables it reads an index on what it compares"
        }
        "21000" => "let the subquery return one row at most, or compare with `in`",
        _ if code.starts_with("22") => {
            "guard the cast: let the policy be false where a claim or a value does not fit"
        }
        _ => "mend the policy, or what it calls",
    };
    format!(
        "{advice}; to see it: begin; set local role <role>; set local request.jwt.claims = '<claims>'; select * from <table> limit 1; rollback"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_remedy() {
        for (code, message, words) in [
            ("42501", "permission denied for function f", "grant execute"),
            ("42501", "permission denied for schema s", "grant usage"),
            ("42501", "permission denied for table t", "security definer"),
            ("42501", "permission denied for table function_log", "security definer"),
            ("42501", "permission denied for table schema_versions", "security definer"),
            ("42P17", "infinite recursion detected in policy for relation \"t\"", "its own table"),
            ("P0001", "no", "return false"),
            ("42704", "unrecognized configuration parameter \"app.x\"", "current_setting"),
            ("22P02", "invalid input syntax for type uuid", "guard the cast"),
            ("57014", "canceling statement due to statement timeout", "check_timeout"),
            ("XX000", "x", "mend the policy"),
        ] {
            assert!(remedy(code, message).contains(words), "{code} {message}");
        }
    }
}
