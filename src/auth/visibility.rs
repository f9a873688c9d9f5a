//! Which rows a principal may read: the tables' own policies, judged by Postgres on the row image.

use std::sync::Arc;

use crate::model::filter::Condition;
use crate::model::table::Policy;
use crate::model::{Principal, Table};

/// One thing to ask Postgres on behalf of a principal.
#[derive(Clone, Debug)]
pub enum Question {
    /// May the principal read these rows of the table?
    Readable {
        /// The table, whose policy for the principal's role is the one asked.
        table: Arc<Table>,
        /// The policy.
        policy: Arc<Policy>,
        /// The rows.
        rows: Vec<Asked>,
    },
    /// Do these values pass the condition?
    Passes {
        /// The condition.
        condition: Condition,
        /// `pg_type.oid` of the values.
        type_oid: u32,
        /// The values' text; `None` is SQL null.
        values: Vec<Option<String>>,
    },
}

impl Question {
    /// How many rows or values it asks about.
    pub const fn len(&self) -> usize {
        match self {
            Self::Readable { rows, .. } => rows.len(),
            Self::Passes { values, .. } => values.len(),
        }
    }

    /// Whether it asks about nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same question about each row or value alone.
    pub fn split(self) -> Vec<Self> {
        match self {
            Self::Readable { table, policy, rows } => {
                let alone = |row| Self::Readable {
                    table: Arc::clone(&table),
                    policy: Arc::clone(&policy),
                    rows: vec![row],
                };
                rows.into_iter().map(alone).collect()
            }
            Self::Passes { condition, type_oid, values } => {
                let alone = |value| Self::Passes {
                    condition: condition.clone(),
                    type_oid,
                    values: vec![value],
                };
                values.into_iter().map(alone).collect()
            }
        }
    }
}

/// One row to be judged.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The row image as a JSON object (see `rowjson::push_image`).
    pub image: String,
    /// Values are missing from the image (unchanged TOAST): the row must be read by key.
    pub is_partial: bool,
}

/// Why Postgres did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The policy or the condition raised an error: SQLSTATE and message (without row contents).
    Failed {
        /// The SQLSTATE.
        code: String,
        /// The message.
        message: String,
    },
    /// It took longer than the check timeout.
    TimedOut,
    /// Postgres could not be asked, after retries.
    Unavailable,
}

/// Asks Postgres. Shared.
#[derive(Debug)]
pub struct Visibility {}

impl Visibility {
    /// Connections are opened when first needed, `pool` per role.
    pub fn new(
        _target: crate::postgres::Target,
        _settings: &crate::config::Postgres,
        _metrics: crate::metrics::Metrics,
        _stage: crate::shutdown::Stage,
    ) -> Arc<Self> {
        todo!()
    }

    /// Answers every question, in order, one verdict per row or value, as the principal sees the database once all
    /// of `xids` are visible (waits for that). A question that fails does not touch the others.
    pub async fn judge(
        &self,
        _principal: &Principal,
        _xids: &[u32],
        _questions: Vec<Question>,
    ) -> Vec<Result<Vec<bool>, Trouble>> {
        todo!()
    }

    /// Values of generated columns for rows of `table`: one list of texts per row, in the order of `expressions`.
    /// Runs as one of the allowed roles.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub async fn generate(
        &self,
        _table: &Table,
        _expressions: &[&str],
        _images: Vec<String>,
    ) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        todo!()
    }
}
