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
    /// Proven, or where it began.
    floor: Place,
    /// Delivered before the ping that is under way: the first and the last.
    asked: Option<(Place, Place)>,
    /// Delivered since: the first and the last.
    fresh: Option<(Place, Place)>,
    is_asking: bool,
}

impl Proof {
    /// Everything up to `floor` is proven.
    pub const fn new(floor: Place) -> Self {
        Self(Mutex::new(State { floor, asked: None, fresh: None, is_asking: false }))
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
            state.floor = state.floor.max(last);
        }
        state.is_asking = false;
    }

    /// Where whoever resumes continues. `settled` is how far everything was delivered to everybody, read before this is
    /// called; `is_live` says that it holds for this member, because nothing waits at its gate.
    pub fn position(&self, settled: Place, is_live: bool) -> Place {
        let state = self.lock();
        let unproven = state.asked.or(state.fresh).map(|(first, _)| first);
        match unproven {
            Some(first) => state.floor.max(first.before_it()),
            None if is_live => state.floor.max(settled),
            None => state.floor,
        }
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
        let proof = Proof::new(at(5, 0));
        assert_eq!(proof.position(at(9, 1), true), at(9, 1));
        assert_eq!(
            proof.position(at(9, 1), false),
            at(5, 0),
            "what waits at its gate was not given"
        );
        assert_eq!(proof.position(at(3, 0), true), at(5, 0), "it never goes back");
        assert!(!proof.wants_ping());
    }

    #[test]
    fn what_was_delivered_is_unproven_until_a_later_ping_is_answered() {
        let proof = Proof::new(at(5, 0));
        proof.deliver(at(7, 3), || ());
        proof.deliver(at(8, 0), || ());
        assert!(proof.wants_ping());
        assert_eq!(proof.position(at(9, 0), true), at(7, 2), "just before the first");
        proof.ask();
        proof.deliver(at(10, 0), || ());
        assert_eq!(proof.position(at(11, 0), true), at(7, 2));
        proof.answered();
        assert_eq!(proof.position(at(11, 0), true), Place::before(Lsn::new(10)));
        assert!(proof.wants_ping(), "of what came after the ping");
        proof.ask();
        proof.answered();
        assert_eq!(proof.position(at(11, 0), false), at(10, 0));
        assert_eq!(proof.position(at(11, 0), true), at(11, 0));
    }

    #[test]
    fn one_ping_is_under_way_at_a_time() {
        let proof = Proof::new(Place::default());
        proof.deliver(at(1, 0), || ());
        proof.ask();
        proof.deliver(at(2, 0), || ());
        proof.ask();
        proof.answered();
        assert_eq!(proof.position(at(3, 0), true), Place::before(Lsn::new(2)));
    }
}
