//! What one binding asks for.

use std::sync::Arc;

use super::change::Event;
use super::filter::Filter;

/// One wish of one channel: which table, which events, which rows, which columns.
///
/// Equal wishes are equal values, so they can be interned: a filter runs once however many clients wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// Which tables.
    pub target: Target,
    /// The one event asked for, or all.
    pub event: Option<Event>,
    /// Conditions, all of which must hold; operands are in Postgres' canonical text.
    pub filter: Filter,
    /// Columns asked for, sorted; `None` means all. Primary-key columns always come along.
    pub select: Option<Arc<[Box<str>]>>,
}

/// Which tables a wish covers. Names are exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One table.
    Table {
        /// Schema name.
        schema: Box<str>,
        /// Table name.
        table: Box<str>,
    },
    /// Every published table of a schema.
    Schema(Box<str>),
    /// Every published table.
    All,
}
