//! Where clients continue that name themselves with a `resume` id: by subject, id and topic, the last proven place.
//!
//! While a channel is open its own [`Proof`](super::Proof) says how far it is; when it ends, or when another socket of
//! the same client takes its place, that is kept here. What is kept outlives the process through [`Resumes::changed`]
//! and [`Resumes::load`]; a change that was not saved in time is delivered again, never lost.
//!
//! Overflow: above a fixed number of entries the one not used for longest is forgotten.

pub mod file;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest;

use super::{Member, Namespace, RoomName};
use crate::model::{Position, Principal};

/// Entries kept; about 100 bytes each.
const MOST: usize = 200_000;

/// Whom a place belongs to. A digest, so that nothing of a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a channel.
    pub fn new(principal: &Principal, resume: &str, room: &RoomName) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let space = match room.namespace {
            Namespace::Public => "public",
            Namespace::Private => "private",
        };
        let subject = principal.subject();
        for part in [principal.role(), &*subject, resume, space, &room.topic] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(key)
    }
}

/// An entry as it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Whose.
    pub key: Key,
    /// After what it continues.
    pub position: Position,
    /// When it was last used, in minutes since 1970.
    pub minute: u32,
}

/// All places.
#[derive(Debug, Default)]
pub struct Resumes(Mutex<State>);

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
    /// What was saved last.
    saved: Option<Position>,
}

impl Resumes {
    /// Takes what an earlier process saved; the last of equal keys counts.
    pub fn load(&self, saved: impl IntoIterator<Item = Saved>) {
        let mut state = self.lock();
        for Saved { key, position, minute } in saved {
            let position = Some(position);
            let entry = Entry { position, minute, owner: None, saved: position };
            state.entries.insert(key, entry);
        }
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
    pub fn find(&self, key: Key) -> Option<Position> {
        let state = self.lock();
        state.entries.get(&key).and_then(|entry| entry.place(state.settled))
    }

    /// From now on `member` says how far the channel is; one of another socket that did so does not any more.
    pub fn open(&self, key: Key, member: &Arc<Member>, minute: u32) {
        let mut state = self.lock();
        let before = state.entries.remove(&key);
        if MOST <= state.entries.len() {
            state.forget_oldest();
        }
        let (position, saved) = match before {
            Some(entry) => (entry.place(state.settled), entry.saved),
            None => (None, None),
        };
        let owner = Some(Arc::downgrade(member));
        state.entries.insert(key, Entry { position, minute, owner, saved });
    }

    /// A channel ended: what it proved is kept, unless another took its place.
    pub fn close(&self, key: Key, member: &Arc<Member>, minute: u32) {
        let mut state = self.lock();
        let settled = state.settled;
        let Some(entry) = state.entries.get_mut(&key) else { return };
        if entry.owner.as_ref().is_some_and(|owner| Weak::as_ptr(owner) == Arc::as_ptr(member)) {
            entry.position = entry.place(settled);
            (entry.owner, entry.minute) = (None, minute);
        }
    }

    /// What changed since this was last asked.
    pub fn changed(&self, minute: u32) -> Vec<Saved> {
        let mut state = self.lock();
        let State { entries, settled } = &mut *state;
        let changed = entries.iter_mut().filter_map(|(key, entry)| {
            let before = entry.saved;
            entry.save(*key, *settled, minute).filter(|saved| before != Some(saved.position))
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_oldest(&mut self) {
        let idle = self.entries.iter().filter(|(_, entry)| entry.owner.is_none());
        let mut idle: Vec<(u32, Key)> = idle.map(|(key, entry)| (entry.minute, *key)).collect();
        // Many at once, so that it is rarely looked for.
        let many = idle.len().min(MOST / 100);
        if many < idle.len() {
            idle.select_nth_unstable_by_key(many, |(minute, _)| *minute);
        }
        for (_, key) in idle.into_iter().take(many) {
            self.entries.remove(&key);
        }
    }
}

impl Entry {
    fn place(&self, settled: Option<Position>) -> Option<Position> {
        let member = self.owner.as_ref().and_then(Weak::upgrade);
        match member.as_ref().and_then(|member| member.proof()) {
            Some(proof) => proof.position(settled),
            None => self.position,
        }
    }

    fn save(&mut self, key: Key, settled: Option<Position>, minute: u32) -> Option<Saved> {
        if self.owner.is_some() {
            self.minute = minute;
        }
        let position = self.place(settled)?;
        self.saved = Some(position);
        Some(Saved { key, position, minute: self.minute })
    }
}
