//! Who is present in one channel, without I/O: what members do goes in, what the others are to be told comes out.
//!
//! A key stands for somebody; each member that tracks under it adds one meta. Clients know a meta by its reference
//! alone, so a changed payload is a new reference in `joins` and the old one in `leaves`.
//!
//! It promises:
//!
//! - What was told last ([`Presence::state`]) and every diff after it, put together, are what is tracked.
//! - Diffs gather for a moment after each one: who came and went meanwhile is never mentioned.
//! - A member whose socket broke stays for the grace time. Whoever tracks its key meanwhile takes its place: with
//!   the same payload nobody is told, with another it is an update. Nobody leaves and comes back.
//!
//! Times and references are arguments. Who may track, and who wants to be told, is decided elsewhere.

mod diff;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use diff::{Diff, Meta, Payload};

/// The tracked members of one channel.
#[derive(Debug)]
pub struct Presence {
    grace: Duration,
    gather: Duration,
    keys: BTreeMap<Arc<str>, Vec<Place>>,
    tracked: usize,
    /// Lost members in the order their grace ends; some have been replaced since.
    lost: VecDeque<(Instant, Arc<str>, u64)>,
    /// What is not told yet.
    pending: Diff,
    /// Counts diffs: what is older than the current one was told.
    round: u64,
    /// The next diff is told no sooner.
    tell_from: Instant,
    /// The state as told, once somebody asked for it.
    state: Option<Arc<str>>,
}

/// One member's place under its key.
#[derive(Debug)]
struct Place {
    member: u64,
    meta: Arc<Meta>,
    since: u64,
    /// Its socket broke then.
    lost_at: Option<Instant>,
}

/// What tracking came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Tracked {
    /// It is news to everybody.
    News,
    /// The member tracks the very same already.
    Same,
    /// It took the place of a lost member with the same payload: news to nobody but the member itself, which is
    /// owed this diff as the confirmation it may be waiting for.
    Resumed(Diff),
}

impl Presence {
    /// Nobody is here. Lost members stay for `grace`; diffs are at least `gather` apart.
    pub const fn new(now: Instant, grace: Duration, gather: Duration) -> Self {
        Self {
            grace,
            gather,
            keys: BTreeMap::new(),
            tracked: 0,
            lost: VecDeque::new(),
            pending: Diff::new(),
            round: 0,
            tell_from: now,
            state: None,
        }
    }

    /// A member tracks, or tracks something else. `reference` must never have been used before.
    pub fn track(
        &mut self,
        member: u64,
        key: &Arc<str>,
        payload: Payload,
        reference: Box<str>,
    ) -> Tracked {
        let places = self.keys.entry(Arc::clone(key)).or_default();
        let own = places.iter().position(|place| place.member == member);
        let taken = own.or_else(|| replaceable(places, &payload));
        let Some(place) = taken.and_then(|at| places.get_mut(at)) else {
            let meta = Arc::new(Meta { reference, previous: None, payload });
            self.pending.joins.push((Arc::clone(key), Arc::clone(&meta)));
            places.push(Place { member, meta, since: self.round, lost_at: None });
            self.tracked += 1;
            return Tracked::News;
        };
        let was_lost = place.lost_at.take().is_some();
        place.member = member;
        let was_told = place.since < self.round;
        if place.meta.payload == payload {
            let diff = || Diff::of_join(Arc::clone(key), Arc::clone(&place.meta));
            return match (was_lost, was_told) {
                (true, true) => Tracked::Resumed(diff()),
                // It is about to be told to everybody.
                (true, false) => Tracked::News,
                (false, _) => Tracked::Same,
            };
        }
        let previous = match was_told {
            true => Some(place.meta.reference.clone()),
            false => place.meta.previous.clone(),
        };
        let meta = Arc::new(Meta { reference, previous, payload });
        let before = std::mem::replace(&mut place.meta, Arc::clone(&meta));
        place.since = self.round;
        self.pending.leave(Arc::clone(key), before, was_told);
        self.pending.joins.push((Arc::clone(key), meta));
        Tracked::News
    }

    /// A member does not track any more, or left. False when it did not track.
    pub fn untrack(&mut self, member: u64, key: &str) -> bool {
        let Some((key, places)) = self.keys.get_key_value(key) else { return false };
        let Some(at) = places.iter().position(|place| place.member == member) else {
            return false;
        };
        let key = Arc::clone(key);
        self.remove(&key, at);
        true
    }

    /// A member's socket broke: it is gone unless somebody tracks its key within the grace time.
    pub fn lose(&mut self, now: Instant, member: u64, key: &str) {
        if self.grace.is_zero() {
            self.untrack(member, key);
            return;
        }
        let Some((key, _)) = self.keys.get_key_value(key) else { return };
        let key = Arc::clone(key);
        let places = self.keys.get_mut(&key).into_iter().flatten();
        for place in places.filter(|place| place.member == member) {
            place.lost_at = Some(now);
            self.lost.push_back((now + self.grace, Arc::clone(&key), member));
        }
    }

    /// Removes the lost members whose grace has ended.
    pub fn expire(&mut self, now: Instant) {
        while self.lost.front().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, key, member)) = self.lost.pop_front() else { return };
            let places = self.keys.get(&key).map(Vec::as_slice).unwrap_or_default();
            let is_it = |place: &Place| place.member == member && place.lost_at.is_some();
            if let Some(at) = places.iter().position(is_it) {
                self.remove(&key, at);
            }
        }
    }

    /// What is to be told now, if anything: not sooner than a moment after what was told before.
    pub fn take_diff(&mut self, now: Instant) -> Option<Diff> {
        if self.tell_at().is_none_or(|at| now < at) {
            return None;
        }
        self.tell_from = now + self.gather;
        self.round += 1;
        self.state = None;
        Some(take(&mut self.pending))
    }

    /// When [`Presence::expire`] or [`Presence::take_diff`] has something to do; it may be in the past.
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.lost.front().map(|(until, ..)| *until);
        [self.tell_at(), expiry].into_iter().flatten().min()
    }

    /// Everyone present as JSON, as of the last diff: whoever is given this needs every later diff.
    pub fn state(&mut self) -> Arc<str> {
        let (keys, pending, round) = (&self.keys, &self.pending, self.round);
        let render = || {
            let told = keys.iter().flat_map(|(key, places)| {
                let told = places.iter().filter(|place| place.since < round);
                told.map(move |place| (key, &place.meta))
            });
            let leaving = pending.leaves.iter().map(|(key, meta)| (key, meta));
            Arc::from(diff::to_json(told.chain(leaving)))
        };
        Arc::clone(self.state.get_or_insert_with(render))
    }

    /// How many metas there are.
    pub const fn tracked(&self) -> usize {
        self.tracked
    }

    /// Whether there is nobody, and nothing left to tell.
    pub fn is_empty(&self) -> bool {
        self.tracked == 0 && self.pending.is_empty()
    }

    fn tell_at(&self) -> Option<Instant> {
        (!self.pending.is_empty()).then_some(self.tell_from)
    }

    fn remove(&mut self, key: &Arc<str>, at: usize) {
        let Some(places) = self.keys.get_mut(key) else { return };
        let place = places.swap_remove(at);
        if places.is_empty() {
            self.keys.remove(key);
        }
        self.tracked -= 1;
        self.pending.leave(Arc::clone(key), place.meta, place.since < self.round);
    }
}

/// The place of a lost member: rather one with this payload than the one lost first.
fn replaceable(places: &[Place], payload: &Payload) -> Option<usize> {
    let lost =
        places.iter().enumerate().filter_map(|(at, place)| Some((at, place, place.lost_at?)));
    lost.min_by_key(|(_, place, lost_at)| {
        (place.meta.payload.as_str() != payload.as_str(), *lost_at)
    })
    .map(|(at, ..)| at)
}
