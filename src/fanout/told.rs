//! How far everything was handed out, and which transactions of it may not be visible to queries yet.
//!
//! The WAL tells of a commit before queries see it; with synchronous replication, long before. A first read must not
//! miss what was handed out before its member arrived, so it waits for a snapshot that sees all of it.
//!
//! What a snapshot saw is forgotten, and Postgres is asked for one when much is remembered. Overflow: above a fixed
//! number, the oldest is forgotten and taken for visible.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::{Position, Snapshot};

/// Remembered at most; four bytes each.
const MOST: usize = 1 << 18;

/// So many are worth asking Postgres for a snapshot.
const MANY: usize = 1 << 15;

/// How long fewer may be kept before it is asked, because the numbers of transactions come round.
const OLD: Duration = Duration::from_mins(5);

/// Transactions handed out, in that order.
#[derive(Debug, Default)]
pub struct Told {
    xids: Mutex<VecDeque<u32>>,
    position: Mutex<Option<Position>>,
    many: Notify,
}

impl Told {
    /// A transaction is about to be handed out.
    pub(super) fn note(&self, xid: u32) {
        let mut xids = self.lock();
        if xids.back() == Some(&xid) {
            return;
        }
        if MOST <= xids.len() {
            xids.pop_front();
        }
        xids.push_back(xid);
        if xids.len().is_multiple_of(MANY) {
            self.many.notify_one();
        }
    }

    /// Everything up to `position` was handed out.
    pub(super) fn reach(&self, position: Position) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    /// Up to where everything was handed out; `None` until the fan-out has begun.
    pub(super) fn position(&self) -> Option<Position> {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those not known to be visible.
    pub(super) fn unseen(&self) -> Arc<[u32]> {
        self.lock().iter().copied().collect()
    }

    /// Forgets those that queries saw, and so do all later ones.
    pub(super) fn seen(&self, snapshot: &Snapshot) {
        self.lock().retain(|xid| !snapshot.sees(*xid));
    }

    /// Another history begins after `position`: transactions of the one before say nothing about it.
    pub(super) fn begin(&self, position: Position) {
        self.lock().clear();
        self.reach(position);
    }

    /// Returns when a snapshot should be asked for.
    pub(super) async fn is_due(&self) {
        loop {
            // Nothing depends on whether it was by time or by number.
            let _ = tokio::time::timeout(OLD, self.many.notified()).await;
            if !self.lock().is_empty() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.xids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changelog::Place;
    use crate::model::Epoch;

    #[test]
    fn what_was_seen_is_forgotten() {
        let told = Told::default();
        for xid in [5, 5, 6, 9] {
            told.note(xid);
        }
        assert_eq!(*told.unseen(), [5, 6, 9]);
        told.seen(&"6:9:6".parse().unwrap());
        assert_eq!(*told.unseen(), [6, 9]);
        let position = Place::default().of(Epoch::new(2));
        told.begin(position);
        assert!(told.unseen().is_empty());
        assert_eq!(told.position(), Some(position));
    }

    #[tokio::test]
    async fn much_is_a_reason_to_ask_and_there_is_a_bound() {
        let told = Told::default();
        for xid in 0..u32::try_from(MOST).unwrap() + 10 {
            told.note(xid);
        }
        assert_eq!((told.unseen().len(), told.unseen().first()), (MOST, Some(&10)));
        told.is_due().await;
    }
}
