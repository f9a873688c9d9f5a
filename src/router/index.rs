//! One target's bindings, found by value where a filter allows it.
//!
//! A binding with an `eq` or `in` condition on a type whose equal values share a text waits under that text, so a
//! change pays for the bindings it matches, however many there are. All others are looked at one by one.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::BindingId;
use super::compare;
use crate::model::filter::{Collation, Condition, Operand, Operator};
use crate::model::{Kind, SqlType, Subscription};

/// The bindings of one table, one schema, or all tables.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    scanned: Vec<BindingId>,
    keyed: Vec<Keyed>,
}

/// The bindings with an indexed condition on one column, read as one type.
#[derive(Debug)]
struct Keyed {
    column: Box<str>,
    sql_type: SqlType,
    collation: Collation,
    by_key: HashMap<Box<str>, SmallVec<[BindingId; 1]>, RandomState>,
}

/// Where a binding waits; needed to take it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among those looked at one by one.
    Scanned(usize),
    /// Under the values of the condition at this place of its filter.
    Keyed(usize),
}

/// A row seen from the index: the text of a column, if it is there and of that type.
pub(super) enum Seen<'a> {
    /// Its text.
    Text(&'a str),
    /// Null, unchanged or absent: equal to nothing.
    Nothing,
    /// It has another type now: nobody's key can be trusted.
    OtherType,
}

impl Bindings {
    pub(super) fn is_empty(&self) -> bool {
        self.scanned.is_empty() && self.keyed.is_empty()
    }

    /// Adds a binding and tells where it waits.
    pub(super) fn insert(&mut self, binding: BindingId, subscription: &Subscription) -> Place {
        let Some((place, condition)) = indexed(subscription) else {
            self.scanned.push(binding);
            return Place::Scanned(self.scanned.len() - 1);
        };
        let group = match self.keyed.iter().position(|group| group.holds(condition)) {
            Some(found) => found,
            None => {
                self.keyed.push(Keyed::of(condition));
                self.keyed.len() - 1
            }
        };
        if let Some(group) = self.keyed.get_mut(group) {
            for key in keys(condition) {
                let waiting = group.by_key.entry(key.into()).or_default();
                if !waiting.contains(&binding) {
                    waiting.push(binding);
                }
            }
        }
        Place::Keyed(place)
    }

    /// Takes a binding out. When another moved into its place among the scanned, that one is returned.
    pub(super) fn remove(
        &mut self,
        binding: BindingId,
        subscription: &Subscription,
        place: Place,
    ) -> Option<BindingId> {
        match place {
            Place::Scanned(index) => {
                if self.scanned.get(index) == Some(&binding) {
                    self.scanned.swap_remove(index);
                }
                self.scanned.get(index).copied()
            }
            Place::Keyed(condition) => {
                if let Some(condition) = subscription.filter.get(condition) {
                    self.forget(binding, condition);
                }
                None
            }
        }
    }

    fn forget(&mut self, binding: BindingId, condition: &Condition) {
        let Some(index) = self.keyed.iter().position(|group| group.holds(condition)) else {
            return;
        };
        let Some(group) = self.keyed.get_mut(index) else { return };
        for key in keys(condition) {
            if let Some(waiting) = group.by_key.get_mut(key) {
                waiting.retain(|other| *other != binding);
                if waiting.is_empty() {
                    group.by_key.remove(key);
                }
            }
        }
        if group.by_key.is_empty() {
            self.keyed.swap_remove(index);
        }
    }

    /// Calls `visit` with every binding that a row may answer, each once. `see` looks a column up in the row.
    pub(super) fn visit<'a>(
        &self,
        see: impl Fn(&str, u32) -> Seen<'a>,
        mut visit: impl FnMut(BindingId),
    ) {
        self.scanned.iter().copied().for_each(&mut visit);
        for group in &self.keyed {
            match see(&group.column, group.sql_type.oid) {
                Seen::Nothing => (),
                Seen::Text(text) => {
                    let key = compare::key(&group.sql_type, group.collation, text);
                    if let Some(waiting) = key.and_then(|key| group.by_key.get(key)) {
                        waiting.iter().copied().for_each(&mut visit);
                    }
                }
                Seen::OtherType => {
                    let mut all: Vec<_> = group.by_key.values().flatten().copied().collect();
                    all.sort_unstable();
                    all.dedup();
                    all.into_iter().for_each(&mut visit);
                }
            }
        }
    }
}

impl Keyed {
    fn of(condition: &Condition) -> Self {
        Self {
            column: condition.predicate.column.clone(),
            sql_type: condition.sql_type.clone(),
            collation: condition.collation,
            by_key: HashMap::default(),
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        *self.column == *condition.predicate.column
            && self.sql_type == condition.sql_type
            && self.collation == condition.collation
    }
}

/// The condition to index by, and its place: one value before several, many possible values before few.
fn indexed(subscription: &Subscription) -> Option<(usize, &Condition)> {
    let conditions = subscription.filter.iter().enumerate();
    conditions.filter(|(_, condition)| can_index(condition)).min_by_key(|(_, condition)| {
        let has_few = matches!(condition.sql_type.base().kind, Kind::Bool | Kind::Enum(_));
        (has_few, condition.predicate.operator == Operator::In)
    })
}

fn can_index(condition: &Condition) -> bool {
    let is_equality = matches!(condition.predicate.operator, Operator::Eq | Operator::In);
    let has_keys = compare::key(&condition.sql_type, condition.collation, "").is_some();
    is_equality && !condition.predicate.negated && has_keys
}

/// The keys a row's value must be one of.
fn keys(condition: &Condition) -> impl Iterator<Item = &str> {
    let (one, many): (Option<&str>, &[Option<Box<str>>]) = match &condition.predicate.operand {
        Operand::Text(text) => (Some(text), &[]),
        Operand::List(elements) => (None, elements),
        Operand::Keyword(_) => (None, &[]),
    };
    let texts = one.into_iter().chain(many.iter().filter_map(Option::as_deref));
    texts.filter_map(|text| compare::key(&condition.sql_type, condition.collation, text))
}
