//! Lanes that hold too much let their changes go, and their members are told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::queue::Piece;
use super::{HELD_LIMIT, LaneKey, Lanes};
use crate::fanout::work::Ask;
use crate::hub::{Hole, Member, Notice};
use crate::log_rate::admit;
use crate::metrics::reason;

/// How long the fan-out waits for lanes that hold too much to get down to half of it.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

impl Lanes {
    /// Returns once the lanes hold little enough.
    pub(in crate::fanout) async fn make_room(&mut self) {
        if self.held.total() <= HELD_LIMIT {
            return;
        }
        self.pump();
        let deadline = Instant::now() + ROOM_PATIENCE;
        while HELD_LIMIT / 2 < self.held.total() {
            if timeout_at(deadline, self.turn()).await.is_err() && !self.shed_heaviest(|_| true) {
                break;
            }
        }
    }

    /// Lets the changes go that wait in the lane with the most, of those that may be chosen; false when none do.
    pub(super) fn shed_heaviest(&mut self, may_be: impl Fn(&LaneKey) -> bool) -> bool {
        let lanes = self.lanes.iter_mut().filter(|(key, _)| may_be(key));
        let heaviest = lanes.max_by_key(|(_, lane)| lane.bytes);
        let Some((key, lane)) = heaviest.filter(|(_, lane)| lane.bytes != 0) else {
            return false;
        };
        let key = key.clone();
        if key.is_apart() {
            self.apart_bytes = self.apart_bytes.saturating_sub(lane.bytes);
        }
        lane.bytes = 0;
        let shed = std::mem::take(&mut lane.queue);
        self.fanout.metrics.gaps.get_or_create(&reason("row_checks_behind")).inc();
        let mut told = HashSet::new();
        let mut members = Vec::new();
        for queued in &shed {
            let (asked, noticed): (&[Ask], &[Arc<Member>]) = match &queued.piece {
                Piece::Change((work, _)) => (&work.asks, &[]),
                Piece::Notice(_, members) => (&[], members),
            };
            let concerned = asked.iter().map(|ask| &ask.member).chain(noticed);
            members.extend(concerned.filter(|member| told.insert(member.id)).cloned());
        }
        if let Some(left_out) = admit(&["shed", key.principal.role()]) {
            let (changes, members, role) = (shed.len(), members.len(), key.principal.role());
            tracing::error!(
                changes,
                members,
                role,
                left_out,
                "let a lane's changes go; its members were told"
            );
        }
        let message =
            "Changes are missing: row checks could not keep up. Please read the table again."
                .to_owned();
        let hole = Hole { reason: "row_checks_behind", ..Hole::default() };
        let notice = Notice::of_hole(message, hole);
        let ids: Vec<u64> = told.into_iter().collect();
        self.enqueue(key, SmallVec::new(), 0, Piece::Notice(notice, members), &ids);
        self.stirred.append(&mut self.blocked);
        self.pump();
        true
    }
}
