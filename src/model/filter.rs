//! `column=op.value`: the conditions of a subscription.

use std::sync::Arc;

use super::SqlType;

/// Conditions, all of which must hold. Empty means every row.
pub type Filter = Arc<[Condition]>;

/// One condition bound to a column: its operand was parsed by Postgres and is in canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The column, operator and operand.
    pub predicate: Predicate,
    /// The column's type when the condition was bound. A later row of another type is asked of Postgres.
    pub sql_type: SqlType,
    /// How text of this column sorts and compares.
    pub collation: Collation,
}

/// One condition as written: `column=[not.]op.value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Predicate {
    /// Column name, taken literally.
    pub column: Box<str>,
    /// Whether `not.` stood before the operator.
    pub negated: bool,
    /// The operator.
    pub operator: Operator,
    /// What the column is compared with.
    pub operand: Operand,
}

/// The thirteen operators of Supabase Realtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `= any (…)`
    In,
    /// `like`
    Like,
    /// `ilike`
    Ilike,
    /// `is null`, `is true`, `is false`, `is unknown`
    Is,
    /// `~`
    Match,
    /// `~*`
    Imatch,
    /// `is distinct from`
    IsDistinct,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A value's text.
    Text(Box<str>),
    /// The elements of an `in` list; `None` is SQL null.
    List(Box<[Option<Box<str>>]>),
    /// The keyword after `is`.
    Keyword(Keyword),
}

/// The keywords `is` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keyword {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// `unknown`
    Unknown,
}

/// How a column's text compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collation {
    /// Byte order (`C`, `POSIX`), or the type has no collation.
    Bytes,
    /// Equality is byte equality, order and case belong to a locale.
    Locale,
    /// Even equality belongs to the collation (ICU, nondeterministic).
    Nondeterministic,
}
