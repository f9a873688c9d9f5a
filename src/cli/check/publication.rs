//! Facts about the publication.

use serde::Deserialize;
use serde_json::Value;

use super::fact::Facts;
use super::{read_one, roles::quoted};
use crate::error::Error;
use crate::postgres::Sql;

/// The publication, and chat tables that are not in it.
#[derive(Debug)]
pub(super) struct Publication {
    name: String,
    found: Option<Found>,
    left_out: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Found {
    is_for_all: bool,
    inserts: bool,
    updates: bool,
    deletes: bool,
    tables: i64,
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
        let left_out: Option<Value> = read_one(sql, text, &[&name]).await?;
        let left_out = left_out.and_then(|value| serde_json::from_value(value).ok());
        Ok(Self { name: name.to_owned(), found, left_out: left_out.unwrap_or_default() })
    }

    /// The facts.
    pub(super) fn judge(&self, facts: &mut Facts) {
        let name = quoted(&self.name);
        let about = format!("publication {}", self.name);
        let chat = self.left_out.join(", ");
        let Some(found) = &self.found else {
            let fact = facts.bad(about, "does not exist, so there is nothing to read");
            if chat.is_empty() {
                fact.sql(format!("create publication {name};")).also(format!(
                    "then: alter publication {name} add table <the tables clients may watch>"
                ));
            } else {
                fact.sql(format!("create publication {name} for table {chat};"));
            }
            return;
        };
        if !chat.is_empty() {
            facts
                .bad(about.clone(), format!("does not contain {chat}: their changes are not seen"))
                .sql(format!("alter publication {name} add table {chat};"));
        } else if found.tables == 0 {
            facts
                .bad(about.clone(), "contains no table, so there is nothing to read")
                .also(format!("alter publication {name} add table <the tables clients may watch>"));
        } else {
            let all = if found.is_for_all { " (for all tables)" } else { "" };
            facts.good(about.clone(), format!("{} tables{all}", found.tables));
        }
        if !(found.inserts && found.updates && found.deletes) {
            let missing: Vec<_> =
                [(found.inserts, "insert"), (found.updates, "update"), (found.deletes, "delete")]
                    .into_iter()
                    .filter_map(|(is_published, word)| (!is_published).then_some(word))
                    .collect();
            facts.odd(about, format!("leaves out every {}", missing.join(" and "))).sql(format!(
                "alter publication {name} set (publish = 'insert, update, delete, truncate');"
            ));
        }
    }
}
