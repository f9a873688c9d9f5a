//! Who asked: (schema, table, event, row) → the bindings whose filters pass.
//!
//! Pure and synchronous. Equal wishes are one binding. Per change, cost follows the bindings that match through the
//! index (`index`) plus those no index serves; nothing is allocated when nothing matches. What Rust cannot decide
//! exactly as Postgres would is handed on undecided, never guessed (`eval`). Deliberately not here: who may see a
//! row, and which clients stand behind a binding.

mod compare;
mod eval;
mod index;
mod like;
mod moment;
mod number;
mod pattern;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use self::eval::{Test, Verdict};
use self::index::{Bindings, Place, Seen};
use self::pattern::Pattern;
use crate::model::{Cell, Event, Relation, ReplicaIdentity, Row, Subscription, Target};

/// An interned wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub u32);

/// A binding that a row may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The binding.
    pub binding: BindingId,
    /// Places, in its filter, of the conditions only Postgres can decide. Empty: all conditions passed.
    pub undecided: SmallVec<[usize; 2]>,
}

/// The index of all wishes.
#[derive(Debug, Default)]
pub struct Router {
    slots: Vec<Option<Slot>>,
    free: Vec<BindingId>,
    ids: HashMap<Arc<Subscription>, BindingId, RandomState>,
    tables: HashMap<Box<str>, HashMap<Box<str>, Bindings, RandomState>, RandomState>,
    schemas: HashMap<Box<str>, Bindings, RandomState>,
    everything: Bindings,
}

/// One binding.
#[derive(Debug)]
struct Slot {
    subscription: Arc<Subscription>,
    /// One per condition, or none at all when no condition has one.
    patterns: Box<[Option<Pattern>]>,
    insertions: usize,
    place: Place,
}

impl Router {
    /// Interns a wish. Equal wishes get one id, counted as often as they are inserted.
    pub fn insert(&mut self, subscription: &Arc<Subscription>) -> BindingId {
        if let Some(&binding) = self.ids.get(subscription) {
            if let Some(slot) = self.slot_mut(binding) {
                slot.insertions += 1;
            }
            return binding;
        }
        let binding = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            BindingId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        let place = self.bindings_mut(&subscription.target).insert(binding, subscription);
        let patterns: Box<[_]> = subscription.filter.iter().map(eval::pattern_of).collect();
        let has_patterns = patterns.iter().any(Option::is_some);
        let slot = Slot {
            subscription: Arc::clone(subscription),
            patterns: if has_patterns { patterns } else { Box::default() },
            insertions: 1,
            place,
        };
        if let Some(free) = self.slots.get_mut(binding.0 as usize) {
            *free = Some(slot);
        }
        self.ids.insert(Arc::clone(subscription), binding);
        binding
    }

    /// Bytes that the compiled patterns of a binding take.
    pub fn pattern_bytes(&self, binding: BindingId) -> usize {
        let slot = self.slots.get(binding.0 as usize).and_then(Option::as_ref);
        let patterns = slot.map_or(&[][..], |slot| &slot.patterns);
        patterns.iter().flatten().map(Pattern::bytes).sum()
    }

    /// Keeps no compiled pattern of a binding: what they decide is undecided from now on.
    pub fn drop_patterns(&mut self, binding: BindingId) {
        if let Some(slot) = self.slot_mut(binding) {
            slot.patterns = Box::default();
        }
    }

    /// Forgets one insertion; the binding disappears with the last. True when it did.
    pub fn remove(&mut self, binding: BindingId) -> bool {
        let Some(slot) = self.slot_mut(binding) else { return false };
        slot.insertions -= 1;
        if slot.insertions != 0 {
            return false;
        }
        let Some(slot) = self.slots.get_mut(binding.0 as usize).and_then(Option::take) else {
            return false;
        };
        self.free.push(binding);
        self.ids.remove(&slot.subscription);
        let target = &slot.subscription.target;
        let moved = self.bindings_mut(target).remove(binding, &slot.subscription, slot.place);
        self.drop_empty(target);
        if let Some(moved) = moved.and_then(|moved| self.slot_mut(moved)) {
            moved.place = slot.place;
        }
        true
    }

    /// The wish behind a binding.
    pub fn subscription(&self, binding: BindingId) -> Option<&Arc<Subscription>> {
        self.slot(binding).map(|slot| &slot.subscription)
    }

    /// Whether anybody asked for this table at all (any event, any filter).
    pub fn wants(&self, schema: &str, table: &str) -> bool {
        !self.everything.is_empty()
            || self.schemas.contains_key(schema)
            || self.tables.get(schema).is_some_and(|tables| tables.contains_key(table))
    }

    /// Adds to `out` every binding on `schema.table` (or a wildcard covering it) that asked for `event` and whose
    /// conditions hold, or may hold, for `row`, whose cells are described by `relation`.
    ///
    /// `row` is the row after an INSERT or UPDATE, the old row of a DELETE; of the latter only the columns that the
    /// replica identity sends count. A cell the row does not tell (unchanged, or not in `relation`) passes nothing.
    pub fn candidates(
        &self,
        (schema, table): (&str, &str),
        event: Event,
        relation: &Relation,
        row: &Row,
        out: &mut Vec<Candidate>,
    ) {
        let view = View { event, relation, row };
        let tables = self.tables.get(schema).and_then(|tables| tables.get(table));
        let schemas = self.schemas.get(schema);
        for bindings in [tables, schemas, Some(&self.everything)].into_iter().flatten() {
            bindings.visit(
                |column, type_oid| view.see(column, type_oid),
                |binding| {
                    let slot = self.slot(binding);
                    if let Some(undecided) = slot.and_then(|slot| slot.passes(view)) {
                        out.push(Candidate { binding, undecided });
                    }
                },
            );
        }
    }

    fn slot(&self, binding: BindingId) -> Option<&Slot> {
        self.slots.get(binding.0 as usize)?.as_ref()
    }

    fn slot_mut(&mut self, binding: BindingId) -> Option<&mut Slot> {
        self.slots.get_mut(binding.0 as usize)?.as_mut()
    }

    fn bindings_mut(&mut self, target: &Target) -> &mut Bindings {
        match target {
            Target::Table { schema, table } => {
                let tables = self.tables.entry(schema.clone()).or_default();
                tables.entry(table.clone()).or_default()
            }
            Target::Schema(schema) => self.schemas.entry(schema.clone()).or_default(),
            Target::All => &mut self.everything,
        }
    }

    fn drop_empty(&mut self, target: &Target) {
        match target {
            Target::Table { schema, table } => {
                let Some(tables) = self.tables.get_mut(schema) else { return };
                if tables.get(table).is_some_and(Bindings::is_empty) {
                    tables.remove(table);
                }
                if tables.is_empty() {
                    self.tables.remove(schema);
                }
            }
            Target::Schema(schema) => {
                if self.schemas.get(schema).is_some_and(Bindings::is_empty) {
                    self.schemas.remove(schema);
                }
            }
            Target::All => (),
        }
    }
}

impl Slot {
    /// The places of undecided conditions, unless one fails or the event is another.
    fn passes(&self, view: View<'_>) -> Option<SmallVec<[usize; 2]>> {
        if self.subscription.event.is_some_and(|event| event != view.event) {
            return None;
        }
        let mut undecided = SmallVec::new();
        for (place, condition) in self.subscription.filter.iter().enumerate() {
            let (type_oid, cell) = view.cell(&condition.predicate.column)?;
            let value = match cell {
                Cell::Null => None,
                Cell::Text(_) => Some(cell.text()?),
                Cell::Unchanged => return None,
            };
            let pattern = self.patterns.get(place).and_then(Option::as_ref);
            match (Test { condition, pattern }).run(type_oid, value) {
                Verdict::Passes => (),
                Verdict::Fails => return None,
                Verdict::Undecided => undecided.push(place),
            }
        }
        Some(undecided)
    }
}

/// A row as filters see it.
#[derive(Clone, Copy)]
struct View<'a> {
    event: Event,
    relation: &'a Relation,
    row: &'a Row,
}

impl<'a> View<'a> {
    /// A column's type and cell, if the row tells it.
    fn cell(self, column: &str) -> Option<(u32, &'a Cell)> {
        let place = self.relation.column(column)?;
        let column = self.relation.columns.get(place)?;
        let is_sent = self.event != Event::Delete
            || self.relation.identity == ReplicaIdentity::Full
            || column.is_key;
        if is_sent { Some((column.type_oid, self.row.cell(place)?)) } else { None }
    }

    fn see(self, column: &str, type_oid: u32) -> Seen<'a> {
        match self.cell(column) {
            Some((found, Cell::Text(_))) if found != type_oid => Seen::OtherType,
            Some((_, cell)) => cell.text().map_or(Seen::Nothing, Seen::Text),
            None => Seen::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
