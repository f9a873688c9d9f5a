//! Does this row pass this condition? Three-valued, as SQL is, and honest about what only Postgres knows.

use std::cell::Cell;
use std::cmp::Ordering;

use super::compare::{self, Relation};
use super::like::{self, Fold};
use super::pattern::Pattern;
use crate::model::Kind;
use crate::model::filter::{Collation, Condition, Keyword, Operand, Operator};

/// What a condition makes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds.
    Passes,
    /// It is false or null.
    Fails,
    /// Postgres must say.
    Undecided,
}

/// A condition ready to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test<'a> {
    pub(super) condition: &'a Condition,
    /// For `match` and `imatch`, when the pattern is simple enough; see [`pattern_of`].
    pub(super) pattern: Option<&'a Pattern>,
    /// Steps taken, about one for each byte that was looked at with some care.
    pub(super) steps: &'a Cell<usize>,
}

/// Lists of no more elements cost little.
const SHORT_LIST: usize = 8;

/// Whether evaluating a condition may cost more than a few steps.
pub(super) fn is_costly(condition: &Condition) -> bool {
    match (condition.predicate.operator, &condition.predicate.operand) {
        (Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch, _) => true,
        (_, Operand::List(elements)) => SHORT_LIST < elements.len(),
        _ => false,
    }
}

/// The pattern of a condition that has one both sides agree on.
pub(super) fn pattern_of(condition: &Condition) -> Option<Pattern> {
    let Operand::Text(text) = &condition.predicate.operand else { return None };
    match condition.predicate.operator {
        Operator::Match => Pattern::compile(text, false),
        Operator::Imatch => Pattern::compile(text, true),
        _ => None,
    }
}

/// An SQL boolean, or the lack of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Null,
    Unknown,
}

impl From<bool> for Truth {
    fn from(is_true: bool) -> Self {
        if is_true { Self::True } else { Self::False }
    }
}

impl Test<'_> {
    /// Runs it on a value's text (`None` is SQL null) of the type `type_oid`.
    pub(super) fn run(self, type_oid: u32, value: Option<&str>) -> Verdict {
        if type_oid != self.condition.sql_type.oid {
            return Verdict::Undecided;
        }
        match (self.truth(value), self.condition.predicate.negated) {
            (Truth::True, false) | (Truth::False, true) => Verdict::Passes,
            (Truth::False | Truth::Null, false) | (Truth::True | Truth::Null, true) => {
                Verdict::Fails
            }
            (Truth::Unknown, _) => Verdict::Undecided,
        }
    }

    fn truth(self, value: Option<&str>) -> Truth {
        let Condition { predicate, sql_type, collation, .. } = self.condition;
        match (&predicate.operand, value) {
            (Operand::Keyword(keyword), _) => self.is(*keyword, value),
            (Operand::List(elements), _) => self.any(elements, value),
            (Operand::Text(_), None) if predicate.operator == Operator::IsDistinct => Truth::True,
            (Operand::Text(_), None) => Truth::Null,
            (Operand::Text(operand), Some(value)) => match predicate.operator {
                Operator::Like => self.like(value, operand, Fold::Exact),
                Operator::Ilike => self.like(value, operand, Fold::AsciiCase),
                Operator::Match | Operator::Imatch => self.regex(value),
                operator => {
                    compared(operator, compare::compare(sql_type, *collation, value, operand))
                }
            },
        }
    }

    fn is(self, keyword: Keyword, value: Option<&str>) -> Truth {
        let is_composite = matches!(self.condition.sql_type.base().kind, Kind::Composite(_));
        match (keyword, value) {
            // A composite all of whose attributes are null is null, and yet is sent.
            (Keyword::Null | Keyword::Unknown, Some(_)) if is_composite => Truth::Unknown,
            (Keyword::Null | Keyword::Unknown, None)
            | (Keyword::True, Some("t"))
            | (Keyword::False, Some("f")) => Truth::True,
            _ => Truth::False,
        }
    }

    fn any(self, elements: &[Option<Box<str>>], value: Option<&str>) -> Truth {
        let Condition { sql_type, collation, .. } = self.condition;
        let Some(value) = value else {
            return if elements.is_empty() { Truth::False } else { Truth::Null };
        };
        let mut found = Truth::False;
        self.take(elements.len().saturating_mul(1 + value.len() / 8));
        for element in elements {
            let Some(element) = element else {
                found = if found == Truth::False { Truth::Null } else { found };
                continue;
            };
            let relation = compare::compare(sql_type, *collation, value, element);
            match compared(Operator::Eq, relation) {
                Truth::True => return Truth::True,
                Truth::Unknown => found = Truth::Unknown,
                Truth::False | Truth::Null => (),
            }
        }
        found
    }

    /// The text a pattern looks at; `None` when the type has pattern operators of its own.
    fn subject(self, value: &str) -> Option<&str> {
        match self.condition.sql_type.base().kind {
            Kind::Text => Some(value),
            Kind::BlankPadded => Some(value.trim_end_matches(' ')),
            Kind::Bytea => value.strip_prefix("\\x"),
            _ => None,
        }
    }

    fn like(self, value: &str, pattern: &str, fold: Fold) -> Truth {
        let Some(value) = self.subject(value) else { return Truth::Unknown };
        let is_folded = fold == Fold::AsciiCase;
        if self.condition.collation == Collation::Nondeterministic
            || (is_folded && !self.folds_as_ascii(value, pattern))
        {
            return Truth::Unknown;
        }
        let (found, steps) = like::matches(value, pattern, fold);
        self.take(steps);
        found.map_or(Truth::Unknown, Truth::from)
    }

    fn regex(self, value: &str) -> Truth {
        let (Some(value), Some(pattern)) = (self.subject(value), self.pattern) else {
            return Truth::Unknown;
        };
        let ignores_case = self.condition.predicate.operator == Operator::Imatch;
        if self.condition.collation == Collation::Nondeterministic
            || (ignores_case && !self.folds_as_ascii(value, ""))
        {
            return Truth::Unknown;
        }
        self.take(pattern.steps(value));
        pattern.is_match(value).map_or(Truth::Unknown, Truth::from)
    }

    fn take(self, steps: usize) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    /// Whether case is what ASCII says it is.
    fn folds_as_ascii(self, value: &str, pattern: &str) -> bool {
        let is_plain = match self.condition.collation {
            Collation::Bytes | Collation::Locale => true,
            Collation::DottedLocale | Collation::Nondeterministic => false,
        };
        is_plain && value.is_ascii() && pattern.is_ascii()
    }
}

/// What an operator makes of how the row's value relates to the operand.
fn compared(operator: Operator, relation: Relation) -> Truth {
    let ordering = match relation {
        Relation::Ordered(ordering) => ordering,
        Relation::Different => {
            return match operator {
                Operator::Eq | Operator::In => Truth::False,
                Operator::Neq | Operator::IsDistinct => Truth::True,
                _ => Truth::Unknown,
            };
        }
        Relation::Unknown => return Truth::Unknown,
    };
    match operator {
        Operator::Eq | Operator::In => (ordering == Ordering::Equal).into(),
        Operator::Neq | Operator::IsDistinct => (ordering != Ordering::Equal).into(),
        Operator::Lt => (ordering == Ordering::Less).into(),
        Operator::Lte => (ordering != Ordering::Greater).into(),
        Operator::Gt => (ordering == Ordering::Greater).into(),
        Operator::Gte => (ordering != Ordering::Less).into(),
        Operator::Like | Operator::Ilike | Operator::Is | Operator::Match | Operator::Imatch => {
            Truth::Unknown
        }
    }
}
