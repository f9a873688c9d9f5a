//! Facts about each published table: whether it can be written, identity, key and row level security.

use serde::Deserialize;

use super::fact::Facts;
use super::read_all;
use super::rights::{self, Access};
use super::writes::{Identity, Member};
use crate::error::Error;
use crate::postgres::Sql;

/// A table that clients may watch. A partition that is published because its parent is counts as the parent.
#[derive(Debug, Deserialize)]
pub(super) struct Table {
    /// Its OID.
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// Its name as SQL.
    pub(super) quoted: String,
    pub(super) quoted_schema: String,
    pub(super) owner: String,
    /// Whether the publication names it, as opposed to every table or every one of a schema.
    pub(super) is_named: bool,
    /// Whether it is the table of messages, of which only the policies are looked at here.
    pub(super) is_messages: bool,
    is_partitioned: bool,
    has_key: bool,
    pub(super) has_rls: bool,
    row_filter: Option<String>,
    columns_left_out: Vec<String>,
    pub(super) open_partitions: Vec<String>,
    pub(super) roles: Vec<Access>,
}

impl Table {
    /// Asks for every table of the publication.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(
        sql: &Sql,
        publication: &str,
        roles: &[String],
    ) -> Result<Vec<Self>, Error> {
        let text = include_str!("../../../sql/queries/check_tables.sql");
        read_all(sql, "the published tables", text, &[&publication, &roles]).await
    }

    /// What facts about it are called.
    pub(super) fn about(&self) -> String {
        if self.is_messages {
            return "realtime.messages".to_owned();
        }
        format!("table {}.{}", self.schema, self.name)
    }

    /// What a role can do with it.
    pub(super) fn access(&self, role: &str) -> Option<&Access> {
        self.roles.iter().find(|access| access.name == role)
    }

    /// The facts; one good one when nothing is to be said. `members`: those of all published tables.
    pub(super) fn judge(&self, members: &[Member], facts: &mut Facts) {
        let members: Vec<_> = members.iter().filter(|member| member.is_of(self.oid)).collect();
        let about = self.about();
        let before = facts.iter().count();
        self.judge_writes(&members, facts);
        rights::judge(self, facts);
        if let Some(filter) = &self.row_filter {
            facts.odd(about.clone(), format!("the publication passes only rows where {filter}"));
        }
        if !self.columns_left_out.is_empty() {
            let columns = self.columns_left_out.join(", ");
            facts.odd(about.clone(), format!("the publication leaves out the columns {columns}"));
        }
        if self.is_partitioned && members.is_empty() {
            facts.odd(about.clone(), "has no partition, so nothing can be written to it");
        }
        if facts.iter().count() == before {
            facts.good(about, self.summary(&members));
        }
    }

    fn judge_writes(&self, members: &[&Member], facts: &mut Facts) {
        let about = self.about();
        for member in members {
            let of = self.part(member);
            if let Some(refusal) = member.refusal() {
                let why = refusal.words();
                let fact = facts.bad(
                    about.clone(),
                    format!("{of}{why}: Postgres refuses its updates and deletes"),
                );
                match member.mend() {
                    Some(statement) => fact.sql(statement),
                    None => fact.also(format!("{} ({})", refusal.advice(), member.quoted)),
                };
            } else if member.identity != Identity::Full && self.has_rls {
                let fact = facts.odd(
                    about.clone(),
                    format!("{of}replica identity is the key: of a deleted row its key reaches every subscriber whom the policies cannot rule out by it, and filters on other columns miss deletes"),
                );
                match member.refusal_with(Identity::Full) {
                    None => fact.sql(member.set_identity("full")),
                    Some(refusal) => fact.also(format!(
                        "leave it: with replica identity full Postgres would refuse its updates and deletes, because {}",
                        refusal.words()
                    )),
                };
            }
        }
        if !self.has_key {
            facts
                .odd(about, "has no primary key: clients cannot tell its rows apart")
                .also(format!("alter table {} add primary key (<its key columns>)", self.quoted));
        }
    }

    /// Whose fact it is, when it is a partition's.
    fn part(&self, member: &Member) -> String {
        if self.is_partitioned {
            format!("its partition {}: ", member.quoted)
        } else {
            String::new()
        }
    }

    fn summary(&self, members: &[&Member]) -> String {
        let all_full = members.iter().all(|member| member.identity == Identity::Full);
        let identity = match members {
            _ if all_full => "full",
            [member] if member.identity == Identity::Index => "an index",
            _ => "the key",
        };
        let partitions = if self.is_partitioned {
            format!("{} partitions; ", members.len())
        } else {
            String::new()
        };
        let readers: Vec<_> = self
            .roles
            .iter()
            .filter(|role| role.is_shown_rows(self.has_rls))
            .map(|role| role.name.as_str())
            .collect();
        let readers = if readers.is_empty() {
            "no role a token may name reads it, so nobody is shown its changes".to_owned()
        } else {
            format!("read by {}", readers.join(", "))
        };
        let rls = if self.has_rls { "row level security on" } else { "row level security off" };
        format!("{partitions}replica identity {identity}; {rls}; {readers}")
    }
}
