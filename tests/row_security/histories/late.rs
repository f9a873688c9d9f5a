//! Rights that change without the written table being described anew, for roles for whom nothing is asked of Postgres:
//! the relay notices within about a second. What it gets wrong until then is counted, not a fault.
//!
//! Not here: tables that had row security, and tables that are seen as one that the written one is a partition of. There a
//! judgement is asked for, which notices at once.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::shape::Shape;
use super::shifts::Shift;

/// How long after the rights a change may be that is still judged by those of before.
const NOTICED: Duration = Duration::from_secs(3);

/// Rights that changed.
#[derive(Clone, Debug)]
pub struct Shifted {
    pub shift: Shift,
    /// When they had changed at the latest.
    pub at: Instant,
    /// The indexes of the changes of rows that the same transaction had made before. The table is described anew for
    /// those that follow.
    pub behind: Range<usize>,
    /// Whether the table, or its partitions where those are meant, had row security before.
    pub was_guarded: bool,
}

/// A change as somebody sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The index of the change.
    pub at: usize,
    /// A moment before the change.
    pub began: Instant,
    pub who: &'a str,
    pub shape: &'a Shape,
    /// Whether it is seen under the name of the table, and not of one of its partitions.
    pub is_of_table: bool,
    /// Whether what it is seen as has row security now.
    pub is_guarded: bool,
    /// The major version of Postgres.
    pub version: u32,
}

impl Shifted {
    /// Whether the relay may judge a change by the rights of before.
    pub fn excuses(&self, seen: &Seen<'_>) -> bool {
        let is_partitioned = seen.shape.is_partitioned;
        if is_partitioned && seen.is_of_table || !self.is_recent(seen.began) {
            return false;
        }
        let is_behind = self.behind.contains(&seen.at);
        let is_one_of = |names: &[&str]| names.contains(&seen.who);
        match self.shift {
            // Later versions describe the table anew.
            Shift::UsageRevoked => seen.version < 16 && !seen.is_guarded,
            Shift::MembershipLost => is_one_of(&["staff"]) && !seen.is_guarded,
            // Those of partitions are their own.
            Shift::SelectRevoked | Shift::ColumnRevoked => {
                is_behind && is_one_of(&["alice", "bob"]) && !seen.is_guarded && !is_partitioned
            }
            Shift::SelectGranted => {
                let has_more = is_one_of(&["alice", "bob", "guest"]);
                is_behind && has_more && !seen.is_guarded && !is_partitioned
            }
            Shift::SecurityEnabled => is_behind && !self.was_guarded && !is_partitioned,
            Shift::LeavesShut => is_behind && !self.was_guarded,
            _ => false,
        }
    }

    /// Whether the table's row security has been switched off so recently that a policy of before may still be asked.
    pub fn opens(&self, began: Instant) -> bool {
        self.shift == Shift::SecurityDisabled && self.is_recent(began)
    }

    fn is_recent(&self, began: Instant) -> bool {
        began.saturating_duration_since(self.at) < NOTICED
    }
}
