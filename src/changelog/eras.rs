//! Which histories the pieces in memory belong to. Pure.
//!
//! The fan-out reads what is left of a history and is then told that the next one begins; everybody else is told at
//! once. So what is read is never taken for something of another history, whatever the source does meanwhile.
//!
//! Overflow: when several histories begin while the fan-out stands still, it skips those in between.

use std::collections::VecDeque;

use super::place::{NO_EPOCH, Place};
use crate::model::{Epoch, Position};

/// Histories kept for the fan-out.
const MOST: usize = 8;

/// The present history, and those that the fan-out has not come to.
#[derive(Debug)]
pub(super) struct Eras {
    /// Counts them; those of an earlier process are one.
    number: u64,
    epoch: Option<Epoch>,
    /// Where the fan-out stands: everything up to there it has read.
    live: Position,
    pending: VecDeque<Era>,
}

/// A history that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era {
    number: u64,
    /// The number of the first piece that does not belong to the one before.
    ends: u64,
    /// The number of its own first piece.
    from: u64,
    at: Position,
}

/// Where a reader comes to when another history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) next: u64,
    pub(super) at: Position,
}

impl Eras {
    /// Goes on with the history of `epoch`, everything up to `newest` being read.
    pub(super) fn new(epoch: Option<Epoch>, newest: Place) -> Self {
        let live = newest.of(epoch.unwrap_or(NO_EPOCH));
        Self { number: 0, epoch, live, pending: VecDeque::new() }
    }

    /// The present history.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The present one's number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The number of the history that the fan-out is in, and where it stands there.
    pub(super) fn live(&self) -> (u64, Position) {
        (self.pending.front().map_or(self.number, |era| era.number - 1), self.live)
    }

    /// Another history begins: after `before`, with the piece that is numbered `from`.
    pub(super) fn begin(&mut self, epoch: Epoch, before: Place, from: u64) {
        self.number += 1;
        self.epoch = Some(epoch);
        let mut era = Era { number: self.number, ends: from, from, at: before.of(epoch) };
        if MOST <= self.pending.len()
            && let Some(skipped) = self.pending.pop_back()
        {
            era.ends = skipped.ends;
        }
        self.pending.push_back(era);
    }

    /// The fan-out has read everything up to `place`.
    pub(super) fn follow(&mut self, place: Place) {
        self.live = place.of(self.live.epoch);
    }

    /// The number at which what a reader reads ends, because another history begins; it was told of the one numbered
    /// `era` last.
    pub(super) fn end(&self, era: u64, is_live: bool) -> u64 {
        match self.pending.front() {
            Some(next) if is_live => next.ends,
            _ if era == self.number || is_live => u64::MAX,
            _ => 0,
        }
    }

    /// Where a reader goes on that has come to the end of its history. The fan-out comes to the next one if its pieces
    /// are there from number `first` on; others to the present one, which is there after `floor`.
    pub(super) fn enter(&mut self, is_live: bool, first: u64, floor: (u64, Place)) -> Entry {
        let (next, place) = floor;
        let present =
            Entry { number: self.number, next, at: place.of(self.epoch.unwrap_or(NO_EPOCH)) };
        if !is_live {
            return present;
        }
        let entry = match self.pending.pop_front() {
            Some(era) if first <= era.from => {
                Entry { number: era.number, next: era.from, at: era.at }
            }
            _ => {
                self.pending.clear();
                present
            }
        };
        self.live = entry.at;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    fn at(commit: u64) -> Place {
        Place { commit_lsn: Lsn::new(commit), index: 0 }
    }

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number)
    }

    #[test]
    fn the_fan_out_comes_to_every_history_and_others_to_the_present_one() {
        let mut eras = Eras::new(Some(epoch(1)), at(100));
        assert_eq!((eras.end(0, true), eras.end(0, false)), (u64::MAX, u64::MAX));
        eras.begin(epoch(2), at(50), 7);
        eras.begin(epoch(3), at(20), 9);
        assert_eq!((eras.live(), eras.epoch()), ((0, at(100).of(epoch(1))), Some(epoch(3))));
        assert_eq!((eras.end(0, true), eras.end(0, false), eras.end(2, false)), (7, 0, u64::MAX));
        let present = Entry { number: 2, next: 9, at: at(20).of(epoch(3)) };
        assert_eq!(eras.enter(false, 0, (9, at(20))), present);
        let entry = eras.enter(true, 0, (9, at(20)));
        assert_eq!(entry, Entry { number: 1, next: 7, at: at(50).of(epoch(2)) });
        eras.follow(at(60));
        assert_eq!((eras.live(), eras.end(1, true)), ((1, at(60).of(epoch(2))), 9));
        assert_eq!(eras.enter(true, 0, (9, at(20))), present);
        assert_eq!((eras.live().0, eras.end(2, true)), (2, u64::MAX));
    }

    #[test]
    fn what_has_left_memory_is_skipped_with_its_history() {
        let mut eras = Eras::new(Some(epoch(1)), at(100));
        eras.begin(epoch(2), at(50), 7);
        eras.begin(epoch(3), at(20), 9);
        let entry = eras.enter(true, 8, (9, at(20)));
        assert_eq!(entry, Entry { number: 2, next: 9, at: at(20).of(epoch(3)) });
        assert_eq!(eras.end(2, true), u64::MAX);
    }

    #[test]
    fn many_histories_are_bounded_and_none_is_taken_for_another() {
        let mut eras = Eras::new(None, Place::default());
        for number in 1..=20 {
            eras.begin(epoch(number), at(number), number * 10);
        }
        assert_eq!(eras.pending.len(), MOST);
        for _ in 1..MOST {
            eras.enter(true, 0, (200, at(20)));
        }
        assert_eq!(eras.live().1.epoch, epoch(7));
        assert_eq!(eras.end(7, true), 80, "what follows is of the eighth");
        assert_eq!(eras.enter(true, 0, (200, at(20))).next, 200);
        assert_eq!(eras.live().1.epoch, epoch(20));
    }
}
