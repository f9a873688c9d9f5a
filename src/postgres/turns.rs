//! Fair turns at a few places: whoever asks has only so many of them at a time, however much it asks for.
//!
//! Promises: who waits comes next but for the others who wait, each as often as it may have places. A turn ends when it is
//! dropped, as waiting does. Memory is one entry for each asker that has a turn or waits for one.
//! Deliberately not here: who counts as one asker, and how long anybody waits; the line has as many in it as its callers
//! leave there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// A number of places.
#[derive(Debug)]
pub(crate) struct Turns<A: Hash + Eq> {
    /// As many permits as the asker may have more places. Askers who neither have a turn nor wait for one are not in it.
    askers: Mutex<HashMap<A, Arc<Semaphore>>>,
    /// How many places one asker may have.
    each: usize,
    /// As many permits as there are places that nobody has.
    seats: Semaphore,
    free: Mutex<Vec<usize>>,
}

/// A turn at a place.
#[derive(Debug)]
pub(crate) struct Turn<'a, A: Hash + Eq> {
    /// Which place.
    pub(crate) place: usize,
    turns: &'a Turns<A>,
    // Dropped in this order: an asker is forgotten last.
    _seat: Option<SemaphorePermit<'a>>,
    _own: Option<OwnedSemaphorePermit>,
    _known: Known<'a, A>,
}

/// An asker while it has a turn or waits for one.
#[derive(Debug)]
struct Known<'a, A: Hash + Eq> {
    turns: &'a Turns<A>,
    asker: A,
    own: Arc<Semaphore>,
}

impl<A: Hash + Eq + Clone> Turns<A> {
    /// Turns at the places `0..places`, of which one asker has at most `each`.
    pub(crate) fn new(places: usize, each: usize) -> Self {
        Self {
            askers: Mutex::default(),
            each,
            seats: Semaphore::new(places),
            free: Mutex::new((0..places).collect()),
        }
    }

    /// Waits for the asker's turn.
    pub(crate) async fn take(&self, asker: &A) -> Turn<'_, A> {
        let known = self.know(asker);
        // Neither is ever closed.
        let own = Arc::clone(&known.own).acquire_owned().await.ok();
        let seat = self.seats.acquire().await.ok();
        let place = lock(&self.free).pop().unwrap_or_default();
        Turn { place, turns: self, _seat: seat, _own: own, _known: known }
    }

    fn know(&self, asker: &A) -> Known<'_, A> {
        let mut askers = lock(&self.askers);
        let own =
            askers.entry(asker.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Known { turns: self, asker: asker.clone(), own: Arc::clone(own) }
    }
}

impl<A: Hash + Eq> Drop for Turn<'_, A> {
    fn drop(&mut self) {
        lock(&self.turns.free).push(self.place);
    }
}

impl<A: Hash + Eq> Drop for Known<'_, A> {
    fn drop(&mut self) {
        let mut askers = lock(&self.turns.askers);
        // The map's and this one: nobody else has or waits for a turn of this asker.
        if Arc::strong_count(&self.own) <= 2 {
            askers.remove(&self.asker);
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
        let first = turns.take(&"ann").now_or_never().expect("a place is free");
        let mut more: Vec<_> = (0..10).map(|_| Box::pin(turns.take(&"ann"))).collect();
        assert!(more.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        // There is a place for somebody else, and then there is none.
        let second = turns.take(&"ben").now_or_never().expect("a place is free");
        assert_ne!(first.place, second.place);
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
        assert!(lock(&turns.askers).is_empty());
        assert_eq!(lock(&turns.free).len(), 2);
    }

    #[test]
    fn an_asker_has_as_many_places_as_each_may_have() {
        let turns = Turns::new(4, 2);
        let ann = [turns.take(&"ann").now_or_never(), turns.take(&"ann").now_or_never()];
        assert!(ann.iter().all(Option::is_some));
        assert!(turns.take(&"ann").now_or_never().is_none());
        let ben = [turns.take(&"ben").now_or_never(), turns.take(&"ben").now_or_never()];
        assert!(ben.iter().all(Option::is_some));
        drop(ann);
        assert!(turns.take(&"ann").now_or_never().is_some());
        assert_eq!(lock(&turns.askers).len(), 1, "waiting that ended left nothing behind");
    }
}
