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

use sha2::{Digest, Sha256};

use super::Member;
use crate::changelog::Place;
use crate::model::{Position, Principal};

/// Entries kept; about 100 bytes each.
const MOST: usize = 200_000;

/// Whom a place belongs to. A digest, so that nothing of a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a channel.
    pub fn new(principal: &Principal, subject: Option<&str>, resume: &str, topic: &str) -> Self {
        let mut digest = Sha256::new();
        for part in [principal.role(), subject.unwrap_or_default(), resume, topic] {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part);
        }
        let digest = digest.finalize();
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(digest) {
            *to = from;
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
}

#[derive(Debug)]
struct Entry {
    position: Position,
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
            let entry = Entry { position, minute, owner: None, saved: Some(position) };
            state.entries.insert(key, entry);
        }
    }

    /// A channel opens: where it continues, if it was here before. From now on `member` says how far it is; one of
    /// another socket that did so does not any more. `now` is how far everybody is.
    pub fn open(
        &self,
        key: Key,
        member: &Arc<Member>,
        now: Position,
        minute: u32,
    ) -> Option<Position> {
        let mut state = self.lock();
        let before = state.entries.get(&key).map(|entry| entry.place(now));
        if before.is_none() && MOST <= state.entries.len() {
            state.forget_oldest();
        }
        let position = before.unwrap_or(now);
        let owner = Some(Arc::downgrade(member));
        let saved = state.entries.get(&key).and_then(|entry| entry.saved);
        state.entries.insert(key, Entry { position, minute, owner, saved });
        before
    }

    /// A channel ended: what it proved is kept, unless another took its place.
    pub fn close(&self, key: Key, member: &Arc<Member>, now: Position, minute: u32) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&key) else { return };
        if entry.owner.as_ref().is_some_and(|owner| Weak::as_ptr(owner) == Arc::as_ptr(member)) {
            entry.position = entry.place(now);
            (entry.owner, entry.minute) = (None, minute);
        }
    }

    /// What changed since this was last asked.
    pub fn changed(&self, now: Position, minute: u32) -> Vec<Saved> {
        let mut changed = Vec::new();
        for (key, entry) in &mut self.lock().entries {
            if entry.owner.is_some() {
                entry.minute = minute;
            }
            let position = entry.place(now);
            if entry.saved != Some(position) {
                entry.saved = Some(position);
                changed.push(Saved { key: *key, position, minute: entry.minute });
            }
        }
        changed
    }

    /// Everything, to be saved anew. What was not used since `minute` is forgotten.
    pub fn all(&self, now: Position, minute: u32) -> Vec<Saved> {
        let mut state = self.lock();
        state.entries.retain(|_, entry| entry.owner.is_some() || minute <= entry.minute);
        let saved = state.entries.iter_mut().map(|(key, entry)| {
            let position = entry.place(now);
            entry.saved = Some(position);
            Saved { key: *key, position, minute: entry.minute }
        });
        saved.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_oldest(&mut self) {
        let idle = self.entries.iter().filter(|(_, entry)| entry.owner.is_none());
        let oldest = idle.min_by_key(|(_, entry)| entry.minute).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.entries.remove(&key);
        }
    }
}

impl Entry {
    fn place(&self, now: Position) -> Position {
        let owner = self.owner.as_ref().and_then(Weak::upgrade);
        let Some(member) = owner else { return self.position };
        let Some(proof) = member.proof() else { return self.position };
        if self.position.epoch != now.epoch {
            // Another history began: what was delivered belongs to it when anything was.
            return self.position;
        }
        let Place { commit_lsn, index } = proof.position(now.into(), member.is_live());
        Position { epoch: now.epoch, commit_lsn, index }
    }
}
