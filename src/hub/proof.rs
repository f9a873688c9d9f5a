//! How far a member is known to have received row changes.
//!
//! A position is proven when the client's own WebSocket answered a ping that was written after everything before it.
//! What was delivered since is *unproven*: it is delivered again to whoever resumes. Pure, and cheap for each delivery.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::changelog::Place;

/// What is known of one member.
#[derive(Debug)]
pub struct Proof(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// Proven, or where it began; `None` while a first read is not proven.
    floor: Option<Place>,
    /// A first read is not delivered whole.
    is_reading: bool,
    /// Delivered before the ping that is under way: the first and the last.
    asked: Option<(Place, Place)>,
    /// Delivered since: the first and the last.
    fresh: Option<(Place, Place)>,
    is_asking: bool,
}

impl Proof {
    /// Everything up to `floor` is proven; nothing, when a first read comes before that.
    pub const fn new(floor: Option<Place>) -> Self {
        let is_reading = floor.is_none();
        Self(Mutex::new(State { floor, is_reading, asked: None, fresh: None, is_asking: false }))
    }

    /// No first read comes: everything up to `floor` is proven.
    pub fn begin(&self, floor: Place) {
        let mut state = self.lock();
        if state.is_reading {
            (state.floor, state.is_reading) = (Some(floor), false);
        }
    }

    /// The last word on a first read is delivered by `offer`: what was before it is proven when this is. Changes after
    /// `place` follow.
    pub(super) fn finish<T>(&self, place: Place, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        (state.floor, state.is_reading) = (None, false);
        (state.asked, state.fresh) = (None, Some((place, place)));
        offer()
    }

    /// A change is delivered by `offer`. Changes come in order; a ping comes before or after both.
    pub(super) fn deliver<T>(&self, place: Place, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        let first = state.fresh.map_or(place, |(first, _)| first);
        state.fresh = Some((first, place));
        offer()
    }

    /// Whether something was delivered that no ping asks about.
    pub fn wants_ping(&self) -> bool {
        self.lock().fresh.is_some()
    }

    /// A ping is about to be queued, after everything delivered so far. The last change it asks about.
    pub fn ask(&self) -> Option<Place> {
        let mut state = self.lock();
        if !state.is_asking {
            (state.asked, state.fresh, state.is_asking) = (state.fresh, None, true);
        }
        state.asked.map(|(_, last)| last)
    }

    /// The ping was answered.
    pub fn answered(&self) {
        let mut state = self.lock();
        if let Some((_, last)) = state.asked.take() {
            state.floor = state.floor.max(Some(last));
        }
        state.is_asking = false;
    }

    /// Where whoever resumes continues. `settled` is how far everything was delivered to everybody, read before this is
    /// called; `is_live` says that it holds for this member, because nothing waits at its gate. `None`: it begins anew.
    pub fn position(&self, settled: Place, is_live: bool) -> Option<Place> {
        let state = self.lock();
        let floor = state.floor.filter(|_| !state.is_reading)?;
        let unproven = state.asked.or(state.fresh).map(|(first, _)| first);
        Some(match unproven {
            Some(first) => floor.max(first.before_it()),
            None if is_live => floor.max(settled),
            None => floor,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    fn at(commit: u64, index: u32) -> Place {
        Place { commit_lsn: Lsn::new(commit), index }
    }

    #[test]
    fn a_member_that_was_given_nothing_is_as_far_as_everybody() {
        let proof = Proof::new(Some(at(5, 0)));
        assert_eq!(proof.position(at(9, 1), true), Some(at(9, 1)));
        assert_eq!(
            proof.position(at(9, 1), false),
            Some(at(5, 0)),
            "what waits at its gate was not given"
        );
        assert_eq!(proof.position(at(3, 0), true), Some(at(5, 0)), "it never goes back");
        assert!(!proof.wants_ping());
    }

    #[test]
    fn what_was_delivered_is_unproven_until_a_later_ping_is_answered() {
        let proof = Proof::new(Some(at(5, 0)));
        proof.deliver(at(7, 3), || ());
        proof.deliver(at(8, 0), || ());
        assert!(proof.wants_ping());
        assert_eq!(proof.position(at(9, 0), true), Some(at(7, 2)), "just before the first");
        proof.ask();
        proof.deliver(at(10, 0), || ());
        assert_eq!(proof.position(at(11, 0), true), Some(at(7, 2)));
        proof.answered();
        assert_eq!(proof.position(at(11, 0), true), Some(Place::before(Lsn::new(10))));
        assert!(proof.wants_ping(), "of what came after the ping");
        proof.ask();
        proof.answered();
        assert_eq!(proof.position(at(11, 0), false), Some(at(10, 0)));
        assert_eq!(proof.position(at(11, 0), true), Some(at(11, 0)));
    }

    #[test]
    fn one_ping_is_under_way_at_a_time() {
        let proof = Proof::new(Some(Place::default()));
        proof.deliver(at(1, 0), || ());
        proof.ask();
        proof.deliver(at(2, 0), || ());
        proof.ask();
        proof.answered();
        assert_eq!(proof.position(at(3, 0), true), Some(Place::before(Lsn::new(2))));
    }

    #[test]
    fn a_first_read_is_begun_anew_until_it_is_proven_whole() {
        let proof = Proof::new(None);
        proof.deliver(at(7, 0), || ());
        proof.ask();
        proof.answered();
        assert_eq!(proof.position(at(9, 0), false), None);
        proof.deliver(at(8, 0), || ());
        proof.ask();
        proof.finish(at(8, 0), || ());
        proof.answered();
        assert_eq!(proof.position(at(9, 0), true), None, "that ping was before its end");
        proof.ask();
        proof.deliver(at(10, 0), || ());
        proof.answered();
        assert_eq!(proof.position(at(11, 0), true), Some(Place::before(Lsn::new(10))));
        let unread = Proof::new(None);
        unread.begin(at(5, 0));
        assert_eq!(unread.position(at(9, 0), true), Some(at(9, 0)));
    }
}
