//! Which transactions were heard of before queries may see them.
//!
//! The WAL tells of a commit before queries see it. Whoever reads the past of a topic waits until everything told of
//! before can be seen, so that nothing falls between the past and the present. Deliberately not here: asking; see
//! [`super::policy`].

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Transactions remembered. The oldest are forgotten first, and taken for visible.
const REMEMBERED: usize = 4096;

/// How long one is remembered: much longer than a commit takes to be seen, much shorter than their numbers take to come
/// round.
const FRESH: Duration = Duration::from_secs(600);

/// Transactions with messages that are told, and not known to be visible.
#[derive(Debug, Default)]
pub struct Streamed(Mutex<VecDeque<(u32, Instant)>>);

impl Streamed {
    /// Remembers a transaction, before anything of it is told.
    pub fn note(&self, xid: u32, now: Instant) {
        let mut told = self.told();
        if told.back().is_none_or(|(last, _)| *last != xid) {
            if REMEMBERED <= told.len() {
                told.pop_front();
            }
            told.push_back((xid, now));
        }
    }

    /// Those not known to be visible.
    pub(super) fn unseen(&self, now: Instant) -> Vec<i64> {
        let mut told = self.told();
        told.retain(|(_, at)| now.saturating_duration_since(*at) < FRESH);
        told.iter().map(|(xid, _)| i64::from(*xid)).collect()
    }

    /// Forgets those that can be seen now. They can be for ever.
    pub(super) fn seen(&self, xids: &[i64]) {
        // Made before the lock is taken: whoever tells messages waits for it.
        let seen: HashSet<i64> = xids.iter().copied().collect();
        self.told().retain(|(xid, _)| !seen.contains(&i64::from(*xid)));
    }

    fn told(&self) -> MutexGuard<'_, VecDeque<(u32, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_seen_or_old_and_no_more_than_it_can() {
        let (streamed, start) = (Streamed::default(), Instant::now());
        for xid in [7, 7, 8] {
            streamed.note(xid, start);
        }
        streamed.note(9, start + FRESH / 2);
        assert_eq!(streamed.unseen(start), [7, 8, 9]);
        streamed.seen(&[8, 10]);
        assert_eq!(streamed.unseen(start), [7, 9]);
        assert_eq!(streamed.unseen(start + FRESH), [9]);
        for xid in 10..10 + 4096 {
            streamed.note(xid, start);
        }
        let unseen = streamed.unseen(start);
        assert_eq!((unseen.len(), unseen.first()), (4096, Some(&10)));
    }
}
