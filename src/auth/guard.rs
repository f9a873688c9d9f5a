//! Whether plans of a table's checks may be kept, and whether the text of its policies means what the policies do.
//!
//! A kept plan holds what functions that claim to be immutable gave to whoever asked first. Policies reach such
//! functions by themselves, through functions, views, and the policies of other tables. Where they do, every question
//! is planned anew, in functions as well.
//!
//! Row security runs policies as they were parsed; a check parses their text again, and whoever may create functions on
//! the search path can have made one that fits better by then. Such a table's rows are looked for in the table itself.
//!
//! Promises: what a guard was read from is compared after every answer, so an
//! answer by an outdated guard never counts.

use std::sync::Arc;

use futures_util::future::{join, join5};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use tracing::warn;

use crate::postgres::quote::fill;
use crate::postgres::rights::{fingerprint_of, versions_of_rights};

const VERSIONS: &str = include_str!("../../sql/queries/fingerprint_guard.sql");

/// How a question begins whose plan is kept.
pub(super) const BEGIN: &str = "begin isolation level read committed read only";
/// How a question begins whose plan may hold what it computed for one principal. Functions keep plans of their own,
/// which the setting does not reach.
pub(super) const BEGIN_REPLANNING: &str = "begin isolation level read committed read only; discard plans; set local plan_cache_mode = force_custom_plan";

/// How a question ends.
pub(super) const END: &str = "rollback";
/// How one ends whose policies may take locks that belong to the session: those outlive a rollback.
pub(super) const END_UNLOCKING: &str = "rollback; select pg_catalog.pg_advisory_unlock_all()";

/// Names are printed in one way, whatever the role has set.
const BEGIN_READING: &str =
    "begin isolation level repeatable read read only; set local quote_all_identifiers = off";

/// What was found out about one table.
#[derive(Debug)]
pub(super) struct Guard {
    /// How its questions begin.
    pub(super) begin: &'static str,
    /// How they end.
    pub(super) end: &'static str,
    /// Whether the text of its policies means something else than they do.
    pub(super) is_shadowed: bool,
    /// Functions that its policies reach.
    pub(super) functions: Vec<u32>,
    /// Tables and views that its policies reach, itself included.
    pub(super) relations: Vec<u32>,
    /// What it was read from.
    pub(super) fingerprint: i64,
}

impl Guard {
    /// Reads it for a table.
    pub(super) async fn read(client: &Client, table: u32) -> Result<Arc<Self>, Error> {
        let fingerprint = fingerprint_of(&fill(
            VERSIONS,
            &[("functions", "found.functions"), ("relations", "found.relations")],
        ));
        let text = fill(
            include_str!("../../sql/queries/visibility_guard.sql"),
            &[("fingerprint", &fingerprint)],
        );
        let printed = fill(include_str!("../../sql/queries/visibility_text.sql"), &[]);
        let printed = client.prepare_typed(&printed, &[Type::OID]).await?;
        // Polled in this order, so sent in this order.
        let (begun, row, here, bare, committed) = join5(
            client.batch_execute(BEGIN_READING),
            client.query_one(&text, &[&table]),
            client.query_one(&printed, &[&table]),
            async {
                let (bared, bare) = join(
                    client.batch_execute("set local search_path = pg_catalog"),
                    client.query_one(&printed, &[&table]),
                )
                .await;
                bared.and(bare)
            },
            client.batch_execute("commit"),
        )
        .await;
        begun?;
        let (row, here, bare) = (row?, here?, bare?);
        committed?;
        let qualified =
            |row: &Row| row.try_get("text").map(|text: &str| text.matches("pg_catalog.").count());
        let has_namesake: bool = row.try_get("has_namesake")?;
        let is_shadowed = has_namesake || qualified(&bare)? < qualified(&here)?;
        if is_shadowed {
            warn!(
                oid = table,
                "a function or an operator has the name of one that a policy of this table uses; its rows are looked for in the table, so those deleted are withheld"
            );
        }
        let begin = if row.try_get("is_folded")? { BEGIN_REPLANNING } else { BEGIN };
        let end = if row.try_get("may_lock")? { END_UNLOCKING } else { END };
        Ok(Arc::new(Self {
            begin,
            end,
            is_shadowed,
            functions: row.try_get("functions")?,
            relations: row.try_get("relations")?,
            fingerprint: row.try_get("fingerprint")?,
        }))
    }
}

/// The statement that gives the fingerprints of functions `$1`, relations `$2`, a table `$3`, a role `$4` and what it is a member
/// of, `$5`.
pub(super) fn fingerprints() -> String {
    let places = [("functions", "$1::pg_catalog.oid[]"), ("relations", "$2::pg_catalog.oid[]")];
    let guard = fill(VERSIONS, &places);
    let rights = versions_of_rights("$3::pg_catalog.oid", "$5::pg_catalog.oid[]");
    let session = fill(
        include_str!("../../sql/queries/fingerprint_session.sql"),
        &[("role", "$4::pg_catalog.oid")],
    );
    fill(
        include_str!("../../sql/queries/visibility_fingerprints.sql"),
        &[("guard", &guard), ("rights", &rights), ("session", &session)],
    )
}
