//! Waiting until commits that the WAL already told of can be seen by queries.
//!
//! With synchronous replication that wait has no bound, so neither has this one; it ends with the stage. However many
//! principals wait, one of them asks. Deliberately not here: asking; see [`super::visibility`].

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Transactions remembered as visible. The oldest are forgotten first and then asked about again.
const REMEMBERED: usize = 4096;
/// The first wait, and the longest.
const FIRST: Duration = Duration::from_micros(300);
const LONGEST: Duration = Duration::from_millis(20);

/// Which transactions are known to be visible.
#[derive(Debug, Default)]
pub(super) struct Gate {
    visible: Mutex<Visible>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Visible {
    known: HashSet<u32>,
    order: VecDeque<u32>,
}

impl Gate {
    /// Those of `xids` that are not known to be visible yet.
    pub(super) fn unknown(&self, xids: &[u32]) -> Vec<i64> {
        let visible = self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = xids.iter().filter(|xid| !visible.known.contains(xid));
        unknown.map(|xid| i64::from(*xid)).collect()
    }

    /// Remembers that these are visible. They stay so.
    pub(super) fn learn(&self, xids: &[u32]) {
        let mut visible = self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        for xid in xids {
            if visible.known.insert(*xid) {
                visible.order.push_back(*xid);
            }
            if REMEMBERED < visible.order.len()
                && let Some(oldest) = visible.order.pop_front()
            {
                visible.known.remove(&oldest);
            }
        }
    }

    /// Waits for one's turn to ask. Whoever gets it looks at [`Gate::unknown`] again first.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.asking.lock().await
    }
}

/// How long to wait before asking for the `count`th time again.
pub(super) fn wait(count: u32) -> Duration {
    (FIRST * 2u32.saturating_pow(count.min(16))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_is_not_asked_again_until_it_is_forgotten() {
        let gate = Gate::default();
        gate.learn(&[7, 8, 7]);
        assert_eq!(gate.unknown(&[7, 8, 9]), [9]);
        let many: Vec<u32> = (100..100 + 4096).collect();
        gate.learn(&many);
        assert_eq!(gate.unknown(&[7, 8, 100, 4195]), [7, 8]);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!(wait(0), FIRST);
        assert_eq!(wait(1), FIRST * 2);
        assert_eq!(wait(1000), LONGEST);
    }
}
