//! What a socket was told of, so that it is told once.
//!
//! Ids are kept as hashes that nobody outside can compute: clients choose some, of any length.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// Messages and closings a socket remembers having told of.
const REMEMBERED: usize = 1024;

/// Ids that were told of, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Told {
    hasher: RandomState,
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Told {
    /// Whether this is news; it is none from now on.
    pub(super) fn is_news(&mut self, id: &str) -> bool {
        let id = self.hasher.hash_one(id);
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if REMEMBERED < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
