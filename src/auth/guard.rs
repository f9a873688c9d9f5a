//! Whether plans of a table's checks may be kept.
//!
//! A kept plan holds what functions that claim to be immutable gave to whoever asked first. Policies reach such
//! functions by themselves, through functions, views, and the policies of other tables. Where they do, every question
//! is planned anew, in functions as well. Promises: what a guard was read from is compared after every answer, so an
//! answer by an outdated guard never counts.

use std::sync::Arc;

use tokio_postgres::{Client, Error};

use super::quote::fill;

const MARK: &str = include_str!("../../sql/queries/visibility_mark.sql");

/// How a question begins whose plan is kept.
pub(super) const BEGIN: &str = "begin isolation level read committed read only";
/// How a question begins whose plan may hold what it computed for one principal. Functions keep plans of their own,
/// which the setting does not reach.
pub(super) const BEGIN_REPLANNING: &str = "begin isolation level read committed read only; discard plans; set local plan_cache_mode = force_custom_plan";

/// What was found out about one table.
#[derive(Debug)]
pub(super) struct Guard {
    /// How its questions begin.
    pub(super) begin: &'static str,
    /// Functions that its policies reach.
    pub(super) functions: Vec<u32>,
    /// Tables and views that its policies reach, itself included.
    pub(super) relations: Vec<u32>,
    /// What it was read from.
    pub(super) mark: String,
}

impl Guard {
    /// Reads it for a table.
    pub(super) async fn read(client: &Client, table: u32) -> Result<Arc<Self>, Error> {
        let mark =
            fill(MARK, &[("functions", "found.functions"), ("relations", "found.relations")]);
        let text = fill(include_str!("../../sql/queries/visibility_guard.sql"), &[("mark", &mark)]);
        let row = client.query_one(&text, &[&table]).await?;
        let begin = if row.try_get("is_folded")? { BEGIN_REPLANNING } else { BEGIN };
        Ok(Arc::new(Self {
            begin,
            functions: row.try_get("functions")?,
            relations: row.try_get("relations")?,
            mark: row.try_get("mark")?,
        }))
    }
}

/// The statement that gives the mark of functions `$1` and relations `$2`.
pub(super) fn mark() -> String {
    fill(MARK, &[("functions", "$1::pg_catalog.oid[]"), ("relations", "$2::pg_catalog.oid[]")])
}
