//! Facts about the tables of `[chat]`, when the chat API is on: that they are there under the configured names, and that
//! somebody may read and write them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::fact::Facts;
use super::read_all;
use crate::config::{Chat, Preset, Table};
use crate::error::Error;
use crate::postgres::Sql;

#[derive(Debug, Deserialize)]
struct Found {
    what: String,
    name: String,
    exists: bool,
    missing: Vec<String>,
    is_published: bool,
    readers: Vec<String>,
    writers: Vec<String>,
}

/// The facts.
///
/// # Errors
/// `SourceRejected`: what Postgres said.
pub(super) async fn judge(
    sql: &Sql,
    chat: &Chat,
    (publication, roles): (&str, &[String]),
    facts: &mut Facts,
) -> Result<(), Error> {
    let mut wanted = vec![asked("sessions", &chat.sessions), asked("messages", &chat.messages)];
    wanted.extend(chat.agents.as_ref().map(|agents| asked("agents", agents)));
    let text = include_str!("../../../sql/queries/check_chat.sql");
    let wanted = Value::Array(wanted).to_string();
    let found: Vec<Found> =
        read_all(sql, "the tables of the chat", text, &[&wanted, &roles, &publication]).await?;
    for table in found {
        table.judge(chat, facts);
    }
    Ok(())
}

fn asked(what: &str, table: &Table) -> Value {
    json!({ "what": what, "schema": table.schema, "name": table.name, "columns": table.columns })
}

impl Found {
    fn judge(&self, chat: &Chat, facts: &mut Facts) {
        let about = format!("chat.{}", self.what);
        let before = facts.iter().count();
        if !self.exists {
            let make = match chat.preset {
                Preset::Support => "create it, with sql/ENABLE_REALTIME_CHAT.sql for instance, or",
                Preset::Gre | Preset::Unified => "create it, or",
            };
            facts
                .bad(
                    about.clone(),
                    format!("{} does not exist: requests of the chat fail", self.name),
                )
                .also(format!("{make} name the table in {about}"));
            return;
        }
        if !self.missing.is_empty() {
            facts
                .bad(
                    about.clone(),
                    format!("{} has no column {}: requests of the chat fail", self.name, self.missing.join(", ")),
                )
                .also(format!(
                    "name the columns in chat.{}_columns, as [\"body=text\"]; nothing after = for one that is not there",
                    self.what.trim_end_matches('s')
                ));
        }
        if self.readers.is_empty() {
            facts
                .bad(
                    about.clone(),
                    format!("no role of auth.roles that policies bind may read {}", self.name),
                )
                .also("grant select on it, and write a policy for reading");
        }
        if self.writers.is_empty() && self.what != "agents" {
            facts
                .bad(
                    about.clone(),
                    format!(
                        "no role of auth.roles that policies bind may insert into {}",
                        self.name
                    ),
                )
                .also("grant insert on it, and write a policy for inserting");
        }
        if !self.is_published && self.what != "agents" {
            facts
                .odd(
                    about.clone(),
                    format!("{} is not published: the chat's sockets hear of nothing", self.name),
                )
                .also("add it to the publication, once it has a replica identity");
        }
        if facts.iter().count() == before {
            facts.good(about, format!("{}: columns, readers and writers are there", self.name));
        }
    }
}
