//! Rights that change without the written table being described anew, for roles for whom nothing is asked of Postgres:
//! the relay notices within about a second. What it gets wrong until then is counted, not a fault.
//!
//! Not here: tables with row security, and tables that are seen as one that the written one is a partition of. There a
//! judgement is asked for, which notices at once.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::shape::Shape;
use super::shifts::Shift;

/// How long after the rights a change may be that is still told by those of before.
const NOTICED: Duration = Duration::from_secs(3);

/// Rights that changed.
#[derive(Clone, Debug)]
pub struct Shifted {
    pub shift: Shift,
    /// When they had changed at the latest.
    pub at: Instant,
    /// The changes of rows, by their places, that the same transaction had made before.
    pub behind: Range<usize>,
}

impl Shifted {
    /// Whether the relay may tell a change to `who` by the rights of before. `at` is the change's place, `began` a moment
    /// before it.
    pub fn excuses(
        &self,
        at: usize,
        began: Instant,
        who: &str,
        shape: &Shape,
        version: u32,
    ) -> bool {
        if !self.is_recent(began) {
            return false;
        }
        match self.shift {
            // Later versions describe the table anew.
            Shift::UsageRevoked => version < 16,
            Shift::MembershipLost => who == "staff",
            // Rights on partitions are their own.
            Shift::SelectRevoked | Shift::ColumnRevoked => {
                ["alice", "bob"].contains(&who)
                    && !shape.is_partitioned
                    && self.behind.contains(&at)
            }
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
