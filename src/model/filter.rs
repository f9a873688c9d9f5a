//! `column=op.value`: the conditions of a subscription.
//!
//! [`parse()`] reads what a client wrote; binding (the catalog's room) turns it into [`Condition`]s with the help of
//! Postgres. What a condition *means* is said once, in SQL, by [`Condition::sql`]; the router's evaluation in Rust
//! is held to it by test. Deliberately not here: evaluation, and any knowledge of which columns exist.

pub mod inspect;
mod parse;
mod sql;

use std::sync::Arc;

pub use parse::{FilterError, MOST_CONDITIONS, parse};
pub use sql::Parameter;

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
    /// How SQL names the column's type, operators and collation.
    pub spelling: Spelling,
}

/// The SQL names a condition is written with, quoted and qualified where need be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spelling {
    /// The type, domains looked through, without modifier: `integer`, `bpchar`, `extensions.citext`.
    pub type_name: Box<str>,
    /// The schema whose operators compare the type, when it is not `pg_catalog`.
    pub operators: Option<Box<str>>,
    /// The column's own collation, when it is not the database's default.
    pub collation: Option<Box<str>>,
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
    /// What the column is compared with: [`Operand::Text`] as parsed, whatever suits the operator once bound.
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

impl Operator {
    /// All of them, in the order of the protocol's documentation.
    pub const ALL: [Self; 13] = [
        Self::Eq,
        Self::Neq,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
        Self::In,
        Self::Like,
        Self::Ilike,
        Self::Is,
        Self::Match,
        Self::Imatch,
        Self::IsDistinct,
    ];

    /// The word clients write.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Is => "is",
            Self::Match => "match",
            Self::Imatch => "imatch",
            Self::IsDistinct => "isdistinct",
        }
    }

    /// The operator a word means; words are lower-case and exact.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.word() == word)
    }
}

impl Keyword {
    /// The word clients write, which is SQL's.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }

    /// The keyword a word means; words are lower-case and exact.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Null, Self::True, Self::False, Self::Unknown];
        all.into_iter().find(|keyword| keyword.word() == word)
    }
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
    /// Equality is byte equality, order belongs to a locale; ASCII letters change case as everywhere.
    Locale,
    /// Like [`Collation::Locale`], but `i` and `I` are different letters (Turkish, Azeri and kin).
    DottedLocale,
    /// Even equality belongs to the collation (ICU, nondeterministic).
    Nondeterministic,
}
