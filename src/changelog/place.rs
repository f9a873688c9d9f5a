//! Where a change stands in one history, and what a reader is told when its place is not in the log. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Epoch, Lsn, Position, Transaction};

/// The epoch of what was before the first history.
pub const NO_EPOCH: Epoch = Epoch::new(0);

/// A place in one history: a [`Position`] whose epoch is the log's. Ordered as changes were committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where the transaction committed.
    pub commit_lsn: Lsn,
    /// Which change of the transaction, from 0.
    pub index: u32,
}

impl Place {
    /// The same as a position in the history of `epoch`.
    pub const fn of(self, epoch: Epoch) -> Position {
        Position { epoch, commit_lsn: self.commit_lsn, index: self.index }
    }

    /// The last place before every transaction that commits at `lsn` or later.
    pub const fn before(lsn: Lsn) -> Self {
        Self { commit_lsn: Lsn::new(lsn.bytes().saturating_sub(1)), index: u32::MAX }
    }

    /// The last place before this one.
    #[must_use]
    pub fn before_it(self) -> Self {
        match self.index.checked_sub(1) {
            Some(index) => Self { index, ..self },
            None => Self::before(self.commit_lsn),
        }
    }

    /// The place of the last change of a piece. One that was let go, and is empty, stands for all its changes.
    pub fn last_of(piece: &Transaction) -> Self {
        let count = u32::try_from(piece.changes.len()).unwrap_or(u32::MAX);
        Self::last(piece.commit_lsn, piece.first, count, piece.oversized)
    }

    /// The same of a piece that has `count` changes from `first` on.
    pub(super) const fn last(commit_lsn: Lsn, first: u32, count: u32, oversized: bool) -> Self {
        let index =
            if oversized { u32::MAX } else { first.saturating_add(count.saturating_sub(1)) };
        Self { commit_lsn, index }
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { commit_lsn: position.commit_lsn, index: position.index }
    }
}

/// What the log has: every change after `oldest`, up to `newest` and with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The history it belongs to; `None` until the source has attached for the first time.
    pub epoch: Option<Epoch>,
    /// A reader at this place or a later one misses nothing. The change at it is not in the log.
    pub oldest: Place,
    /// The last change that readers can see.
    pub newest: Place,
}

/// Why the log cannot continue after a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Changes after it are no longer in the log; what is there begins after `oldest`.
    Forgotten {
        /// Where the log begins now.
        oldest: Place,
    },
    /// It is of another history, or the source has not said yet which one this is.
    OtherEpoch,
    /// It is past the newest change. After a crash this is a change that clients saw before it was on disk: Postgres
    /// sends it again soon, under the same id. It is nonsense only once the source has caught up.
    Ahead {
        /// The newest change there is.
        newest: Place,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forgotten { .. } => "changes after it are no longer in the log",
            Self::OtherEpoch => "it belongs to another history",
            Self::Ahead { .. } => "it is past the newest change",
        })
    }
}

impl std::error::Error for Gap {}

/// The changes of `piece` after `place`: all, some, or nothing at all.
pub(super) fn after(piece: &Arc<Transaction>, place: Place) -> Option<Arc<Transaction>> {
    let begin = Place { commit_lsn: piece.commit_lsn, index: piece.first };
    if place < begin {
        return Some(Arc::clone(piece));
    }
    if Place::last_of(piece) <= place {
        return None;
    }
    let passed = place.index.saturating_sub(piece.first).saturating_add(1);
    let changes = piece.changes.iter().skip(usize::try_from(passed).unwrap_or(usize::MAX));
    Some(Arc::new(Transaction {
        first: piece.first + passed,
        changes: changes.cloned().collect(),
        ..Transaction::clone_head(piece)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changelog::samples::piece;

    #[test]
    fn a_reader_in_the_middle_of_a_piece_gets_the_rest_of_it() {
        let piece = Arc::new(piece(100, 4, 3, true));
        let at = |commit, index| Place { commit_lsn: Lsn::new(commit), index };
        let rest = |place| after(&piece, place).map(|rest| (rest.first, rest.changes.len()));
        assert_eq!(rest(at(99, 9)), Some((4, 3)));
        assert_eq!(rest(at(100, 3)), Some((4, 3)));
        assert_eq!(rest(at(100, 4)), Some((5, 2)));
        assert_eq!(rest(at(100, 6)), None);
        assert_eq!(rest(at(101, 0)), None);
        let rest = after(&piece, at(100, 5)).unwrap();
        assert_eq!((rest.end_lsn, &rest.changes[..]), (piece.end_lsn, &piece.changes[2..]));
    }

    #[test]
    fn before_a_commit_is_after_everything_earlier() {
        let before = Place::before(Lsn::new(100));
        assert!(Place { commit_lsn: Lsn::new(99), index: u32::MAX } <= before);
        assert!(before < Place { commit_lsn: Lsn::new(100), index: 0 });
    }
}
