//! What a socket was told of, so that it is told once.

use std::collections::{HashSet, VecDeque};

/// Messages and closings a socket remembers having told of.
const REMEMBERED: usize = 1024;

/// Ids that were told of, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Told {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Told {
    /// Whether this is news; it is none from now on.
    pub(super) fn is_news(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if REMEMBERED < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
