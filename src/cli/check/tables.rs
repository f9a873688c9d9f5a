//! Facts about each published table: identity, key, row level security, and what each role can do.

use serde::Deserialize;

use super::fact::Facts;
use super::roles::quoted;
use crate::error::{Error, ErrorKind};
use crate::postgres::Sql;

/// A published table.
#[derive(Debug, Deserialize)]
pub(super) struct Table {
    schema: String,
    name: String,
    quoted: String,
    quoted_schema: String,
    owner: String,
    identity: String,
    has_key: bool,
    has_identity_index: bool,
    has_rls: bool,
    row_filter: Option<String>,
    columns_left_out: Vec<String>,
    roles: Vec<Access>,
}

/// What a role can do with the table.
#[derive(Debug, Deserialize)]
struct Access {
    name: String,
    may_use_schema: bool,
    may_select: bool,
    is_owner: bool,
    bypasses: bool,
    policies: i64,
    named_policies: i64,
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
        let failed =
            || Error::new(ErrorKind::SourceRejected, "could not read the published tables");
        let text = include_str!("../../../sql/queries/check_tables.sql");
        let rows = sql
            .client
            .query(text, &[&publication, &roles])
            .await
            .map_err(|error| failed().because(error))?;
        rows.iter()
            .map(|row| serde_json::from_value(row.get("found")))
            .collect::<Result<_, _>>()
            .map_err(|error| failed().because(error))
    }

    /// The facts; one good one when nothing is to be said.
    pub(super) fn judge(&self, facts: &mut Facts) {
        let about = format!("table {}.{}", self.schema, self.name);
        let before = facts.iter().count();
        self.judge_identity(&about, facts);
        self.judge_rights(&about, facts);
        if let Some(filter) = &self.row_filter {
            facts.odd(about.clone(), format!("the publication passes only rows where {filter}"));
        }
        if !self.columns_left_out.is_empty() {
            let columns = self.columns_left_out.join(", ");
            facts.odd(about.clone(), format!("the publication leaves out the columns {columns}"));
        }
        if facts.iter().count() == before {
            facts.good(about, self.summary());
        }
    }

    fn judge_identity(&self, about: &str, facts: &mut Facts) {
        let full = format!("alter table {} replica identity full;", self.quoted);
        let is_missing = match self.identity.as_str() {
            "d" => !self.has_key,
            "i" => !self.has_identity_index,
            "n" => true,
            _ => false,
        };
        if is_missing {
            facts
                .bad(about, "has no replica identity: Postgres refuses its updates and deletes")
                .sql(full);
        } else if self.identity != "f" && self.has_rls {
            facts
                .odd(
                    about,
                    "replica identity is the key: of a deleted row its key reaches every subscriber whom the policies cannot rule out by it, and filters on other columns miss deletes",
                )
                .sql(full);
        }
        if !self.has_key {
            facts
                .odd(about, "has no primary key: clients cannot tell its rows apart")
                .also(format!("alter table {} add primary key (<its key columns>)", self.quoted));
        }
    }

    fn judge_rights(&self, about: &str, facts: &mut Facts) {
        for role in &self.roles {
            role.judge(self, about, facts);
        }
        let bound: Vec<_> = self.roles.iter().filter(|role| !role.bypasses).collect();
        if self.has_rls {
            if !bound.is_empty() && bound.iter().all(|role| role.policies == 0) {
                let names: Vec<_> = bound.iter().map(|role| role.name.as_str()).collect();
                facts
                    .bad(
                        about,
                        format!("row level security is on and no policy lets {} read a row", names.join(" or ")),
                    )
                    .also(format!(
                        "create policy \"read own rows\" on {} for select to authenticated using (<who may read a row>)",
                        self.quoted
                    ));
            }
        } else {
            let open: Vec<_> = bound
                .iter()
                .filter(|role| role.may_select)
                .map(|role| role.name.as_str())
                .collect();
            if !open.is_empty() {
                facts
                    .odd(
                        about,
                        format!(
                            "row level security is off: every token of {} reads every row",
                            open.join(", ")
                        ),
                    )
                    .also(format!(
                        "alter table {} enable row level security, and write its policies",
                        self.quoted
                    ));
            }
        }
        let may_read = |role: &&Access| role.may_select && role.may_use_schema;
        if !bound.is_empty()
            && !bound.iter().any(may_read)
            && bound.iter().all(|r| r.named_policies == 0)
        {
            let to = bound.iter().find(|role| role.name == "authenticated").or(bound.first());
            let to = quoted(to.map_or("authenticated", |role| role.name.as_str()));
            facts
                .bad(about, "no role a token may name has SELECT on it, so nobody is shown a row")
                .sql(format!("grant usage on schema {} to {to};", self.quoted_schema))
                .sql(format!("grant select on {} to {to};", self.quoted));
        }
    }

    fn summary(&self) -> String {
        let identity = match self.identity.as_str() {
            "f" => "full",
            "i" => "an index",
            _ => "the key",
        };
        let readers: Vec<_> = self
            .roles
            .iter()
            .filter(|role| role.may_select && (role.bypasses || !self.has_rls || role.policies > 0))
            .map(|role| role.name.as_str())
            .collect();
        let rls = if self.has_rls { "row level security on" } else { "row level security off" };
        format!("replica identity {identity}; {rls}; read by {}", readers.join(", "))
    }
}

impl Access {
    fn judge(&self, table: &Table, about: &str, facts: &mut Facts) {
        let role = quoted(&self.name);
        if self.is_owner && self.bypasses && table.has_rls {
            facts
                .bad(
                    about,
                    format!("is owned by {}, which its policies therefore do not bind", self.name),
                )
                .sql(format!("alter table {} force row level security;", table.quoted))
                .also(format!(
                    "or give it an owner that is not in auth.roles (it is {})",
                    table.owner
                ));
        }
        // A policy for the role says that it is meant to read; without the grant it never does.
        if table.has_rls && self.named_policies > 0 && !self.may_select {
            facts
                .bad(about, format!("{} has a policy and no SELECT: it is shown no row", self.name))
                .sql(format!("grant select on {} to {role};", table.quoted));
        }
        if (self.may_select || self.named_policies > 0) && !self.may_use_schema {
            facts
                .bad(about, format!("{} has no USAGE on schema {}", self.name, table.schema))
                .sql(format!("grant usage on schema {} to {role};", table.quoted_schema));
        }
    }
}
