//! `relay check`: a list of facts, each good or not, each that is not with what mends it.
//!
//! It reads and changes nothing. Faults of the configuration, Postgres, its roles, publication, tables and slot, the
//! keys and the running relay are all named in one run, as far as they can be reached.

mod fact;
mod keys;
mod policies;
mod publication;
mod realtime;
mod relay;
mod roles;
mod server;
mod slot;
mod symptoms;
mod tables;
mod types;

use std::io::IsTerminal;
use std::time::Duration;

use fact::{Facts, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use super::slot::state::Slot;
use super::tail::reachable;
use super::{Globals, environment, print};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::postgres::Sql;
use crate::shutdown::Stage;

/// What `relay check` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Marks: ✓ as it should be, ! works and may be regretted, ✗ does not work.
Exit code 0 when there is no ✗. Indented SQL can be run as it is, by a superuser or the owner.")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Does it.
///
/// # Errors
/// `Misconfigured` or `SourceRejected` when a fact is a fault.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let mut facts = Facts::default();
    let is_config_bad = match globals.load() {
        Ok(config) => {
            facts.good("config", "can be meant");
            look(&config, &mut facts).await;
            false
        }
        Err(error) => {
            facts
                .bad("config", error.to_string())
                .also("`relay config defaults` prints every setting and what it means");
            true
        }
    };
    show(&facts, args.json)?;
    let faults = facts.count(Verdict::Bad);
    if faults == 0 {
        return Ok(());
    }
    let kind = if is_config_bad { ErrorKind::Misconfigured } else { ErrorKind::SourceRejected };
    let noun = if faults == 1 { "fault" } else { "faults" };
    Err(Error::new(kind, format!("{faults} {noun} found")))
}

async fn look(config: &Config, facts: &mut Facts) {
    let stage = Stage::new();
    match super::slot::open(config, &stage).await {
        Ok(sql) => {
            facts.good("postgres.reachable", "yes");
            if let Err(error) = look_at_postgres(&sql, config, facts).await {
                facts
                    .bad("postgres.reachable", error.to_string())
                    .also("run the check again, as a role that may read the catalogs");
            }
        }
        Err(error) => {
            facts
                .bad("postgres.reachable", error.to_string())
                .also("correct postgres.url (host, port, database, user, password, sslmode), or start Postgres");
        }
    }
    stage.stop(Duration::from_secs(1)).await;
    keys::judge(&config.auth, facts).await;
    let figures = config.http.admin.map(|admin| reachable(admin.address));
    relay::judge(reachable(config.http.listen), figures, facts).await;
}

async fn look_at_postgres(sql: &Sql, config: &Config, facts: &mut Facts) -> Result<(), Error> {
    let name = &config.postgres.slot;
    let found = Slot::read(sql, name).await?;
    let is_held = found.as_ref().is_some_and(|slot| slot.pid.is_some());
    server::Server::read(sql).await?.judge(found.is_some(), is_held, facts);
    let roles = roles::Roles::read(sql, &config.auth.roles).await?;
    roles.judge(facts);
    publication::Publication::read(sql, &config.postgres.publication).await?.judge(facts);
    for table in tables::Table::read(sql, &config.postgres.publication, &config.auth.roles).await? {
        table.judge(facts);
    }
    types::judge(sql, &config.postgres.publication, &config.auth.roles, facts).await?;
    policies::judge(sql, &config.postgres.publication, &config.auth.roles, facts).await?;
    let login = roles.login();
    realtime::Realtime::read(sql, login, &config.auth.roles).await?.judge(facts);
    judge_agents(sql, facts).await;
    slot::judge(name, found.as_ref(), config.postgres.max_slot_lag, facts);
    Ok(())
}

/// An empty table of agents is why no agent sees a chat. Asked as the role that may read it, in a transaction that
/// is rolled back with the connection.
async fn judge_agents(sql: &Sql, facts: &mut Facts) {
    let is_there =
        sql.client.query_one(include_str!("../../sql/queries/check_agents.sql"), &[]).await;
    if !is_there.is_ok_and(|row| row.get("is_there")) {
        return;
    }
    let as_service = "begin read only; set local role service_role";
    let counted = match sql.client.batch_execute(as_service).await {
        Ok(()) => {
            sql.client.query_one(include_str!("../../sql/queries/check_agent_count.sql"), &[]).await
        }
        Err(error) => Err(error),
    };
    // Whatever happened, the connection is to be usable again; if it is not, the next question says so.
    let _ = sql.client.batch_execute("rollback").await;
    match counted.map(|row| row.get::<_, i64>("agents")) {
        Ok(0) => {
            facts
                .bad("agents", "public.support_agents is empty: nobody is an agent, so nobody sees the chats of others")
                .also("insert into public.support_agents (user_id, display_name) values ('<the sub of the agent''s token>', '<name>')");
        }
        Ok(agents) => facts.good("agents", format!("{agents} in public.support_agents")),
        Err(_) => {
            facts.odd("agents", "public.support_agents cannot be read as service_role, so it is not known whether there are any");
        }
    }
}

fn show(facts: &Facts, json: bool) -> Result<(), Error> {
    if json {
        let value = json!({
            "faults": facts.count(Verdict::Bad),
            "warnings": facts.count(Verdict::Odd),
            "facts": facts.to_json(),
            "symptoms": symptoms::to_json(facts),
        });
        return print::line(&value.to_string());
    }
    let is_coloured = std::io::stdout().is_terminal() && environment("NO_COLOR").is_none();
    for fact in facts.iter() {
        fact.lines(is_coloured).iter().try_for_each(|line| print::line(line))?;
    }
    print::line("\nIf somebody says")?;
    symptoms::lines(facts).iter().try_for_each(|line| print::line(line))
}

/// The one JSON value a query answers, read as `T`; `None` when there is no row.
///
/// # Errors
/// `SourceRejected`: what Postgres said.
async fn read_one<T: DeserializeOwned>(
    sql: &Sql,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<T>, Error> {
    let row = sql
        .client
        .query_opt(query, parameters)
        .await
        .map_err(|error| unreadable("the catalogs").because(error))?;
    let value: Option<Value> = row.map(|row| row.get(0));
    value
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| unreadable("the catalogs").because(error))
}

fn unreadable(what: &str) -> Error {
    Error::new(ErrorKind::SourceRejected, format!("could not read {what}"))
}
