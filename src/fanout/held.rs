//! How much memory waits in the lanes. What several lanes share counts once, and counts until the last lets it go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A share of a total; it is given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Held {
    /// No share of a new total.
    pub(super) fn nothing() -> Self {
        Self { bytes: 0, total: Arc::default() }
    }

    /// A further share of the same total.
    pub(super) fn more(&self, bytes: usize) -> Self {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, total: Arc::clone(&self.total) }
    }

    /// The sum of all shares.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_until_it_is_dropped() {
        let held = Held::nothing();
        let one = Arc::new(held.more(5));
        let (same, other) = (Arc::clone(&one), held.more(7));
        assert_eq!(held.total(), 12);
        drop((one, other));
        assert_eq!(held.total(), 5);
        drop(same);
        assert_eq!(held.total(), 0);
    }
}
