//! Where clients continue that name themselves with a `resume` id: by subject, id and topic, the last proven place.
//!
//! While a channel is open its own [`Proof`](super::Proof) says how far it is; when it ends, or when another socket of
//! the same client takes its place, that is kept here. What is kept outlives the process through [`Resumes::changed`]
//! and [`Resumes::load`]; a change that was not saved in time is delivered again, never lost.
//!
//! Overflow: above a fixed number of entries those are forgotten that were not used for longest, of the callers that
//! have the most. A caller without a subject is known by its network while this process lives, and finds its place from
//! another network all the same. Whoever comes back to a place that is not there is told so, like whoever comes for the first time.

pub mod file;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest;
use prometheus_client::metrics::counter::Counter;

use super::{Member, Namespace, RoomName};
use crate::model::{Position, Principal};

/// Entries kept; about 100 bytes each.
const MOST: usize = 200_000;

/// Whom a place belongs to: digests of the subject and of the channel, so that nothing of a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a channel.
    pub fn new(principal: &Principal, resume: &str, room: &RoomName) -> Self {
        let space = match room.namespace {
            Namespace::Public => "public",
            Namespace::Private => "private",
        };
        let subject = principal.subject();
        let parts = [principal.role(), &*subject, resume, space, &room.topic];
        let of_subject = digest_of(parts.iter().take(2)).into_iter().take(HOLDER);
        let of_channel = digest_of(parts.iter());
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(of_subject.chain(of_channel)) {
            *to = from;
        }
        Self(key)
    }

    /// Whose channel it is, as far as the key tells.
    fn subject(self) -> Option<[u8; HOLDER]> {
        self.0.first_chunk().copied()
    }
}

/// Bytes of a key that stand for the subject.
const HOLDER: usize = 4;

fn digest_of<'a>(parts: impl Iterator<Item = &'a &'a str>) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().to_vec()
}

/// An entry as it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Whose.
    pub key: Key,
    /// Where it continues.
    pub found: Found,
    /// When it was last used, in minutes since 1970.
    pub minute: u32,
}

/// Where a channel continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// After what.
    pub position: Position,
    /// It was told that it is new, and may not know.
    pub is_new: bool,
}

/// Whose places are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// A caller of this process, by a hash that nobody outside can compute.
    Caller(u64),
    /// The subject of a place that an earlier process saved.
    Saved(Option<[u8; HOLDER]>),
}

/// All places.
#[derive(Debug)]
pub struct Resumes {
    state: Mutex<State>,
    most: usize,
    hasher: RandomState,
    evicted: Counter,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry, foldhash::fast::RandomState>,
    /// How far everybody is who has nothing unproven.
    settled: Option<Position>,
}

#[derive(Debug)]
struct Entry {
    position: Option<Position>,
    minute: u32,
    owner: Option<Weak<Member>>,
    /// Who had it last; of an earlier process only the subject is known.
    holder: Holder,
    /// That it is new is not proven to be told.
    is_new: bool,
    /// What was saved last.
    saved: Option<Found>,
}

impl Resumes {
    /// No places. Those that are forgotten because there are too many are counted as `evicted`.
    pub fn new(evicted: Counter) -> Self {
        let (state, hasher) = (Mutex::default(), RandomState::new());
        Self { state, most: MOST, hasher, evicted }
    }

    /// Takes what an earlier process saved; the last of equal keys counts.
    pub fn load(&self, saved: impl IntoIterator<Item = Saved>) {
        let mut state = self.lock();
        for Saved { key, found, minute } in saved {
            let Found { position, is_new } = found;
            let (position, saved) = (Some(position), Some(found));
            let holder = Holder::Saved(key.subject());
            let entry = Entry { position, minute, owner: None, holder, is_new, saved };
            state.entries.insert(key, entry);
        }
        self.make_room(&mut state);
    }

    /// Everything up to `position` was given to everybody who is to have it.
    pub fn settle(&self, position: Position) {
        self.lock().settled = Some(position);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far everybody is; `None` until the source has attached for the first time.
    pub fn settled(&self) -> Option<Position> {
        self.lock().settled
    }

    /// Where a channel continues, if it was here before.
    pub fn find(&self, key: Key) -> Option<Found> {
        let state = self.lock();
        state.entries.get(&key).and_then(|entry| entry.place(state.settled))
    }

    /// From now on `member` says how far the channel is; one of another socket that did so does not any more.
    pub fn open(&self, key: Key, member: &Arc<Member>, minute: u32) {
        let mut state = self.lock();
        let before = state.entries.remove(&key);
        self.make_room(&mut state);
        let found = before.as_ref().and_then(|entry| entry.place(state.settled));
        let entry = Entry {
            position: found.map(|found| found.position),
            minute,
            owner: Some(Arc::downgrade(member)),
            holder: Holder::Caller(self.hasher.hash_one(member.caller())),
            is_new: found.is_some_and(|found| found.is_new),
            saved: before.and_then(|entry| entry.saved),
        };
        state.entries.insert(key, entry);
    }

    /// A channel ended: what it proved is kept, unless another took its place.
    pub fn close(&self, key: Key, member: &Arc<Member>, minute: u32) {
        let mut state = self.lock();
        let settled = state.settled;
        let Some(entry) = state.entries.get_mut(&key) else { return };
        if entry.owner.as_ref().is_some_and(|owner| Weak::as_ptr(owner) == Arc::as_ptr(member)) {
            let found = entry.place(settled);
            entry.position = found.map(|found| found.position);
            entry.is_new = found.is_some_and(|found| found.is_new);
            (entry.owner, entry.minute) = (None, minute);
        }
    }

    /// What changed since this was last asked.
    pub fn changed(&self, minute: u32) -> Vec<Saved> {
        let mut state = self.lock();
        let State { entries, settled } = &mut *state;
        let changed = entries.iter_mut().filter_map(|(key, entry)| {
            let before = entry.saved;
            entry.save(*key, *settled, minute).filter(|saved| before != Some(saved.found))
        });
        changed.collect()
    }

    /// Everything, to be saved anew. What was not used since the minute `since` is forgotten.
    pub fn all(&self, minute: u32, since: u32) -> Vec<Saved> {
        let mut state = self.lock();
        let State { entries, settled } = &mut *state;
        entries.retain(|_, entry| entry.owner.is_some() || since <= entry.minute);
        entries.iter_mut().filter_map(|(key, entry)| entry.save(*key, *settled, minute)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more.
    fn make_room(&self, state: &mut State) {
        if let Some(over) = state.entries.len().checked_sub(self.most) {
            // Many at once, so that it is rarely looked for.
            let forgotten = state.forget(over + self.most / 100 + 1);
            self.evicted.inc_by(u64::try_from(forgotten).unwrap_or(0));
        }
    }
}

impl State {
    /// Forgets `many` that nobody uses, or all of them: of the callers with the most the oldest ones, down to an equal
    /// number. How many those were.
    fn forget(&mut self, many: usize) -> usize {
        let idle = self.entries.iter().filter(|(_, entry)| entry.owner.is_none());
        let mut idle: Vec<_> =
            idle.map(|(key, entry)| (entry.holder, Reverse(entry.minute), *key)).collect();
        idle.sort_unstable_by_key(|(holder, minute, _)| (*holder, *minute));
        let (mut before, mut place) = (None, 0_usize);
        let ranked = idle.into_iter().map(|(holder, Reverse(minute), key)| {
            place = if before.replace(holder) == Some(holder) { place + 1 } else { 0 };
            (Reverse(place), minute, key)
        });
        let mut ranked: Vec<_> = ranked.collect();
        let many = ranked.len().min(many);
        if many < ranked.len() {
            ranked.select_nth_unstable_by_key(many, |(place, minute, _)| (*place, *minute));
        }
        for (_, _, key) in ranked.into_iter().take(many) {
            self.entries.remove(&key);
        }
        many
    }
}

impl Entry {
    fn place(&self, settled: Option<Position>) -> Option<Found> {
        let member = self.owner.as_ref().and_then(Weak::upgrade);
        let (position, is_new) = match member.as_ref().and_then(|member| member.proof()) {
            Some(proof) => (proof.position(settled), proof.is_new()),
            None => (self.position, self.is_new),
        };
        position.map(|position| Found { position, is_new })
    }

    fn save(&mut self, key: Key, settled: Option<Position>, minute: u32) -> Option<Saved> {
        if self.owner.is_some() {
            self.minute = minute;
        }
        let found = self.place(settled)?;
        self.saved = Some(found);
        Some(Saved { key, found, minute: self.minute })
    }
}

#[cfg(test)]
mod tests;
