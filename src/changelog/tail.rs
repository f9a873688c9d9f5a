//! The newest part of a log, in memory: what readers are served from at once. Pure.
//!
//! Pieces are numbered without a hole for as long as the log lives, over restarts too; a number is a piece's place in
//! the log. Readers see those below `visible`, which moves when the last piece of a transaction is in: half a
//! transaction is never seen, and one that is begun again replaces its first attempt.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::eras::{Entry, Eras};
use super::place::Place;
use super::reader::News;
use crate::model::{Epoch, Lsn, Position, Transaction};

/// Kept for readers that are a little behind, once everybody else has it.
const RECENT: usize = 8 << 20;

/// The pieces in memory, oldest first.
#[derive(Debug)]
pub(super) struct Tail {
    pieces: VecDeque<(Arc<Transaction>, usize)>,
    bytes: usize,
    limit: usize,
    /// The number of the first piece in memory.
    first: u64,
    visible: u64,
    /// The number from which on pieces belong to the present history.
    history: u64,
    /// The last whole transaction.
    last_commit: Lsn,
    end: Lsn,
    newest: Place,
    open: Option<Open>,
    /// The number of the piece that the fan-out reads next.
    live: u64,
    /// The lowest number that is given out again.
    cut: Option<u64>,
    eras: Eras,
}

/// A transaction whose last piece has not come.
#[derive(Clone, Copy, Debug)]
struct Open {
    start: u64,
    commit_lsn: Lsn,
    weight: usize,
    let_go: bool,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is at or before the last whole transaction.
    Repeated,
    /// It must wait until something may leave memory.
    Full,
    /// It is in.
    In,
}

/// What is kept of a log that outlived its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Whose history it is.
    pub(super) epoch: Option<Epoch>,
    /// The number of the next piece.
    pub(super) next: u64,
    /// The last whole transaction.
    pub(super) newest: Place,
    /// Where everything that was confirmed or logged ends.
    pub(super) end: Lsn,
}

impl Tail {
    /// Nothing in memory, behind what is `kept` elsewhere. More than `limit` bytes are never held, except for a single
    /// piece that is larger.
    pub(super) fn new(limit: usize, kept: Kept) -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            limit,
            first: kept.next,
            visible: kept.next,
            history: kept.next,
            last_commit: kept.newest.commit_lsn,
            end: kept.end,
            newest: kept.newest,
            open: None,
            live: kept.next,
            cut: None,
            eras: Eras::new(kept.epoch, kept.newest),
        }
    }

    /// The number of the next piece.
    pub(super) fn next(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Whether memory is filling up.
    pub(super) const fn is_crowded(&self) -> bool {
        self.limit / 4 < self.bytes
    }

    pub(super) const fn visible(&self) -> u64 {
        self.visible
    }

    pub(super) const fn history(&self) -> u64 {
        self.history
    }

    pub(super) const fn newest(&self) -> Place {
        self.newest
    }

    pub(super) const fn live(&self) -> u64 {
        self.live
    }

    /// The place right before the first piece in memory.
    pub(super) fn oldest(&self) -> Option<Place> {
        let (piece, _) = self.pieces.front()?;
        let commit_lsn = piece.commit_lsn;
        let before = piece.first.checked_sub(1).map(|index| Place { commit_lsn, index });
        Some(before.unwrap_or(Place::before(commit_lsn)))
    }

    /// The lowest number that was given out anew since the last call, if any was.
    pub(super) fn take_cut(&mut self) -> Option<u64> {
        self.cut.take()
    }

    /// The end of the last whole transaction.
    pub(super) const fn end(&self) -> Lsn {
        self.end
    }

    /// Takes a piece that weighs `weight`. What is below `spare` may leave memory for it; a transaction that weighs more
    /// than `largest` is let go and comes out empty and marked.
    pub(super) fn take(
        &mut self,
        piece: &Arc<Transaction>,
        spare: u64,
        (weight, largest): (usize, usize),
    ) -> Taken {
        if piece.commit_lsn <= self.last_commit {
            return Taken::Repeated;
        }
        let bytes = piece.footprint();
        if piece.first == 0 {
            self.abandon();
        }
        let mut open = self.open.unwrap_or(Open {
            start: self.next(),
            commit_lsn: piece.commit_lsn,
            weight: 0,
            let_go: false,
        });
        if open.commit_lsn != piece.commit_lsn {
            // Its first pieces are not here; Postgres begins it anew for the next session.
            return Taken::Repeated;
        }
        let is_over = open.let_go || largest < open.weight.saturating_add(weight);
        if !is_over && !self.has_room(bytes, spare) {
            return Taken::Full;
        }
        open.weight = open.weight.saturating_add(weight);
        if is_over && !open.let_go {
            open.let_go = true;
            self.cut(open.start);
        }
        self.open = Some(open);
        if !is_over {
            self.pieces.push_back((Arc::clone(piece), bytes));
            self.bytes += bytes;
        }
        if piece.is_last {
            self.newest = Place::last_of(piece);
            if is_over {
                let empty = Transaction { first: 0, oversized: true, ..piece.clone_head() };
                let bytes = empty.footprint();
                self.newest = Place::last_of(&empty);
                self.pieces.push_back((Arc::new(empty), bytes));
                self.bytes += bytes;
            }
            self.open = None;
            self.last_commit = piece.commit_lsn;
            self.end = piece.end_lsn;
            self.visible = self.next();
        }
        Taken::In
    }

    /// Whether `bytes` more fit, once what is below `spare` and not needed has left. When nothing can be waited for,
    /// anything fits.
    fn has_room(&mut self, bytes: usize, spare: u64) -> bool {
        self.shrink(spare, self.limit.saturating_sub(bytes));
        self.bytes + bytes <= self.limit || self.pieces.is_empty()
    }

    /// Lets pieces below `spare` go while more than `bytes` are held.
    fn shrink(&mut self, spare: u64, bytes: usize) {
        while self.first < spare && bytes < self.bytes {
            let Some((_, freed)) = self.pieces.pop_front() else { return };
            self.first += 1;
            self.bytes -= freed;
        }
    }

    /// Lets go what is below `spare`, was read by the fan-out, and is not recent.
    pub(super) fn tidy(&mut self, spare: u64) {
        self.shrink(spare.min(self.live), RECENT);
    }

    /// Removes the open transaction, if there is one: its number is the next again.
    pub(super) fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            self.cut(open.start);
        }
    }

    fn cut(&mut self, start: u64) {
        while start < self.next() && !self.pieces.is_empty() {
            if let Some((_, freed)) = self.pieces.pop_back() {
                self.bytes -= freed;
            }
        }
        self.first = self.first.min(start);
        self.cut = Some(self.cut.map_or(start, |cut| cut.min(start)));
    }

    /// What comes next is new, wherever it stands.
    pub(super) fn begin(&mut self, epoch: Epoch, before: Place) {
        self.abandon();
        self.history = self.next();
        self.eras.begin(epoch, before, self.history);
        self.last_commit = Lsn::ZERO;
        self.end = Lsn::ZERO;
        self.newest = before;
    }

    /// Pieces of `numbers`, at least one, about `bytes` worth; `None` when they have left memory.
    pub(super) fn read(&self, numbers: Range<u64>, bytes: usize) -> Option<Vec<Arc<Transaction>>> {
        let number = numbers.start;
        let from = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let end = self.visible.min(numbers.end);
        let seen = usize::try_from(end.saturating_sub(number)).unwrap_or(usize::MAX);
        let mut batch = Vec::new();
        let mut taken = 0;
        for (piece, size) in self.pieces.iter().skip(from).take(seen) {
            batch.push(Arc::clone(piece));
            taken += size;
            if bytes <= taken {
                break;
            }
        }
        Some(batch)
    }

    /// Pieces from `number` on whether readers may see them or not, at least one if there is one.
    pub(super) fn unseen(&self, number: u64, bytes: usize) -> Vec<Arc<Transaction>> {
        let from = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut taken = 0;
        let within = |(_, size): &&(Arc<Transaction>, usize)| {
            let fits = taken < bytes;
            taken += size;
            fits
        };
        let pieces = self.pieces.iter().skip(from).take_while(within);
        pieces.map(|(piece, _)| Arc::clone(piece)).collect()
    }

    /// The fan-out has read everything below `number`, the last of it at `place`.
    pub(super) fn follow(&mut self, number: u64, place: Place) {
        self.live = self.live.max(number);
        self.eras.follow(place);
    }

    /// Where the fan-out stands: the number of its history, and the last change it has read.
    pub(super) fn stand(&self) -> (u64, Position) {
        self.eras.live()
    }

    /// The present history.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        self.eras.epoch()
    }

    /// What readers wait for.
    pub(super) const fn news(&self) -> News {
        News { visible: self.visible, era: self.eras.number() }
    }

    /// The number at which what a reader reads ends because another history begins.
    pub(super) fn era_end(&self, era: u64, is_live: bool) -> u64 {
        self.eras.end(era, is_live)
    }

    /// Where a reader goes on that has come to that end. The present history is there after `floor`.
    pub(super) fn enter(&mut self, is_live: bool, floor: (u64, Place)) -> Entry {
        let entry = self.eras.enter(is_live, self.first, floor);
        if is_live {
            self.live = self.live.max(entry.next);
        }
        entry
    }

    /// The number of the first piece with changes after `place`, when that is in memory for certain.
    pub(super) fn find(&self, place: Place) -> Option<u64> {
        let skip = usize::try_from(self.history.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (begin, _) = self.pieces.get(skip)?;
        if place < (Place { commit_lsn: begin.commit_lsn, index: begin.first }) {
            return None;
        }
        let passed = self.pieces.iter().skip(skip);
        let passed = passed.take_while(|(piece, _)| Place::last_of(piece) <= place).count();
        Some(self.first + (skip + passed) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changelog::samples;

    const LARGE: usize = 1 << 20;

    fn tail(limit: usize) -> Tail {
        Tail::new(limit, Kept { next: 10, ..Kept::default() })
    }

    fn take(tail: &mut Tail, commit: u64, first: u32, count: u32, is_last: bool) -> Taken {
        let piece = Arc::new(samples::piece(commit, first, count, is_last));
        tail.take(&piece, tail.live(), (1, 10))
    }

    fn seen(tail: &Tail, number: u64) -> Vec<(u64, u32)> {
        let pieces = tail.read(number..u64::MAX, usize::MAX).unwrap_or_default();
        pieces.iter().map(|piece| (piece.commit_lsn.bytes(), piece.first)).collect()
    }

    #[test]
    fn half_a_transaction_is_not_seen() {
        let mut tail = tail(LARGE);
        assert_eq!(take(&mut tail, 100, 0, 2, false), Taken::In);
        assert_eq!(take(&mut tail, 100, 2, 2, false), Taken::In);
        assert_eq!((tail.visible(), seen(&tail, 10)), (10, vec![]));
        assert_eq!(take(&mut tail, 100, 4, 1, true), Taken::In);
        assert_eq!(seen(&tail, 10), [(100, 0), (100, 2), (100, 4)]);
        assert_eq!(tail.newest(), Place { commit_lsn: Lsn::new(100), index: 4 });
    }

    #[test]
    fn a_transaction_that_begins_again_replaces_its_first_attempt() {
        let mut tail = tail(LARGE);
        take(&mut tail, 100, 0, 2, false);
        take(&mut tail, 100, 2, 2, false);
        take(&mut tail, 100, 0, 3, false);
        assert_eq!(tail.next(), 11);
        take(&mut tail, 100, 3, 1, true);
        assert_eq!(seen(&tail, 10), [(100, 0), (100, 3)]);
        // The end of one whose beginning is not here.
        assert_eq!(take(&mut tail, 120, 0, 1, false), Taken::In);
        assert_eq!(take(&mut tail, 130, 1, 1, true), Taken::Repeated);
    }

    #[test]
    fn an_attempt_whose_pieces_left_memory_is_replaced_too() {
        let piece = |first, is_last| Arc::new(samples::piece(100, first, 1, is_last));
        let size = piece(0, false).footprint();
        let mut tail = tail(size);
        for first in 0..3 {
            let number = tail.next();
            assert_eq!(tail.take(&piece(first, false), number, (1, 10)), Taken::In);
        }
        assert_eq!((tail.first(), tail.next()), (12, 13));
        assert_eq!(tail.take(&piece(0, true), 13, (1, 10)), Taken::In);
        assert_eq!((tail.first(), tail.next(), tail.visible()), (10, 11, 11));
        assert_eq!(tail.bytes, size);
    }

    #[test]
    fn one_that_is_too_large_comes_out_empty_and_marked() {
        let mut tail = tail(LARGE);
        let piece = |first, is_last| Arc::new(samples::piece(100, first, 2, is_last));
        for (first, is_last) in [(0, false), (2, false), (4, false), (6, false), (8, true)] {
            assert_eq!(tail.take(&piece(first, is_last), 0, (5, 14)), Taken::In);
        }
        let [one] = &tail.read(10..u64::MAX, usize::MAX).unwrap()[..] else { panic!("not one") };
        assert!(one.oversized && one.is_last && one.changes.is_empty() && one.first == 0);
        assert_eq!((tail.next(), tail.bytes), (11, one.footprint()));
        assert_eq!(tail.newest(), Place { commit_lsn: Lsn::new(100), index: u32::MAX });
    }

    #[test]
    fn a_place_is_found_where_its_next_change_is() {
        let mut tail = tail(LARGE);
        let find =
            |tail: &Tail, commit, index| tail.find(Place { commit_lsn: Lsn::new(commit), index });
        assert_eq!(find(&tail, 5, 0), None);
        take(&mut tail, 100, 0, 2, false);
        take(&mut tail, 100, 2, 2, true);
        take(&mut tail, 200, 0, 1, true);
        assert_eq!(find(&tail, 99, 0), None);
        assert_eq!(find(&tail, 100, 0), Some(10));
        assert_eq!(find(&tail, 100, 1), Some(11));
        assert_eq!(find(&tail, 150, 0), Some(12));
        assert_eq!(find(&tail, 200, 0), Some(13));
        tail.begin(Epoch::new(2), Place::before(Lsn::new(50)));
        assert_eq!(find(&tail, 100, 0), None);
        take(&mut tail, 60, 0, 1, true);
        assert_eq!(find(&tail, 60, 0), Some(14));
    }

    #[test]
    fn what_may_go_makes_room_and_nothing_else_does() {
        let size = samples::piece(100, 0, 1, true).footprint();
        let mut tail = tail(2 * size);
        for commit in [100, 200] {
            assert_eq!(take(&mut tail, commit, 0, 1, true), Taken::In);
        }
        assert_eq!(take(&mut tail, 300, 0, 1, true), Taken::Full);
        tail.follow(11, Place::default());
        assert_eq!(take(&mut tail, 300, 0, 1, true), Taken::In);
        assert_eq!((tail.first(), tail.read(10..u64::MAX, 1)), (11, None));
    }
}
