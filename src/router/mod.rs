//! Who asked: (schema, table, event, row) → the bindings whose filters pass.
//!
//! Pure and synchronous. Equal wishes are one binding, and equal costly conditions are evaluated once a change (`shared`).
//! Per change, cost follows the bindings that match through the index (`index`) plus those no index serves, and the steps
//! that their conditions take are bounded (`budget`); nothing is allocated when nothing matches. What Rust cannot decide
//! exactly as Postgres would, or not within its budget, is handed on undecided, never guessed (`eval`). Deliberately not here: who may see a
//! row, and which clients stand behind a binding.

mod budget;
mod compare;
mod eval;
mod index;
mod like;
mod moment;
mod number;
mod pattern;
mod shared;

use std::cell::Cell as Counter;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use self::eval::{Test, Verdict};
use self::index::{Bindings, Place, Seen};
use self::pattern::Pattern;
use self::shared::{Shared, SharedId};
use crate::model::filter::Condition;
use crate::model::{Cell, Event, Relation, ReplicaIdentity, Row, Subscription, Target};

pub use self::budget::{CallerKey, StepBudget};

/// An interned wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub u32);

/// A binding that a row may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The binding.
    pub binding: BindingId,
    /// Places, in its filter, of the conditions that Postgres has to decide. Empty: all conditions passed.
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
    shared: Shared,
}

/// One binding.
#[derive(Debug)]
struct Slot {
    subscription: Arc<Subscription>,
    /// One per condition, or none at all when all cost little.
    costly: Box<[Option<SharedId>]>,
    /// Who pays for the costly ones; `None` when several do.
    owner: Option<CallerKey>,
    /// Whether the patterns of the costly ones are kept for it.
    keeps_patterns: bool,
    insertions: usize,
    place: Place,
}

impl Router {
    /// Interns a wish of `owner`. Equal wishes get one id, counted as often as they are inserted.
    pub fn insert(&mut self, subscription: &Arc<Subscription>, owner: CallerKey) -> BindingId {
        if let Some(&binding) = self.ids.get(subscription) {
            if let Some(slot) = self.slot_mut(binding) {
                slot.insertions += 1;
                slot.owner = slot.owner.filter(|first| *first == owner);
            }
            return binding;
        }
        let binding = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            BindingId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        let place = self.bindings_mut(&subscription.target).insert(binding, subscription);
        let filter = subscription.filter.iter();
        let costly: Box<[_]> = filter.map(|condition| self.shared.insert(condition)).collect();
        let has_costly = costly.iter().any(Option::is_some);
        let slot = Slot {
            subscription: Arc::clone(subscription),
            costly: if has_costly { costly } else { Box::default() },
            owner: Some(owner),
            keeps_patterns: true,
            insertions: 1,
            place,
        };
        if let Some(free) = self.slots.get_mut(binding.0 as usize) {
            *free = Some(slot);
        }
        self.ids.insert(Arc::clone(subscription), binding);
        binding
    }

    /// Bytes that the compiled patterns of a binding take. Those it has in common with others count for each.
    pub fn pattern_bytes(&self, binding: BindingId) -> usize {
        let costly = self.slot(binding).map_or(&[][..], |slot| &slot.costly);
        costly.iter().flatten().filter_map(|id| self.shared.pattern(*id)).map(Pattern::bytes).sum()
    }

    /// Keeps no compiled pattern for the sake of a binding: what only its own decide is undecided from now on.
    pub fn drop_patterns(&mut self, binding: BindingId) {
        let Self { slots, shared, .. } = self;
        let slot = slots.get_mut(binding.0 as usize).and_then(Option::as_mut);
        if let Some(slot) = slot.filter(|slot| slot.keeps_patterns) {
            slot.keeps_patterns = false;
            slot.costly.iter().flatten().for_each(|id| shared.drop_pattern(*id));
        }
    }

    /// Forgets one insertion; the binding disappears with the last. True when it did.
    pub fn remove(&mut self, binding: BindingId) -> bool {
        let Some(slot) = self.slot_mut(binding) else { return false };
        slot.insertions -= 1;
        if slot.insertions != 0 {
            return false;
        }
        self.drop_patterns(binding);
        let Some(slot) = self.slots.get_mut(binding.0 as usize).and_then(Option::take) else {
            return false;
        };
        self.free.push(binding);
        self.ids.remove(&slot.subscription);
        for (condition, id) in slot.subscription.filter.iter().zip(&slot.costly) {
            if let Some(id) = id {
                self.shared.remove(condition, *id);
            }
        }
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

    /// Who pays for a binding; `None` when several do.
    pub fn owner(&self, binding: BindingId) -> Option<CallerKey> {
        self.slot(binding).and_then(|slot| slot.owner)
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
    /// `budget` is that of the change.
    pub fn candidates(
        &self,
        (schema, table): (&str, &str),
        event: Event,
        relation: &Relation,
        row: &Row,
        budget: &mut StepBudget,
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
                    if let Some(undecided) = slot.and_then(|slot| self.passes(slot, view, budget)) {
                        out.push(Candidate { binding, undecided });
                    }
                },
            );
        }
    }

    /// The places of undecided conditions, unless one fails or the event is another.
    fn passes(
        &self,
        slot: &Slot,
        view: View<'_>,
        budget: &mut StepBudget,
    ) -> Option<SmallVec<[usize; 2]>> {
        let Slot { subscription, costly, .. } = slot;
        if subscription.event.is_some_and(|event| event != view.event) {
            return None;
        }
        let mut undecided = SmallVec::new();
        // What costs little comes first: most rows fail there.
        for is_costly in [false, true] {
            for (place, condition) in subscription.filter.iter().enumerate() {
                let id = costly.get(place).copied().flatten();
                if id.is_some() != is_costly {
                    continue;
                }
                let value = view.value(&condition.predicate.column)?;
                let verdict = match id {
                    None => {
                        let steps = &Counter::new(0);
                        Test { condition, pattern: None, steps }.run(value.0, value.1)
                    }
                    Some(id) => self.evaluate((id, condition), slot.owner, value, budget),
                };
                match verdict {
                    Verdict::Passes => (),
                    Verdict::Fails => return None,
                    Verdict::Undecided => undecided.push(place),
                }
            }
            if costly.is_empty() {
                break;
            }
        }
        Some(undecided)
    }

    /// What a costly condition makes of a value, if that is known or the budget allows to find out.
    fn evaluate(
        &self,
        (id, condition): (SharedId, &Condition),
        owner: Option<CallerKey>,
        (type_oid, text): (u32, Option<&str>),
        budget: &mut StepBudget,
    ) -> Verdict {
        if let Some(known) = budget.known(id) {
            return known;
        }
        let (steps, pattern) = (Counter::new(0), self.shared.pattern(id));
        if !budget.is_left(owner) {
            return Verdict::Undecided;
        }
        let verdict = Test { condition, pattern, steps: &steps }.run(type_oid, text);
        budget.spend(owner, steps.get().saturating_add(1));
        budget.learn(id, verdict);
        verdict
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

    /// The type and the text of a column, which is `None` for null, if the row tells it.
    fn value(self, column: &str) -> Option<(u32, Option<&'a str>)> {
        match self.cell(column)? {
            (type_oid, Cell::Null) => Some((type_oid, None)),
            (type_oid, cell @ Cell::Text(_)) => Some((type_oid, Some(cell.text()?))),
            (_, Cell::Unchanged) => None,
        }
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
