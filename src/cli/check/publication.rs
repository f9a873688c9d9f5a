//! Facts about the publication.

use serde::Deserialize;

use super::fact::Facts;
use super::writes::{Member, Refusal};
use super::{read_all, read_one, roles::quoted};
use crate::error::Error;
use crate::postgres::Sql;

/// The publication, and chat tables that are not in it.
#[derive(Debug)]
pub(super) struct Publication {
    name: String,
    found: Option<Found>,
    left_out: Vec<LeftOut>,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Found {
    is_for_all: bool,
    inserts: bool,
    updates: bool,
    deletes: bool,
    tables: i64,
    has_generated: bool,
}

/// A chat table that is not published.
#[derive(Debug, Deserialize)]
struct LeftOut {
    oid: u32,
    quoted: String,
    obstacle: Option<String>,
}

impl Publication {
    /// Asks for the publication called `name`.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(sql: &Sql, name: &str) -> Result<Self, Error> {
        let text = include_str!("../../../sql/queries/check_publication.sql");
        let found = read_one(sql, text, &[&name]).await?;
        let text = include_str!("../../../sql/queries/check_unpublished.sql");
        let left_out: Vec<LeftOut> = read_all(sql, "the publication", text, &[&name]).await?;
        let tables: Vec<u32> = left_out.iter().map(|table| table.oid).collect();
        let members = Member::read(sql, name, &tables).await?;
        Ok(Self { name: name.to_owned(), found, left_out, members })
    }

    /// The facts. `published`: the members of all published tables.
    pub(super) fn judge(&self, published: &[Member], facts: &mut Facts) {
        let about = format!("publication {}", self.name);
        self.judge_left_out(&about, facts);
        let Some(found) = &self.found else {
            if !self.left_out.iter().any(|table| table.obstacle.is_none()) {
                facts
                    .bad(about, "does not exist, so there is nothing to read")
                    .sql(format!("create publication {};", quoted(&self.name)))
                    .also(format!(
                        "then: alter publication {} add table <the tables clients may watch>",
                        quoted(&self.name)
                    ));
            }
            return;
        };
        if found.tables == 0 && self.left_out.is_empty() {
            facts.bad(about.clone(), "contains no table, so there is nothing to read").also(
                format!(
                    "alter publication {} add table <the tables clients may watch>",
                    quoted(&self.name)
                ),
            );
        } else if self.left_out.is_empty() {
            let all = if found.is_for_all { " (for all tables)" } else { "" };
            facts.good(about.clone(), format!("{} tables{all}", found.tables));
        }
        self.judge_events(&about, found, published, facts);
    }

    /// Chat tables outside of the publication: those that cannot be in it, those that would become unwritable in it, the rest.
    fn judge_left_out(&self, about: &str, facts: &mut Facts) {
        let name = quoted(&self.name);
        let mut addable = Vec::new();
        for table in &self.left_out {
            let says = format!("does not contain {}", table.quoted);
            if let Some(obstacle) = &table.obstacle {
                facts
                    .bad(
                        about,
                        format!(
                            "{says}: it {obstacle}, and a publication carries ordinary tables only"
                        ),
                    )
                    .also("keep the rows in an ordinary, logged table of this name");
            } else if let Some(refusal) = self.refusal_of(table) {
                facts.bad(about, format!("{says}: its changes are not seen")).also(format!(
                    "{} first: as it is, Postgres would refuse its updates and deletes once it is published ({})",
                    refusal.advice(),
                    refusal.words()
                ));
            } else {
                addable.push(table.quoted.as_str());
            }
        }
        if addable.is_empty() {
            return;
        }
        let tables = addable.join(", ");
        if self.found.is_some() {
            facts
                .bad(about, format!("does not contain {tables}: their changes are not seen"))
                .sql(format!("alter publication {name} add table {tables};"));
        } else {
            facts
                .bad(about, "does not exist, so there is nothing to read")
                .sql(format!("create publication {name} for table {tables};"));
        }
    }

    fn refusal_of(&self, table: &LeftOut) -> Option<Refusal> {
        let has_generated = self.found.as_ref().is_some_and(|found| found.has_generated);
        let mut members = self.members.iter().filter(|member| member.is_of(table.oid));
        members.find_map(|member| member.refusal_in(&self.name, has_generated))
    }

    fn judge_events(&self, about: &str, found: &Found, published: &[Member], facts: &mut Facts) {
        let events =
            [(found.inserts, "insert"), (found.updates, "update"), (found.deletes, "delete")];
        let missing: Vec<_> =
            events.iter().filter(|(is_in, _)| !is_in).map(|(_, word)| *word).collect();
        if missing.is_empty() {
            return;
        }
        let fact = facts.odd(about, format!("leaves out every {}", missing.join(" and ")));
        let refused: Vec<_> = published
            .iter()
            .filter(|member| member.refusal_if_changes_were_published().is_some())
            .map(|member| member.quoted.as_str())
            .collect();
        if refused.is_empty() {
            fact.sql(format!(
                "alter publication {} set (publish = 'insert, update, delete, truncate');",
                quoted(&self.name)
            ));
        } else {
            fact.also(format!(
                "to publish them give these tables a primary key first, else Postgres refuses their updates and deletes: {}",
                refused.join(", ")
            ));
        }
    }
}
