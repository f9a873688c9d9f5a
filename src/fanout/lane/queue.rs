//! The queue of one lane.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Place;
use crate::fanout::round::Holding;
use crate::hub::{Member, Notice};
use crate::model::Position;

/// What waits for one principal, in order.
#[derive(Default)]
pub(super) struct Lane {
    /// What waits.
    pub(super) queue: VecDeque<Queued>,
    /// Sequence of the first work of the round under way.
    pub(super) judging: Option<u64>,
    /// Its first change.
    pub(super) judging_from: Option<Position>,
    /// Memory of what waits.
    pub(super) bytes: usize,
}

/// Something that waits in a lane.
pub(super) struct Queued {
    /// Order of matching over the whole fan-out.
    pub(super) sequence: u64,
    /// What must have left other lanes first, because it is for the same members.
    pub(super) after: SmallVec<[Place; 1]>,
    /// Memory it takes.
    pub(super) bytes: usize,
    pub(super) piece: Piece,
}

/// What is handed out.
pub(super) enum Piece {
    /// A change.
    Change(Holding),
    /// Something to tell these members.
    Notice(Notice, Vec<Arc<Member>>),
}

impl Lane {
    /// The change that it hands out next.
    pub(super) fn begins(&self) -> Option<Position> {
        self.judging_from.or_else(|| {
            self.queue.iter().find_map(|queued| match &queued.piece {
                Piece::Change((work, _)) => Some(work.sighting.id),
                Piece::Notice(..) => None,
            })
        })
    }

    /// Whether everything up to `sequence` has left the lane.
    pub(super) fn has_passed(&self, sequence: u64) -> bool {
        let first = self.judging.or_else(|| self.queue.front().map(|queued| queued.sequence));
        first.is_none_or(|first| first > sequence)
    }

    /// Puts something behind everything else.
    pub(super) fn push(&mut self, queued: Queued) {
        self.bytes += queued.bytes;
        self.queue.push_back(queued);
    }

    /// Takes what is next.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.bytes;
        Some(queued)
    }
}
