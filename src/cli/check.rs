//! `relay check`: a list of facts, each good or not, each that is not with what mends it.
//!
//! It changes nothing: policies are tried in transactions that are read only and rolled back, and a file is written to
//! `log.dir` and removed. Faults of the configuration, Postgres, its roles, publication, tables and slot, the keys, this
//! machine and the running relay are all named in one run, as far as they can be reached.
//!
//! Every statement that it prints shows nobody anything beyond the table it names, makes no write fail, and removes the fault.
//! Where there is no such statement, the check says in words what to do.

mod agents;
mod attempt;
mod chat;
mod counters;
mod fact;
mod keys;
mod machine;
mod policies;
mod publication;
mod realtime;
mod relay;
mod rights;
mod roles;
mod server;
mod slot;
mod symptoms;
mod tables;
mod types;
mod writes;

use std::io::IsTerminal;
use std::time::Duration;

use attempt::Claims;
use fact::{Facts, Verdict};
use roles::Roles;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use super::slot::state::Slot;
use super::{Globals, environment, print};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::shutdown::Stage;

/// The check's `application_name` in Postgres, unless postgres.url gives one.
const APPLICATION: &str = "relay-check";

/// What `relay check` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Marks: ✓ as it should be, ! works and may be regretted, ✗ does not work.
Exit code 0 when there is no ✗. Indented SQL can be run as it is, by a superuser or the owner; → is said in words, because
it is for a person to decide or to fill in.")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Claims that policies are tried with, as a JSON object; the role is added to them [default: a `sub` that is nobody's]
    #[arg(long, value_name = "JSON", value_parser = claims)]
    pub(crate) claims: Option<Claims>,
}

fn claims(text: &str) -> Result<Claims, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
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
            look(&config, &args.claims.unwrap_or_default(), &mut facts).await;
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

async fn look(config: &Config, claims: &Claims, facts: &mut Facts) {
    let stage = Stage::new();
    match open(config, &stage).await {
        Ok((target, sql)) => {
            facts.good("postgres.reachable", "yes");
            if let Err(error) = look_at_postgres((&sql, &target), config, claims, facts).await {
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
    machine::judge(config, facts);
    relay::judge(config, facts).await;
}

async fn open(config: &Config, stage: &Stage) -> Result<(Target, Sql), Error> {
    let target = Target::parse(config.postgres.url.reveal())?;
    // Compiling the queries would take longer than running them.
    let sql = connect(&target, APPLICATION, &[("jit", "off")], stage).await?;
    Ok((target, sql))
}

async fn look_at_postgres(
    (sql, target): (&Sql, &Target),
    config: &Config,
    claims: &Claims,
    facts: &mut Facts,
) -> Result<(), Error> {
    let (name, publication, roles) =
        (&config.postgres.slot, &*config.postgres.publication, &*config.auth.roles);
    let found = Slot::read(sql, name).await?;
    let is_held = found.as_ref().is_some_and(|slot| slot.pid.is_some());
    let server = server::Server::read(sql, name).await?;
    server.judge(found.is_some(), is_held, facts);
    let chat_pool = config.chat.as_ref().map_or(0, |chat| chat.pool);
    let needed = roles::connections(roles.len(), config.postgres.pool, chat_pool);
    let of_roles = Roles::read(sql, roles, server.relay_application()).await?;
    of_roles.judge(needed, facts);
    let tables = tables::Table::read(sql, publication, roles).await?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let members = writes::Member::read(sql, publication, &oids).await?;
    publication::Publication::read(sql, publication).await?.judge(&members, facts);
    for table in tables.iter().filter(|table| !table.is_messages) {
        table.judge(&members, facts);
    }
    if let Err(error) =
        attempt::judge(target, &tables, (roles, claims), config.postgres.check_timeout, facts).await
    {
        facts
            .odd("policies", format!("could not be tried: {error}"))
            .also("run the check again when Postgres has connections left");
    }
    types::judge(sql, publication, roles, facts).await?;
    policies::judge(sql, publication, roles, facts).await?;
    realtime::Realtime::read(sql, of_roles.login(), roles).await?.judge(facts);
    if let Some(chat) = &config.chat {
        chat::judge(sql, chat, (publication, roles), facts).await?;
    }
    agents::judge(sql, facts).await;
    let budget = config.postgres.max_slot_lag;
    slot::judge((name, found.as_ref()), budget, &server, facts);
    Ok(())
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

/// The one JSON value a query answers, in its first column, read as `T`; `None` when there is no row.
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

/// The JSON values a query answers, one in the first column of each row, each read as `T`. `what` is what they are about.
///
/// # Errors
/// `SourceRejected`: what Postgres said.
async fn read_all<T: DeserializeOwned>(
    sql: &Sql,
    what: &str,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, Error> {
    let rows = sql
        .client
        .query(query, parameters)
        .await
        .map_err(|error| unreadable(what).because(error))?;
    rows.iter()
        .map(|row| serde_json::from_value(row.get(0)))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(what).because(error))
}

fn unreadable(what: &str) -> Error {
    Error::new(ErrorKind::SourceRejected, format!("could not read {what}"))
}
