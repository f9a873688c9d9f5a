//! How far a member is known to have received row changes, and what it was told of those it does not get.
//!
//! A position is proven when the client's own WebSocket answered a ping that was written after everything before it.
//! What was delivered since is *unproven*: it is delivered again to whoever resumes. A hole is proven like a change:
//! until then whoever resumes continues before it, so the hole comes again or what is missing does.
//!
//! Where another history begins a member stays in the one before until it is proven that it was told. A position of
//! a history that ended is told as a gap, so at worst it is told twice.
//!
//! Pure, and cheap for each delivery.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::changelog::Place;
use crate::model::{Epoch, Position};

/// No log has it.
const NOWHERE: Epoch = Epoch::new(0);

/// What is known of one member.
#[derive(Debug)]
pub struct Proof(Mutex<State>);

/// Something a member is told that whoever resumes must not miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// No place was kept for it.
    Newcomer,
    /// Changes may be missing.
    Hole,
    /// Changes may be missing, and what follows is of this history, or of one that begins now.
    History(Option<Epoch>),
}

#[derive(Debug)]
struct State {
    /// Of which history its places are.
    epoch: Epoch,
    /// It is proven that it was told the end of that history: what follows is of the one that is settled next.
    is_between: bool,
    /// Proven, or where it began; `None` while a first read is not proven.
    floor: Option<Place>,
    /// A first read is not delivered whole.
    is_reading: bool,
    /// No place was kept for it, and it may not know.
    newcomer: Option<Word>,
    /// What is live waits at its gate.
    is_waiting: bool,
    /// Another history waits there to be told, and which if that is known.
    end_waits: Option<Option<Epoch>>,
    /// Something was let go at the gate, and it is not told yet.
    lost: Option<Span>,
    /// Given before the ping that is under way.
    asked: Option<Span>,
    /// Given since.
    fresh: Option<Span>,
    is_asking: bool,
}

/// How far a word is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Unsaid,
    Said,
    /// A ping follows it.
    Asked,
}

/// Something unproven.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// Where whoever resumes continues; `None`: it begins anew.
    from: Option<Place>,
    /// What is missing after `from` comes before what is proven meanwhile.
    is_lost: bool,
    /// The last change, of the history that follows if one ended.
    last: Option<Place>,
    /// A history ended in it, and which follows if that is known.
    ended: Option<Option<Epoch>>,
}

impl Proof {
    /// Everything up to `floor` in the history `epoch` is proven; nothing, when a first read comes before that. `epoch`
    /// is `None` before any history is known. What is live waits, when it `is_waiting`, until it arrives.
    pub const fn new(epoch: Option<Epoch>, floor: Option<Place>, is_waiting: bool) -> Self {
        let (epoch, is_between) = match epoch {
            Some(epoch) => (epoch, false),
            None => (NOWHERE, true),
        };
        Self(Mutex::new(State {
            epoch,
            is_between,
            floor,
            is_reading: floor.is_none(),
            newcomer: None,
            is_waiting,
            end_waits: None,
            lost: None,
            asked: None,
            fresh: None,
            is_asking: false,
        }))
    }

    /// No place was kept for it, and that is going to be told.
    #[must_use]
    pub fn of_newcomer(self) -> Self {
        self.lock().newcomer = Some(Word::Unsaid);
        self
    }

    /// Whether no place was kept for it, and it may not know.
    pub fn is_new(&self) -> bool {
        self.lock().newcomer.is_some()
    }

    /// No first read comes: everything up to `floor` is proven.
    pub fn begin(&self, floor: Place) {
        let mut state = self.lock();
        if state.is_reading {
            (state.floor, state.is_reading) = (Some(floor), false);
        }
    }

    /// The last word on a first read is delivered by `offer`: what was before it is proven when this is. Changes after
    /// `place` follow, of this history if it is known.
    pub(super) fn finish<T>(
        &self,
        epoch: Option<Epoch>,
        place: Place,
        offer: impl FnOnce() -> T,
    ) -> T {
        let mut state = self.lock();
        if let Some(epoch) = epoch {
            (state.epoch, state.is_between) = (epoch, false);
        }
        (state.floor, state.is_reading) = (None, false);
        let end = Span { last: Some(place), ..Span::default() };
        (state.asked, state.fresh) = (None, Some(end));
        offer()
    }

    /// A change of the past is delivered by `offer`. Changes come in order; a ping comes before or after both.
    pub(super) fn deliver<T>(&self, place: Place, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.take(Some(place.before_it())).last = Some(place);
        offer()
    }

    /// The same for what is live.
    pub(super) fn deliver_live<T>(&self, place: Place, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        if state.is_waiting {
            // What waited before it may have been let go; that is known when it has arrived.
            let now = state.now();
            state.take(now);
        } else {
            state.take(Some(place.before_it())).last = Some(place);
        }
        offer()
    }

    /// The past is not shown, which is told by `offer`. Changes after `place` follow at best.
    pub(super) fn give_up<T>(&self, place: Place, offer: impl FnOnce() -> T) -> T {
        if self.begins_anew() {
            self.finish(None, place, offer)
        } else {
            self.tell(Telling::Hole, offer)
        }
    }

    /// Something is told by `offer`.
    pub(super) fn tell<T>(&self, telling: Telling, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.tell(telling);
        offer()
    }

    /// The next that waited at the gate is told by `offer`.
    pub(super) fn tell_waiting<T>(&self, offer: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        let telling = state.end_waits.map_or(Telling::Hole, Telling::History);
        state.tell(telling);
        offer()
    }

    /// Something waits at the gate to be told.
    pub(super) fn wait_to_tell(&self, telling: Telling) {
        if let Telling::History(next) = telling {
            self.lock().end_waits = Some(next);
        }
    }

    /// Its gate is open. Unless all came that had waited, it `has_lost` something, and is told of that next.
    pub(super) fn arrive(&self, has_lost: bool) {
        let mut state = self.lock();
        if has_lost {
            state.lost = Some(Span { from: state.now(), is_lost: true, ..Span::default() });
        }
        (state.is_waiting, state.end_waits) = (false, None);
    }

    /// Everything up to `settled`, read before this is called, was given to everybody.
    pub fn settle(&self, settled: Position) {
        let mut state = self.lock();
        state.enter(settled.epoch);
        if state.is_in(settled.epoch) && !state.is_waiting && state.unproven().is_none() {
            state.floor = state.floor.map(|floor| floor.max(settled.into()));
        }
    }

    /// Whether something was delivered that no ping asks about.
    pub fn wants_ping(&self) -> bool {
        let state = self.lock();
        state.fresh.is_some() || state.newcomer == Some(Word::Said)
    }

    /// A ping is about to be queued, after everything delivered so far.
    pub fn ask(&self) {
        let mut state = self.lock();
        if !state.is_asking {
            (state.asked, state.fresh, state.is_asking) = (state.fresh, None, true);
            if state.newcomer == Some(Word::Said) {
                state.newcomer = Some(Word::Asked);
            }
        }
    }

    /// The ping was answered.
    pub fn answered(&self) {
        let mut state = self.lock();
        state.is_asking = false;
        state.newcomer = state.newcomer.filter(|word| *word != Word::Asked);
        let Some(Span { last, ended, .. }) = state.asked.take() else { return };
        match ended {
            None => state.floor = state.floor.max(last),
            Some(next) => {
                state.floor = Some(last.unwrap_or_default());
                match next {
                    Some(epoch) => (state.epoch, state.is_between) = (epoch, false),
                    None => state.is_between = true,
                }
            }
        }
    }

    /// Whether whoever resumes begins anew, because a first read is not proven.
    fn begins_anew(&self) -> bool {
        let state = self.lock();
        state.is_reading || state.floor.is_none()
    }

    /// Where whoever resumes continues. `settled` is how far everything was delivered to everybody, read before this is
    /// called. `None`: it begins anew.
    pub fn position(&self, settled: Option<Position>) -> Option<Position> {
        let mut state = self.lock();
        if let Some(settled) = settled {
            state.enter(settled.epoch);
        }
        let epoch = state.epoch;
        if epoch == NOWHERE && !state.is_ending() {
            return None;
        }
        let settled = settled.filter(|settled| state.is_in(settled.epoch)).map(Place::from);
        let Place { commit_lsn, index } = state.place(settled)?;
        Some(Position { epoch, commit_lsn, index })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The unproven span; one that begins at `from` if there is none.
    fn take(&mut self, from: Option<Place>) -> &mut Span {
        self.fresh.get_or_insert(Span { from, ..Span::default() })
    }

    fn tell(&mut self, telling: Telling) {
        if telling == Telling::Newcomer {
            self.newcomer = self.newcomer.and(Some(Word::Said));
            return;
        }
        let (now, lost, epoch) = (self.now(), self.lost.take(), self.epoch);
        let span = self.take(now);
        if let Some(Span { from, is_lost, .. }) = lost {
            (span.from, span.is_lost) = (from, is_lost);
        }
        match telling {
            Telling::History(next) if next != Some(epoch) => {
                (span.ended, span.last) = (Some(next), None);
            }
            Telling::History(_) | Telling::Hole | Telling::Newcomer => {}
        }
    }

    /// Goes over into the history that is settled, once that is proven to be told.
    fn enter(&mut self, epoch: Epoch) {
        let is_known = !self.is_waiting || self.unproven().is_some();
        if self.is_between && is_known && !self.is_ending() {
            (self.epoch, self.is_between) = (epoch, false);
        }
    }

    fn is_in(&self, epoch: Epoch) -> bool {
        self.epoch == epoch && !self.is_between
    }

    /// Whether the end of a history was told and is not proven.
    fn is_ending(&self) -> bool {
        [self.asked, self.fresh].iter().flatten().any(|span| span.ended.is_some())
    }

    /// What is unproven and came first.
    fn unproven(&self) -> Option<Span> {
        let is_lost = |span: &Span| span.is_lost;
        self.lost.or(self.fresh.filter(is_lost)).or(self.asked).or(self.fresh)
    }

    /// Where whoever resumes continues if nothing from now on is proven.
    fn now(&self) -> Option<Place> {
        // Places before the end of a history mean nothing in the next.
        if self.is_ending() { Some(Place::default()) } else { self.place(None) }
    }

    fn place(&self, settled: Option<Place>) -> Option<Place> {
        let floor = self.floor.filter(|_| !self.is_reading)?;
        match self.unproven() {
            Some(Span { from, is_lost: true, .. }) => from,
            Some(Span { from, .. }) => from.map(|from| floor.max(from)),
            None if self.is_waiting => Some(floor),
            None => Some(settled.map_or(floor, |settled| floor.max(settled))),
        }
    }
}

#[cfg(test)]
mod tests;
