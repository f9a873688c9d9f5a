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
    /// Whether it is partitioned: its rows are those of its partitions.
    pub is_partitioned: bool,
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
    /// How SQL names its type with modifiers, domains looked through: a value of the log was checked when it was written.
    pub cast: Box<str>,
    /// For a generated column, how it is made.
    pub generated: Option<Generated>,
}

/// How a generated column is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// An expression over the other columns, as SQL, of the column's type with domains looked through.
    pub expression: Box<str>,
    /// Names of the columns it reads.
    pub reads: Box<[Arc<str>]>,
}

/// What one role may read of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Names of the columns it may SELECT.
    pub columns: Columns,
    /// Which rows it may see.
    pub rows: Rows,
    /// Changes with everything that this was read from: grants, policies, the role's attributes and memberships.
    pub fingerprint: i64,
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
    /// What it reads of a row.
    pub reads: Reads,
    /// Who can name everything it names.
    pub names: Names,
}

/// What policies read of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Names of columns.
    pub columns: Box<[Arc<str>]>,
    /// Places of the columns whose values are needed for that: those that are read, and what generated ones among them are
    /// made of. Generated ones are computed.
    pub needed: Box<[usize]>,
    /// The row as a whole, so all its columns.
    pub whole_row: bool,
    /// The system column `tableoid`.
    pub table_oid: bool,
    /// What only a stored row has: other system columns.
    pub stored: bool,
}

impl Policy {
    /// What stands for the policies where all rows are visible, or none.
    pub fn constant(is_visible: bool) -> Self {
        let expression = if is_visible { "true" } else { "false" };
        Self { expression: expression.into(), reads: Reads::default(), names: Names::Own }
    }

    /// Whether it says the same of every row, to everybody.
    pub fn is_constant(&self) -> bool {
        matches!(&*self.expression, "true" | "false")
    }
}

impl Reads {
    /// What is needed to read these columns of a table.
    pub fn of_columns(names: impl IntoIterator<Item = Arc<str>>, columns: &[TableColumn]) -> Self {
        Self { columns: names.into_iter().collect(), ..Self::default() }.resolved(columns)
    }

    /// The same, with the places of what is needed in a table with these columns.
    #[must_use]
    pub fn resolved(mut self, columns: &[TableColumn]) -> Self {
        let read: Vec<&TableColumn> = self.of(columns).collect();
        let makes = |column: &TableColumn| {
            let mut made = read.iter().filter_map(|column| column.generated.as_ref());
            made.any(|generated| generated.reads.contains(&column.name))
        };
        let needed = columns.iter().enumerate().filter(|(_, column)| {
            let is_read = read.iter().any(|read| read.name == column.name);
            column.generated.is_none() && (is_read || makes(column))
        });
        let needed = needed.map(|(at, _)| at).collect();
        self.needed = needed;
        self
    }

    /// Those of a table's columns that are read.
    pub fn of<'a>(&self, columns: &'a [TableColumn]) -> impl Iterator<Item = &'a TableColumn> {
        columns.iter().filter(|column| self.whole_row || self.columns.contains(&column.name))
    }
}

/// Who can name everything that policies name. Row security runs a policy as it was parsed; whoever parses its text needs
/// the schemas it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// The role itself.
    Own,
    /// Not the role, but this one.
    Of(Box<str>),
    /// Nobody whom the relay can act as.
    Nobodys,
}

impl Table {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// A role that sees every row of it, and may read its key.
    pub fn unhindered(&self) -> Option<&str> {
        let keys = || self.columns.iter().filter(|column| column.is_primary_key);
        let sees = |access: &Access| {
            access.rows == Rows::All && keys().all(|key| access.columns.allow(&key.name))
        };
        let found = self.access.iter().filter(|(_, access)| sees(access));
        found.map(|(role, _)| &**role).min()
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
