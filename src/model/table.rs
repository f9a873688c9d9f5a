//! A table as the catalog knows it now: what pgoutput does not say.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ReplicaIdentity, SqlType};

/// A table as the catalog knew it at one moment. Replaced, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: Arc<str>,
    /// Table name.
    pub name: Arc<str>,
    /// Whether it (or the partitioned table it belongs to) is in the relay's publication.
    pub is_published: bool,
    /// Whether row level security is enabled on it.
    pub has_row_security: bool,
    /// Which old values its changes carry.
    pub identity: ReplicaIdentity,
    /// Live columns in attribute order, generated ones included.
    pub columns: Box<[TableColumn]>,
    /// The partitioned tables it is a partition of, nearest first (oids).
    pub ancestors: Box<[u32]>,
    /// What each allowed role may read. A role that does not exist in Postgres is absent.
    pub access: HashMap<Box<str>, Access>,
}

/// One live column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether it belongs to the primary key.
    pub is_primary_key: bool,
    /// For a generated column, its expression over the other columns, as SQL.
    pub generated: Option<Box<str>>,
}

/// What one role may read of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Names of the columns it may SELECT.
    pub columns: Columns,
    /// Which rows it may see.
    pub rows: Rows,
}

/// Which columns a role may SELECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// All, whatever they are called (SELECT on the table).
    All,
    /// These (grants on columns); possibly none.
    Only(Box<[Arc<str>]>),
}

/// Which rows a role may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every row: no row security, or it does not apply to the role.
    All,
    /// No row: row security without a policy that applies.
    None,
    /// The rows for which the policies hold.
    Policy(Arc<Policy>),
}

/// The policies that apply to a role, as one boolean expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// SQL over the table's columns, under the table's own name.
    pub expression: Box<str>,
    /// The expression names what a row image lacks (system columns): the row must be read by key instead.
    pub needs_stored_row: bool,
}

impl Table {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// Whether it has a primary key.
    pub fn has_primary_key(&self) -> bool {
        self.columns.iter().any(|column| column.is_primary_key)
    }
}

impl Columns {
    /// Whether the column called `name` may be read.
    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|allowed| &**allowed == name),
        }
    }
}
