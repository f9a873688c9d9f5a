//! What a condition means, said in SQL: the one definition that binding checks, the router imitates and the row
//! check asks.
//!
//! Both sides are text and are cast here, so the same words serve a stored value, a WAL value and a probe.

use super::{Condition, Operand, Operator};
use crate::model::Kind;

impl Condition {
    /// The boolean SQL expression of this condition over two SQL expressions.
    ///
    /// `value` is the row's value as `text`. `operand` is what [`Condition::parameter`] returns, usually a
    /// placeholder: `text`, or `text[]` for `in`; conditions with `is` do not use it. `type_name` is the type both
    /// sides are read as: `spelling.type_name`, or the column's new type's name after it changed.
    pub fn sql(&self, type_name: &str, value: &str, operand: &str) -> String {
        let positive = self.positive(type_name, value, operand);
        if self.predicate.negated { format!("(not {positive})") } else { positive }
    }

    /// The operand as parameters are sent: one text, or one per element of an `in` list.
    pub fn parameter(&self) -> Parameter<'_> {
        match &self.predicate.operand {
            Operand::Text(text) => Parameter::Text(text),
            Operand::List(elements) => {
                Parameter::List(elements.iter().map(Option::as_deref).collect())
            }
            Operand::Keyword(_) => Parameter::None,
        }
    }

    fn positive(&self, type_name: &str, value: &str, operand: &str) -> String {
        let typed = format!("({value})::{type_name}");
        let left = self.collated(&typed);
        let right = format!("({operand})::{type_name}");
        match self.predicate.operator {
            Operator::Eq => format!("({left} {} {right})", self.symbol("=")),
            Operator::Neq => format!("({left} {} {right})", self.symbol("<>")),
            Operator::Lt => format!("({left} {} {right})", self.symbol("<")),
            Operator::Lte => format!("({left} {} {right})", self.symbol("<=")),
            Operator::Gt => format!("({left} {} {right})", self.symbol(">")),
            Operator::Gte => format!("({left} {} {right})", self.symbol(">=")),
            Operator::In => self.any(type_name, &left, operand),
            Operator::Like => self.alike("~~", type_name, value, operand),
            Operator::Ilike => self.alike("~~*", type_name, value, operand),
            Operator::Match => self.alike("~", type_name, value, operand),
            Operator::Imatch => self.alike("~*", type_name, value, operand),
            Operator::Is => {
                let Operand::Keyword(keyword) = self.predicate.operand else {
                    return "null::boolean".to_owned();
                };
                format!("({typed} is {})", keyword.word())
            }
            // `is distinct from` cannot name a schema for its operator; an operand is never null.
            Operator::IsDistinct if self.spelling.operators.is_some() => {
                format!("({typed} is null or not ({left} {} {right}))", self.symbol("="))
            }
            Operator::IsDistinct => format!("({left} is distinct from {right})"),
        }
    }

    /// `= any`, which for arrays would compare with elements of elements and is spelled out.
    fn any(&self, type_name: &str, left: &str, operand: &str) -> String {
        let equals = self.symbol("=");
        let Kind::Array { .. } = self.sql_type.base().kind else {
            return format!("({left} {equals} any (({operand})::{type_name}[]))");
        };
        let Operand::List(elements) = &self.predicate.operand else {
            return "null::boolean".to_owned();
        };
        let each = |place| format!("{left} {equals} (({operand})[{place}])::{type_name}");
        let all: Vec<_> = (1..=elements.len()).map(each).collect();
        if all.is_empty() { "false".to_owned() } else { format!("({})", all.join(" or ")) }
    }

    /// Patterns look at text: a `bpchar` without its padding, a `bytea` as hexadecimal digits. A type with pattern
    /// operators of its own (`citext`) keeps them.
    fn alike(&self, symbol: &str, type_name: &str, value: &str, operand: &str) -> String {
        match self.sql_type.base().kind {
            Kind::Bytea => {
                format!("(encode(({value})::bytea, 'hex') {symbol} ({operand})::text)")
            }
            Kind::Text | Kind::BlankPadded => {
                let left = self.collated(&format!("(({value})::{type_name})::text"));
                format!("({left} {symbol} ({operand})::text)")
            }
            _ => {
                let left = self.collated(&format!("({value})::{type_name}"));
                format!("({left} {} ({operand})::{type_name})", self.symbol(symbol))
            }
        }
    }

    fn symbol(&self, symbol: &str) -> String {
        let schema = self.spelling.operators.as_deref();
        schema.map_or_else(|| symbol.to_owned(), |schema| format!("operator({schema}.{symbol})"))
    }

    fn collated(&self, expression: &str) -> String {
        match &self.spelling.collation {
            Some(collation) => format!("({expression} collate {collation})"),
            None => expression.to_owned(),
        }
    }
}

/// A bound operand, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// The condition needs none.
    None,
    /// One `text`.
    Text(&'a str),
    /// One `text[]`.
    List(Vec<Option<&'a str>>),
}
