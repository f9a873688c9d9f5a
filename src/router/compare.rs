//! How two values of one type relate, read from their canonical texts: as Postgres would say, or not at all.
//!
//! Both texts come from Postgres' output functions under the pinned session settings, domains looked through.

use std::cmp::Ordering;

use super::{moment, number};
use crate::model::filter::Collation;
use crate::model::{Kind, SqlType};

/// What is known about two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Their order.
    Ordered(Ordering),
    /// They differ; which is greater, only Postgres knows.
    Different,
    /// Only Postgres knows.
    Unknown,
}

impl From<Option<Ordering>> for Relation {
    fn from(ordering: Option<Ordering>) -> Self {
        ordering.map_or(Self::Unknown, Self::Ordered)
    }
}

const EQUAL: Relation = Relation::Ordered(Ordering::Equal);

/// Relates `left` to `right`, both values of `sql_type`.
pub(super) fn compare(
    sql_type: &SqlType,
    collation: Collation,
    left: &str,
    right: &str,
) -> Relation {
    match &sql_type.base().kind {
        Kind::Bool | Kind::Uuid | Kind::Bytea => Relation::Ordered(left.cmp(right)),
        Kind::Integer => number::integer(left, right).into(),
        Kind::Numeric => number::numeric(left, right).into(),
        Kind::Float => number::float(left, right).into(),
        Kind::Date | Kind::Timestamp | Kind::TimestampTz => moment::compare(left, right).into(),
        Kind::Text => text(collation, left, right),
        Kind::BlankPadded => text(collation, unpadded(left), unpadded(right)),
        Kind::Enum(labels) => label(labels, left, right),
        _ => same_or_not(sql_type, collation, left, right),
    }
}

/// The text that all values equal to this one share, and no other value of the type; `None` when the type has no
/// such text.
pub(super) fn key<'a>(sql_type: &SqlType, collation: Collation, text: &'a str) -> Option<&'a str> {
    match &sql_type.base().kind {
        Kind::Numeric => Some(number::numeric_key(text)),
        Kind::Float => Some(number::float_key(text)),
        Kind::BlankPadded if collation != Collation::Nondeterministic => Some(unpadded(text)),
        Kind::BlankPadded => None,
        _ => is_exact(sql_type, collation).then_some(text),
    }
}

/// A `bpchar` without the blanks that do not count.
fn unpadded(text: &str) -> &str {
    text.trim_end_matches(' ')
}

fn text(collation: Collation, left: &str, right: &str) -> Relation {
    match collation {
        _ if left == right => EQUAL,
        Collation::Bytes => Relation::Ordered(left.cmp(right)),
        Collation::Locale | Collation::DottedLocale => Relation::Different,
        Collation::Nondeterministic => Relation::Unknown,
    }
}

/// Labels sort as they were declared; one added later is different, at a place unknown.
fn label(labels: &[Box<str>], left: &str, right: &str) -> Relation {
    if left == right {
        return EQUAL;
    }
    let place = |text: &str| labels.iter().position(|label| &**label == text);
    match (place(left), place(right)) {
        (Some(left), Some(right)) => Relation::Ordered(left.cmp(&right)),
        _ => Relation::Different,
    }
}

/// For types known by their text alone.
fn same_or_not(sql_type: &SqlType, collation: Collation, left: &str, right: &str) -> Relation {
    let base = sql_type.base();
    if left == right && is_reflexive(base) {
        return EQUAL;
    }
    // Equal jsonb values are written alike but for the scale of their numbers.
    let is_unscaled_jsonb = base.kind == Kind::Jsonb && !left.contains('.') && !right.contains('.');
    if is_unscaled_jsonb || is_exact(base, collation) {
        Relation::Different
    } else {
        Relation::Unknown
    }
}

/// Whether equal texts mean equal values.
fn is_reflexive(sql_type: &SqlType) -> bool {
    let base = sql_type.base();
    match &base.kind {
        Kind::Json | Kind::Composite(_) => false,
        Kind::Array { element, .. } => is_reflexive(element),
        Kind::Other => is_plain(base.oid) || base.oid == INTERVAL,
        _ => true,
    }
}

/// Whether equal texts mean equal values, and different texts different ones.
fn is_exact(sql_type: &SqlType, collation: Collation) -> bool {
    let base = sql_type.base();
    match &base.kind {
        Kind::Bool
        | Kind::Integer
        | Kind::Bytea
        | Kind::Date
        | Kind::Timestamp
        | Kind::TimestampTz
        | Kind::Uuid
        | Kind::Enum(_) => true,
        Kind::Text => collation != Collation::Nondeterministic,
        Kind::Array { element, .. } => is_exact(element, collation),
        Kind::Other => is_plain(base.oid),
        _ => false,
    }
}

/// `interval`: equal values may be written differently (`1 mon`, `30 days`), never the reverse.
const INTERVAL: u32 = 1186;

/// Built-in types whose text tells their value completely: `"char"`, `oid`, `macaddr`, `money`, `macaddr8`, `cidr`,
/// `inet`, `time`, `timetz`, `bit`, `varbit`, `pg_lsn`.
fn is_plain(oid: u32) -> bool {
    matches!(oid, 18 | 26 | 829 | 790 | 774 | 650 | 869 | 1083 | 1266 | 1560 | 1562 | 3220)
}
