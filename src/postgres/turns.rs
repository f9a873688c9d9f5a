//! Fair turns at a few slots: whoever asks has only so many of them at a time, however much it asks for.
//!
//! Promises: who waits comes next but for the others who wait, each as often as it may have slots. A turn ends when it is
//! dropped, as waiting does. Memory is one entry for each owner that has a turn or waits for one.
//! Deliberately not here: who counts as one owner, and how long anybody waits; the line has as many in it as its callers
//! leave there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// A number of slots.
#[derive(Debug)]
pub(crate) struct Turns<O: Hash + Eq> {
    /// As many permits as the owner may have more slots. Owners who neither have a turn nor wait for one are not in it.
    owners: Mutex<HashMap<O, Arc<Semaphore>>>,
    /// How many slots one owner may have.
    each: usize,
    /// As many permits as there are slots that nobody has.
    permits: Semaphore,
    free: Mutex<Vec<usize>>,
}

/// A turn at a slot.
#[derive(Debug)]
pub(crate) struct Turn<'a, O: Hash + Eq> {
    /// Which slot.
    pub(crate) slot: usize,
    turns: &'a Turns<O>,
    // Dropped in this order: an owner is forgotten last.
    _permit: Option<SemaphorePermit<'a>>,
    _own: Option<OwnedSemaphorePermit>,
    _known: Known<'a, O>,
}

/// An owner while it has a turn or waits for one.
#[derive(Debug)]
struct Known<'a, O: Hash + Eq> {
    turns: &'a Turns<O>,
    owner: O,
    own: Arc<Semaphore>,
}

impl<O: Hash + Eq + Clone> Turns<O> {
    /// Turns at the slots `0..slots`, of which one owner has at most `each`.
    pub(crate) fn new(slots: usize, each: usize) -> Self {
        Self {
            owners: Mutex::default(),
            each,
            permits: Semaphore::new(slots),
            free: Mutex::new((0..slots).collect()),
        }
    }

    /// Waits for the owner's turn.
    pub(crate) async fn take(&self, owner: &O) -> Turn<'_, O> {
        let known = self.know(owner);
        // Neither is ever closed.
        let own = Arc::clone(&known.own).acquire_owned().await.ok();
        let permit = self.permits.acquire().await.ok();
        let slot = lock(&self.free).pop().unwrap_or_default();
        Turn { slot, turns: self, _permit: permit, _own: own, _known: known }
    }

    fn know(&self, owner: &O) -> Known<'_, O> {
        let mut owners = lock(&self.owners);
        let own =
            owners.entry(owner.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Known { turns: self, owner: owner.clone(), own: Arc::clone(own) }
    }
}

impl<O: Hash + Eq> Drop for Turn<'_, O> {
    fn drop(&mut self) {
        lock(&self.turns.free).push(self.slot);
    }
}

impl<O: Hash + Eq> Drop for Known<'_, O> {
    fn drop(&mut self) {
        let mut owners = lock(&self.turns.owners);
        // The map's and this one: nobody else has or waits for a turn of this owner.
        if Arc::strong_count(&self.own) <= 2 {
            owners.remove(&self.owner);
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Neither map nor list is ever left half-changed.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_asks_for_much_waits_for_itself() {
        let turns = Turns::new(2, 1);
        let first = turns.take(&"ann").now_or_never().expect("a slot is free");
        let mut more: Vec<_> = (0..10).map(|_| Box::pin(turns.take(&"ann"))).collect();
        assert!(more.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        // There is a slot for somebody else, and then there is none.
        let second = turns.take(&"ben").now_or_never().expect("a slot is free");
        assert_ne!(first.slot, second.slot);
        let mut third = Box::pin(turns.take(&"cat"));
        assert!(third.as_mut().now_or_never().is_none());
        // What ann asked for before cat did is not what comes next.
        drop(first);
        assert!(more.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        let third = third.now_or_never().expect("it is cat's turn");
        drop(second);
        let next = more.remove(0).now_or_never().expect("it is ann's turn again");
        assert!(more.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        drop((more, next, third));
        assert!(lock(&turns.owners).is_empty());
        assert_eq!(lock(&turns.free).len(), 2);
    }

    #[test]
    fn an_owner_has_as_many_slots_as_each_may_have() {
        let turns = Turns::new(4, 2);
        let ann = [turns.take(&"ann").now_or_never(), turns.take(&"ann").now_or_never()];
        assert!(ann.iter().all(Option::is_some));
        assert!(turns.take(&"ann").now_or_never().is_none());
        let ben = [turns.take(&"ben").now_or_never(), turns.take(&"ben").now_or_never()];
        assert!(ben.iter().all(Option::is_some));
        drop(ann);
        assert!(turns.take(&"ann").now_or_never().is_some());
        assert_eq!(lock(&turns.owners).len(), 1, "waiting that ended left nothing behind");
    }
}
