//! Conditions whose evaluation may cost much, each kept once however many bindings have it.
//!
//! Promises: equal conditions have one id, so that what was found out about one for a change holds for all, and one
//! compiled pattern.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::eval;
use super::pattern::Pattern;
use crate::model::filter::Condition;

/// An interned condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SharedId(u32);

/// The conditions of all bindings that may cost much.
#[derive(Debug, Default)]
pub(super) struct Shared {
    slots: Vec<Option<Slot>>,
    free: Vec<SharedId>,
    ids: HashMap<Condition, SharedId, RandomState>,
}

#[derive(Debug)]
struct Slot {
    /// For `match` and `imatch`, when both sides agree on the pattern.
    pattern: Option<Pattern>,
    uses: usize,
    /// Those of its uses for which the pattern is kept.
    pattern_uses: usize,
}

impl Shared {
    /// The id of a condition, counted as often as it is inserted; `None` when it costs little to evaluate.
    pub(super) fn insert(&mut self, condition: &Condition) -> Option<SharedId> {
        if !eval::is_costly(condition) {
            return None;
        }
        if let Some(&id) = self.ids.get(condition) {
            if let Some(slot) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) {
                slot.uses += 1;
                slot.pattern_uses += 1;
                if slot.pattern_uses == 1 {
                    slot.pattern = eval::pattern_of(condition);
                }
            }
            return Some(id);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SharedId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            let pattern = eval::pattern_of(condition);
            *slot = Some(Slot { pattern, uses: 1, pattern_uses: 1 });
        }
        self.ids.insert(condition.clone(), id);
        Some(id)
    }

    /// Keeps its pattern for one use less: without any, what it decides is undecided.
    pub(super) fn drop_pattern(&mut self, id: SharedId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        slot.pattern_uses = slot.pattern_uses.saturating_sub(1);
        if slot.pattern_uses == 0 {
            slot.pattern = None;
        }
    }

    /// Forgets one insertion, whose pattern was dropped before; the condition disappears with the last.
    pub(super) fn remove(&mut self, condition: &Condition, id: SharedId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else { return };
        let Some(used) = slot.as_mut() else { return };
        used.uses -= 1;
        if used.uses == 0 {
            *slot = None;
            self.ids.remove(condition);
            self.free.push(id);
        }
    }

    /// Its pattern, if it has one that both sides agree on.
    pub(super) fn pattern(&self, id: SharedId) -> Option<&Pattern> {
        self.slots.get(id.0 as usize)?.as_ref()?.pattern.as_ref()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.slots.iter().all(Option::is_none)
    }
}
