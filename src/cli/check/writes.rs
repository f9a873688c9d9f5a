//! Whether Postgres lets a table be updated, now and after a statement that `relay check` might print. All but [`Member::read`]
//! is computed without asking Postgres.
//!
//! A publication that has updates or deletes makes Postgres refuse them on tables whose replica identity it cannot publish. So
//! nothing that changes an identity or a publication is printed before it is judged here.

use serde::Deserialize;

use super::read_all;
use crate::error::Error;
use crate::postgres::Sql;

/// An ordinary table, by itself or as a partition of a published one.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    table: u32,
    /// Its name as SQL.
    pub(super) quoted: String,
    /// Its replica identity.
    pub(super) identity: Identity,
    key: Option<Vec<String>>,
    index: Option<Vec<String>>,
    generated: Vec<Generated>,
    judges_generated: bool,
    publications: Vec<Publishing>,
}

/// `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum Identity {
    /// The primary key.
    #[serde(rename = "d")]
    Default,
    /// Another index.
    #[serde(rename = "i")]
    Index,
    /// Every column.
    #[serde(rename = "f")]
    Full,
    /// Nothing.
    #[serde(rename = "n")]
    Nothing,
}

#[derive(Clone, Debug, Deserialize)]
struct Generated {
    name: String,
    is_stored: bool,
}

/// What a publication makes of the table.
#[derive(Clone, Debug, Deserialize)]
struct Publishing {
    name: String,
    is_ours: bool,
    has_changes: bool,
    has_generated: bool,
    columns: Option<Vec<String>>,
    filters: Vec<String>,
}

/// Why Postgres refuses updates and deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing identifies a row.
    NoIdentity,
    /// A publication has a list of columns, and the identity is all of them.
    ListUnderFull {
        /// The publication.
        publication: String,
    },
    /// A publication's list of columns lacks one of the identity.
    ListLacks {
        /// The publication.
        publication: String,
        /// The column.
        column: String,
    },
    /// A publication's row filter reads a column that the identity lacks.
    Filter {
        /// The publication.
        publication: String,
        /// The column.
        column: String,
    },
    /// The identity has a generated column that a publication does not carry.
    Generated {
        /// The publication.
        publication: String,
        /// The column.
        column: String,
    },
}

impl Refusal {
    /// The reason as the end of a sentence.
    pub(super) fn words(&self) -> String {
        match self {
            Self::NoIdentity => "has no replica identity".to_owned(),
            Self::ListUnderFull { publication } => format!(
                "replica identity is full, and publication {publication} has a list of columns"
            ),
            Self::ListLacks { publication, column } => format!(
                "the list of columns in publication {publication} lacks {column}, which is of the replica identity"
            ),
            Self::Filter { publication, column } => format!(
                "the row filter in publication {publication} reads {column}, which is not of the replica identity"
            ),
            Self::Generated { publication, column } => format!(
                "{column} is of the replica identity, and publication {publication} does not carry it: it is generated"
            ),
        }
    }

    /// What a person can do where no statement is safe.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::NoIdentity => "give it a primary key",
            Self::ListUnderFull { .. } => {
                "give it a primary key, or publish it without a list of columns"
            }
            Self::ListLacks { .. } => "add the column to the list, or publish it without one",
            Self::Filter { .. } => "let the row filter read columns of the key only",
            Self::Generated { .. } => {
                "give it a primary key, or where the column is stored let the publication carry it \
                 (publish_generated_columns = stored), if whoever else reads the publication has the column"
            }
        }
    }
}

impl Member {
    /// Asks for the ordinary tables of `tables`; partitions stand for a partitioned one.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(
        sql: &Sql,
        publication: &str,
        tables: &[u32],
    ) -> Result<Vec<Self>, Error> {
        let what = "what decides whether tables can be updated";
        let text = include_str!("../../../sql/queries/check_writes.sql");
        read_all(sql, what, text, &[&tables, &publication]).await
    }

    /// Whether it is this table, or a partition of it.
    pub(super) const fn is_of(&self, table: u32) -> bool {
        self.table == table
    }

    /// Why its updates and deletes are refused now.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal_with(self.identity)
    }

    /// Why they would be refused under another identity.
    pub(super) fn refusal_with(&self, identity: Identity) -> Option<Refusal> {
        let mut publishing = self.publications.iter().filter(|publishing| publishing.has_changes);
        publishing.find_map(|publishing| self.refused_by(publishing, identity))
    }

    /// Why they would be refused if the relay's publication had updates and deletes.
    pub(super) fn refusal_if_changes_were_published(&self) -> Option<Refusal> {
        let ours = self.publications.iter().find(|publishing| publishing.is_ours)?;
        self.refused_by(ours, self.identity)
    }

    /// Why they would be refused if it were added, whole, to a publication.
    pub(super) fn refusal_in(&self, publication: &str, has_generated: bool) -> Option<Refusal> {
        let publishing = Publishing {
            name: publication.to_owned(),
            is_ours: true,
            has_changes: true,
            has_generated,
            columns: None,
            filters: Vec::new(),
        };
        self.refused_by(&publishing, self.identity)
    }

    /// The statement that lets it be updated, where there is one that cannot do harm.
    pub(super) fn mend(&self) -> Option<String> {
        if self.refusal_with(Identity::Full).is_none() {
            return Some(self.set_identity("full"));
        }
        self.refusal_with(Identity::Default).is_none().then(|| self.set_identity("default"))
    }

    /// The statement that gives it another replica identity.
    pub(super) fn set_identity(&self, identity: &str) -> String {
        format!("alter table {} replica identity {identity};", self.quoted)
    }

    fn refused_by(&self, publishing: &Publishing, identity: Identity) -> Option<Refusal> {
        let publication = || publishing.name.clone();
        let columns = match identity {
            Identity::Full => return self.refused_whole(publishing),
            Identity::Nothing => None,
            Identity::Default => self.key.as_ref(),
            Identity::Index => self.index.as_ref(),
        };
        let Some(columns) = columns else { return Some(Refusal::NoIdentity) };
        if let Some(column) = publishing.filters.iter().find(|name| !columns.contains(name)) {
            return Some(Refusal::Filter { publication: publication(), column: column.clone() });
        }
        if let Some(list) = &publishing.columns {
            let lacking = columns.iter().find(|name| !list.contains(name))?.clone();
            return Some(Refusal::ListLacks { publication: publication(), column: lacking });
        }
        let unpublished = self.unpublished(publishing).find(|name| columns.contains(name))?;
        Some(Refusal::Generated { publication: publication(), column: unpublished.clone() })
    }

    fn refused_whole(&self, publishing: &Publishing) -> Option<Refusal> {
        let publication = publishing.name.clone();
        if publishing.columns.is_some() {
            return Some(Refusal::ListUnderFull { publication });
        }
        let column = self.unpublished(publishing).next()?.clone();
        Some(Refusal::Generated { publication, column })
    }

    /// Generated columns that a publication does not carry and Postgres minds.
    fn unpublished(&self, publishing: &Publishing) -> impl Iterator<Item = &String> {
        let carries_stored = publishing.has_generated;
        let is_judged = self.judges_generated;
        self.generated
            .iter()
            .filter(move |column| is_judged && !(column.is_stored && carries_stored))
            .map(|column| &column.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn member(further: Value, publication: Value) -> Member {
        let mut publishing = json!({
            "name": "p", "is_ours": true, "has_changes": true, "has_generated": false,
            "columns": null, "filters": [],
        });
        publishing.as_object_mut().unwrap().extend(publication.as_object().unwrap().clone());
        let mut member = json!({
            "table": 1, "quoted": "public.t", "identity": "d", "key": ["id"], "index": null,
            "generated": [], "judges_generated": true, "publications": [publishing],
        });
        member.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        serde_json::from_value(member).unwrap()
    }

    fn says(member: &Member, reason: &str, mend: Option<&str>) {
        assert_eq!(member.refusal().map_or(String::new(), |refusal| refusal.words()), reason);
        assert_eq!(member.mend().as_deref(), mend);
    }

    const FULL: Option<&str> = Some("alter table public.t replica identity full;");
    const DEFAULT: Option<&str> = Some("alter table public.t replica identity default;");

    #[test]
    fn a_statement_is_printed_only_where_updates_work_after_it() {
        says(&member(json!({}), json!({})), "", FULL);
        says(&member(json!({ "key": null }), json!({})), "has no replica identity", FULL);
        says(
            &member(json!({ "key": null }), json!({ "columns": ["id"] })),
            "has no replica identity",
            None,
        );
        let list = json!({ "columns": ["id", "body"] });
        says(&member(json!({}), list.clone()), "", DEFAULT);
        let reason = "replica identity is full, and publication p has a list of columns";
        says(&member(json!({ "identity": "f" }), list), reason, DEFAULT);
        let reason =
            "the list of columns in publication p lacks id, which is of the replica identity";
        says(&member(json!({}), json!({ "columns": ["body"] })), reason, None);
        let reason =
            "the row filter in publication p reads body, which is not of the replica identity";
        says(&member(json!({}), json!({ "filters": ["body"] })), reason, FULL);
    }

    #[test]
    fn generated_columns_count_from_18_on() {
        let of = |identity: &str, is_stored: bool, judges: bool, publication: Value| {
            let generated = json!([{ "name": "sum", "is_stored": is_stored }]);
            let further =
                json!({ "identity": identity, "generated": generated, "judges_generated": judges });
            member(further, publication)
        };
        let reason =
            "sum is of the replica identity, and publication p does not carry it: it is generated";
        says(&of("f", true, true, json!({})), reason, DEFAULT);
        says(&of("f", true, true, json!({ "has_generated": true })), "", FULL);
        says(&of("f", false, true, json!({ "has_generated": true })), reason, DEFAULT);
        says(&of("f", true, false, json!({})), "", FULL);
        says(&of("d", false, true, json!({})), "", DEFAULT);
    }

    #[test]
    fn what_would_be_so_is_judged_as_what_is() {
        let member = member(json!({ "key": null }), json!({ "has_changes": false }));
        assert_eq!(member.refusal(), None);
        let refusal = Some(Refusal::NoIdentity);
        assert_eq!(member.refusal_if_changes_were_published(), refusal);
        assert_eq!(member.refusal_in("q", false), refusal);
    }
}
