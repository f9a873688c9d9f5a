//! Fair turns at a few places: whoever asks has one place at a time, however much it asks for.
//!
//! Promises: who waits comes next but for the others who wait, each once. A turn ends when it is dropped, as waiting does.
//! Deliberately not here: how long anybody waits; the line has as many in it as its callers leave there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore, SemaphorePermit};

use crate::model::Principal;

/// Role and subject. Strangers without a subject are one asker per role.
type Asker = (Box<str>, String);

/// A number of places.
#[derive(Debug)]
pub(super) struct Turns {
    /// Held by the one turn an asker has. Askers who neither have a turn nor wait for one are not in it.
    askers: Mutex<HashMap<Asker, Arc<AsyncMutex<()>>>>,
    /// As many permits as there are places that nobody has.
    seats: Semaphore,
    free: Mutex<Vec<usize>>,
}

/// A turn at a place.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Which place.
    pub(super) place: usize,
    turns: &'a Turns,
    // Dropped in this order: an asker is forgotten last.
    _seat: Option<SemaphorePermit<'a>>,
    _own: OwnedMutexGuard<()>,
    _known: Known<'a>,
}

/// An asker while it has a turn or waits for one.
#[derive(Debug)]
struct Known<'a> {
    turns: &'a Turns,
    asker: Asker,
    own: Arc<AsyncMutex<()>>,
}

impl Turns {
    /// Turns at the places `0..places`.
    pub(super) fn new(places: usize) -> Self {
        Self {
            askers: Mutex::default(),
            seats: Semaphore::new(places),
            free: Mutex::new((0..places).collect()),
        }
    }

    /// Waits for the principal's turn.
    pub(super) async fn take(&self, principal: &Principal) -> Turn<'_> {
        let known = self.know((principal.role().into(), principal.subject()));
        let own = Arc::clone(&known.own).lock_owned().await;
        // It is never closed.
        let seat = self.seats.acquire().await.ok();
        let place = lock(&self.free).pop().unwrap_or_default();
        Turn { place, turns: self, _seat: seat, _own: own, _known: known }
    }

    fn know(&self, asker: Asker) -> Known<'_> {
        let own = Arc::clone(lock(&self.askers).entry(asker.clone()).or_default());
        Known { turns: self, asker, own }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.turns.free).push(self.place);
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        let mut askers = lock(&self.turns.askers);
        // The map's and this one: nobody else waits for this asker's turn.
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

    fn principal(subject: &str) -> Principal {
        Principal::new("authenticated", format!(r#"{{"sub":"{subject}"}}"#))
    }

    #[test]
    fn who_asks_for_much_waits_for_itself() {
        let turns = Turns::new(2);
        let (ann, ben, cat) = (principal("ann"), principal("ben"), principal("cat"));
        let first = turns.take(&ann).now_or_never().expect("a place is free");
        let mut more: Vec<_> = (0..10).map(|_| Box::pin(turns.take(&ann))).collect();
        assert!(more.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        // There is a place for somebody else, and then there is none.
        let second = turns.take(&ben).now_or_never().expect("a place is free");
        assert_ne!(first.place, second.place);
        let mut third = Box::pin(turns.take(&cat));
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
    fn an_asker_is_its_role_and_subject() {
        let turns = Turns::new(2);
        let stranger = |claims: &str| Principal::new("anon", claims);
        let _first = turns.take(&stranger(r#"{"exp":1}"#)).now_or_never().expect("a free place");
        assert!(turns.take(&stranger(r#"{"exp":2}"#)).now_or_never().is_none());
        assert!(turns.take(&principal("")).now_or_never().is_some());
        // Waiting that ended left nothing behind.
        assert_eq!(lock(&turns.askers).len(), 1);
    }
}
