//! Who asked: (schema, table, event, row) → the bindings whose filters pass. Pure.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Event, Relation, Row, Subscription};

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
pub struct Router {}

impl Router {
    /// Interns a wish. Equal wishes get one id, counted as often as they are inserted.
    pub fn insert(&mut self, _subscription: &Arc<Subscription>) -> BindingId {
        todo!()
    }

    /// Forgets one insertion; the binding disappears with the last. True when it did.
    pub fn remove(&mut self, _binding: BindingId) -> bool {
        todo!()
    }

    /// The wish behind a binding.
    pub fn subscription(&self, _binding: BindingId) -> Option<&Arc<Subscription>> {
        todo!()
    }

    /// Whether anybody asked for this table at all (any event, any filter).
    pub fn wants(&self, _schema: &str, _table: &str) -> bool {
        todo!()
    }

    /// Adds to `out` every binding on `schema.table` (or a wildcard covering it) that asked for `event` and whose
    /// conditions hold, or may hold, for `row`, whose cells are described by `relation`.
    pub fn candidates(
        &self,
        (_schema, _table): (&str, &str),
        _event: Event,
        _relation: &Relation,
        _row: &Row,
        _out: &mut Vec<Candidate>,
    ) {
        todo!()
    }
}
