//! A table as pgoutput described it, at that moment.

use std::sync::Arc;

/// Which old values Postgres writes for UPDATE and DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, and only when it changed (UPDATE) or always (DELETE).
    Default,
    /// The columns of a chosen unique index.
    Index,
    /// The whole old row.
    Full,
    /// Nothing; the source refuses UPDATE and DELETE on a published table.
    Nothing,
}

/// One column of a [`Relation`], in table order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// The type's modifier, -1 when there is none.
    pub typmod: i32,
    /// Whether it belongs to the replica identity's key.
    pub is_key: bool,
}

/// A table as pgoutput described it: valid for the changes that carry it, and only for those.
///
/// Absent here: primary key, policies, privileges. Postgres does not send them; the catalog room knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Counts descriptions received in this session: a new number means "ask the catalog again".
    pub generation: u64,
    /// Schema name (pgoutput sends an empty one for `pg_catalog`; it is filled in here).
    pub schema: Arc<str>,
    /// Table name.
    pub name: Arc<str>,
    /// Which old values arrive.
    pub identity: ReplicaIdentity,
    /// The published columns, in table order.
    pub columns: Box<[Column]>,
}

impl Relation {
    /// The place of the column called `name` in a row of this relation.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
