//! What clients make the relay hold, besides what waits to be sent to them: counted by kind, and bounded three times.
//!
//! Whoever is about to keep something for a client asks for its bytes first and keeps the [`MemoryReservation`] beside it, so that they
//! are given back whenever and however it goes. The bounds: of one thing (a frame, a join, a body), which is whoever asks
//! who knows it; of one caller, a quarter of its kind; of all, the kind's part of `limits.memory`. Kinds do not take from
//! each other: who fills one of them leaves the others as they were.
//!
//! Bytes are what a thing is known to take, or an estimate from above; neither the allocator's overhead nor a thing that
//! lives for one turn of a task is counted. Deliberately not here: outboxes and gates, which have a sum of their own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{Kind as Label, Metrics};
use crate::model::CallerIdentity;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WebSocket messages that have not arrived whole.
    Messages,
    /// Bodies of requests, while they arrive and are worked on.
    Bodies,
    /// Channels, and what they are subscribed to.
    Subscriptions,
    /// Compiled patterns of filters.
    Patterns,
    /// What members of channels track.
    Presences,
    /// What private channels say while the policies are asked whether they may.
    Unsaid,
    /// Tokens and headers of sockets.
    Sockets,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Messages,
        Self::Bodies,
        Self::Subscriptions,
        Self::Patterns,
        Self::Presences,
        Self::Unsaid,
        Self::Sockets,
    ];

    /// Its word in `relay_memory_bytes`, its sixteenths of `limits.memory`, and the codes of `relay_refused_total` when a
    /// caller, and when all callers together, have as much as they may.
    const fn terms(self) -> (&'static str, usize, [&'static str; 2]) {
        match self {
            Self::Messages => {
                ("messages", 3, ["SubjectMessageMemoryReached", "MessageMemoryReached"])
            }
            Self::Bodies => ("bodies", 3, ["SubjectBodyMemoryReached", "BodyMemoryReached"]),
            Self::Subscriptions => (
                "subscriptions",
                4,
                ["SubjectSubscriptionMemoryReached", "SubscriptionMemoryReached"],
            ),
            Self::Patterns => {
                ("patterns", 1, ["SubjectPatternMemoryReached", "PatternMemoryReached"])
            }
            Self::Presences => {
                ("presences", 2, ["SubjectPresenceMemoryReached", "PresenceMemoryReached"])
            }
            Self::Unsaid => ("unsaid", 1, ["SubjectUnsaidMemoryReached", "UnsaidMemoryReached"]),
            Self::Sockets => ("sockets", 2, ["SubjectSocketMemoryReached", "SocketMemoryReached"]),
        }
    }

    /// Bytes of `limits.memory` with which one caller may hold so many of this kind.
    pub const fn total_for_a_caller(self, bytes: usize) -> usize {
        let (_, parts, _) = self.terms();
        // Memory is taken in pieces.
        bytes.saturating_add(PIECE).saturating_mul(CALLERS * PARTS) / parts
    }

    const fn place(self) -> usize {
        self as usize
    }
}

/// What arrives by and by takes its memory in pieces of so many bytes.
pub const PIECE: usize = 64 * 1024;

/// Parts of `limits.memory`.
const PARTS: usize = 16;

/// One caller may have this part of a kind.
const CALLERS: usize = 4;

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The code for the metrics.
    pub code: &'static str,
    /// The caller itself has as much as it may; otherwise all callers together have.
    pub is_of_caller: bool,
}

/// The accounts of all kinds. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Memory(Arc<[Account; Kind::ALL.len()]>);

#[derive(Debug)]
struct Account {
    kind: Kind,
    most: usize,
    most_of_caller: usize,
    hasher: RandomState,
    held: Mutex<Sums>,
    gauge: Gauge,
}

/// Bounded by the bytes: whoever holds none is not in the map.
#[derive(Debug, Default)]
struct Sums {
    all: usize,
    /// By a hash of the caller that nobody outside can compute.
    of_callers: HashMap<u64, usize>,
}

/// Bytes that somebody holds; given back when dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    memory: Memory,
    kind: Kind,
    caller: u64,
    bytes: usize,
}

impl Memory {
    /// Nothing is held yet of the `total` bytes of `limits.memory`.
    pub fn new(total: usize, metrics: &Metrics) -> Self {
        Self(Arc::new(Kind::ALL.map(|kind| {
            let (word, parts, _) = kind.terms();
            let gauge = metrics.memory_bytes.get_or_create(&Label { kind: word }).clone();
            let most = total / PARTS * parts;
            Account {
                kind,
                most,
                most_of_caller: most / CALLERS,
                hasher: RandomState::new(),
                held: Mutex::default(),
                gauge,
            }
        })))
    }

    /// Takes so many bytes of a kind for a caller.
    ///
    /// # Errors
    /// There is no room; nothing is taken.
    pub fn reserve(
        &self,
        kind: Kind,
        caller: &CallerIdentity,
        bytes: usize,
    ) -> Result<MemoryReservation, Full> {
        let Some(account) = self.0.get(kind.place()) else { return Err(Full::of(kind, false)) };
        let caller = account.hasher.hash_one(caller);
        account.take(caller, bytes)?;
        Ok(MemoryReservation { memory: self.clone(), kind, caller, bytes })
    }

    /// Bytes of a kind that are held.
    pub fn held(&self, kind: Kind) -> usize {
        self.0.get(kind.place()).map_or(0, |account| account.sums().all)
    }
}

impl MemoryReservation {
    /// Holds so many bytes instead.
    ///
    /// # Errors
    /// There is no room for more; as many are held as before.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        let Some(account) = self.memory.0.get(self.kind.place()) else { return Ok(()) };
        match bytes.checked_sub(self.bytes) {
            Some(more) => account.take(self.caller, more)?,
            None => account.give_back(self.caller, self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        if let Some(account) = self.memory.0.get(self.kind.place()) {
            account.give_back(self.caller, self.bytes);
        }
    }
}

impl Full {
    const fn of(kind: Kind, is_of_caller: bool) -> Self {
        let (_, _, [of_caller, of_all]) = kind.terms();
        Self { code: if is_of_caller { of_caller } else { of_all }, is_of_caller }
    }
}

impl Account {
    fn take(&self, caller: u64, bytes: usize) -> Result<(), Full> {
        let mut sums = self.sums();
        let of_caller = sums.of_callers.get(&caller).map_or(0, |held| *held).saturating_add(bytes);
        if self.most_of_caller < of_caller {
            return Err(Full::of(self.kind, true));
        }
        if self.most < sums.all.saturating_add(bytes) {
            return Err(Full::of(self.kind, false));
        }
        if 0 < of_caller {
            sums.of_callers.insert(caller, of_caller);
        }
        sums.all += bytes;
        self.show(sums.all);
        Ok(())
    }

    fn give_back(&self, caller: u64, bytes: usize) {
        let mut sums = self.sums();
        if let Entry::Occupied(mut held) = sums.of_callers.entry(caller) {
            *held.get_mut() = held.get().saturating_sub(bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
        sums.all = sums.all.saturating_sub(bytes);
        self.show(sums.all);
    }

    fn show(&self, bytes: usize) {
        self.gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        // Nothing panics while holding the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> CallerIdentity {
        CallerIdentity::Subject(name.into())
    }

    /// Each part has 64 bytes, and so a caller 16 of each.
    fn memory() -> Memory {
        Memory::new(1024, &Metrics::new())
    }

    #[test]
    fn parts_are_the_whole() {
        assert_eq!(Kind::ALL.iter().map(|kind| kind.terms().1).sum::<usize>(), PARTS);
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.place(), place);
        }
    }

    #[test]
    fn a_caller_has_a_quarter_of_a_kind_and_what_it_gives_back_is_free_again() {
        let (memory, ann) = (memory(), caller("ann"));
        let mut held = memory.reserve(Kind::Patterns, &ann, 10).unwrap();
        let full = memory.reserve(Kind::Patterns, &ann, 7).unwrap_err();
        assert_eq!(full, Full { code: "SubjectPatternMemoryReached", is_of_caller: true });
        held.resize(16).unwrap();
        assert_eq!(held.resize(17).unwrap_err(), full);
        assert!(memory.reserve(Kind::Unsaid, &ann, 16).is_ok(), "another kind");
        assert!(memory.reserve(Kind::Patterns, &caller("bob"), 16).is_ok(), "another caller");
        held.resize(1).unwrap();
        assert!(memory.reserve(Kind::Patterns, &ann, 15).is_ok());
        drop(held);
        assert_eq!(memory.held(Kind::Patterns), 0);
        let [account, ..] = &*memory.0;
        assert!(account.sums().of_callers.is_empty());
    }

    #[test]
    fn all_callers_together_have_the_kind() {
        let memory = memory();
        let hold = |name: &str| memory.reserve(Kind::Unsaid, &caller(name), 16);
        let held: Vec<_> = ["a", "b", "c", "d"].map(|name| hold(name).unwrap()).into();
        let full = hold("e").unwrap_err();
        assert_eq!(full, Full { code: "UnsaidMemoryReached", is_of_caller: false });
        assert_eq!(memory.held(Kind::Unsaid), 64);
        drop(held);
        assert!(hold("e").is_ok());
    }
}
