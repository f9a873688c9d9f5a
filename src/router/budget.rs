//! What matching one change may cost: whoever waits for the answer waits for every client's changes.
//!
//! Promises: the steps spent on a change follow the size of its row, however many conditions there are and however they are
//! written; of these one owner has a small part, so that what one asks for never leaves nothing to the others. What is
//! over is not evaluated.
//!
//! Deliberately not here: what a step is (`eval`), and what becomes of a condition that is not evaluated.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::eval::Verdict;
use super::shared::SharedId;

/// Whose conditions are evaluated, as a number that is the same for all that one caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey(pub u64);

/// Steps for all conditions on a change, and for those of one owner: so many, and so many more for each byte of the row.
const ALL: (usize, usize) = (1 << 20, 64);
const EACH: (usize, usize) = (1 << 14, 8);

/// What is left for one change, and what was found out about it.
#[derive(Debug)]
pub struct StepBudget {
    left: usize,
    each: usize,
    spent: HashMap<CallerKey, usize, RandomState>,
    known: HashMap<SharedId, Verdict, RandomState>,
}

impl StepBudget {
    /// For a change whose row has so many bytes.
    pub fn of_change(bytes: usize) -> Self {
        let so_many =
            |(least, more): (usize, usize)| bytes.saturating_mul(more).saturating_add(least);
        Self {
            left: so_many(ALL),
            each: so_many(EACH),
            spent: HashMap::default(),
            known: HashMap::default(),
        }
    }

    /// Whether a owner has steps left; several payers share what is left for all.
    pub(super) fn is_left(&self, owner: Option<CallerKey>) -> bool {
        let spent = owner.and_then(|owner| self.spent.get(&owner)).copied().unwrap_or_default();
        self.left != 0 && (owner.is_none() || spent < self.each)
    }

    /// Takes so many steps, or what is left. How many a condition takes is known afterwards, so the last one may take more
    /// than was left; each has a bound of its own.
    pub(super) fn spend(&mut self, owner: Option<CallerKey>, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        if let Some(owner) = owner {
            let spent = self.spent.entry(owner).or_default();
            *spent = spent.saturating_add(steps);
        }
    }

    /// What was found out about a condition.
    pub(super) fn known(&self, condition: SharedId) -> Option<Verdict> {
        self.known.get(&condition).copied()
    }

    /// Remembers what was found out about a condition.
    pub(super) fn learn(&mut self, condition: SharedId, verdict: Verdict) {
        self.known.insert(condition, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_payer_spends_its_part_and_leaves_the_others_theirs() {
        let mut budget = StepBudget::of_change(0);
        let (ann, ben) = (Some(CallerKey(1)), Some(CallerKey(2)));
        budget.spend(ann, EACH.0 - 1);
        assert!(budget.is_left(ann));
        budget.spend(ann, 7);
        assert!(!budget.is_left(ann) && budget.is_left(ben) && budget.is_left(None));
        budget.spend(None, ALL.0);
        assert!(!budget.is_left(ben) && !budget.is_left(None));
    }

    #[test]
    fn a_longer_row_may_cost_more() {
        let (mut budget, ann) = (StepBudget::of_change(1000), Some(CallerKey(1)));
        budget.spend(ann, EACH.0 + 1000 * EACH.1 - 1);
        assert!(budget.is_left(ann));
        budget.spend(ann, 1);
        assert!(!budget.is_left(ann));
        assert!(StepBudget::of_change(usize::MAX).is_left(ann));
    }
}
