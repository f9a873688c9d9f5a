//! What a column's type means for rendering and comparing its values.

use std::sync::Arc;

/// A column's type: the name clients see, and how its text is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqlType {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.typname`, as clients see it in `columns[].type` (`int4`, `_text`, `bpchar`).
    pub name: Arc<str>,
    /// How its text form is read.
    pub kind: Kind,
}

/// How a value's text form is read. Domains are resolved to what they are based on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `bool`: text `t` or `f`.
    Bool,
    /// `int2`, `int4`, `int8`.
    Integer,
    /// `numeric`.
    Numeric,
    /// `float4`, `float8`.
    Float,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `bytea`, in hex output.
    Bytea,
    /// `date`.
    Date,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`, in UTC output.
    TimestampTz,
    /// `uuid`.
    Uuid,
    /// `text`, `varchar`, `name`: compared as text under the column's collation.
    Text,
    /// `bpchar`: text whose trailing blanks do not count in comparisons.
    BlankPadded,
    /// An enum, with its labels in sort order.
    Enum(Arc<[Box<str>]>),
    /// `hstore`.
    Hstore,
    /// An array.
    Array {
        /// What it is made of.
        element: Arc<SqlType>,
        /// What stands between two elements: the element type's own (`,` for most, `;` for `box`).
        delimiter: char,
    },
    /// A composite.
    Composite(Composite),
    /// A domain: what it is based on.
    Domain(Arc<SqlType>),
    /// Everything else: a JSON string of Postgres' text output.
    Other,
}

/// The attributes of a composite type, in order.
pub type Attributes = Arc<[(Box<str>, SqlType)]>;

/// A composite type as it is, and as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Composite {
    /// What its values have now.
    pub attributes: Attributes,
    /// What they had earlier, the latest first, as far as it is known: values from the past may have these.
    pub earlier: Arc<[Attributes]>,
}

impl SqlType {
    /// The type a value has once domains are looked through.
    pub fn base(&self) -> &Self {
        match &self.kind {
            Kind::Domain(base) => base.base(),
            _ => self,
        }
    }
}
