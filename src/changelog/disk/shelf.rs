//! Which segments there are, and where to look for what. Pure; the files are opened by others.

use std::collections::VecDeque;
use std::time::Duration;

use super::segment::Header;
use crate::changelog::Place;
use crate::model::Epoch;

/// How much of a segment is read at most to find a piece in it.
const STRIDE: u64 = 64 << 10;

/// What is on disk of the present history.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) epoch: Option<Epoch>,
    volumes: VecDeque<Volume>,
    /// Everything before this is gone.
    floor: Floor,
    /// The number up to which everything is on disk, and the last change before it.
    synced: Floor,
    /// Files that are of no use and still there.
    doomed: Vec<u64>,
}

/// A number, and the last change before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) number: u64,
    pub(super) place: Place,
}

/// One segment.
#[derive(Debug)]
struct Volume {
    begin: Floor,
    bytes: u64,
    /// When it was begun, by the log's clock.
    since: u64,
    /// Where some of its pieces are, in order.
    stones: Vec<Stone>,
}

/// Where a piece is in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stone {
    pub(super) number: u64,
    /// Its first change.
    pub(super) place: Place,
    pub(super) offset: u64,
}

/// Where to read a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Names the segment.
    pub(super) segment: u64,
    /// The number of the piece at `offset`; `None` when the header is to be passed first.
    pub(super) stone: Option<(u64, u64)>,
    /// The segment has only numbers below this.
    pub(super) end: u64,
}

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) age: Duration,
    /// By the log's clock.
    pub(super) now: u64,
    /// The fan-out has not read further.
    pub(super) live: u64,
    /// From here on a transaction is not whole.
    pub(super) visible: u64,
}

impl Shelf {
    /// Nothing, behind `floor`.
    pub(super) const fn new(epoch: Option<Epoch>, floor: Floor) -> Self {
        Self { epoch, volumes: VecDeque::new(), floor, synced: floor, doomed: Vec::new() }
    }

    pub(super) const fn floor(&self) -> Floor {
        self.floor
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.bytes).sum()
    }

    /// Segments on disk.
    pub(super) fn len(&self) -> usize {
        self.volumes.len()
    }

    /// The numbers that name the segments.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        self.volumes.iter().map(|volume| volume.begin.number)
    }

    /// Puts a segment behind the others.
    pub(super) fn put(&mut self, header: &Header, bytes: u64) {
        let begin = Floor { number: header.first, place: header.after };
        self.doomed.retain(|doomed| *doomed != begin.number);
        self.volumes.push_back(Volume { begin, bytes, since: header.clock, stones: Vec::new() });
    }

    /// The last segment holds so many bytes and everything below `synced`.
    pub(super) fn grow(&mut self, bytes: u64, synced: Floor) {
        if let Some(last) = self.volumes.back_mut() {
            last.bytes = bytes;
        }
        self.synced = synced;
    }

    /// Remembers where pieces of a segment are, as far as that saves reading.
    pub(super) fn learn(&mut self, segment: u64, stones: impl IntoIterator<Item = Stone>) {
        let volume = self.volumes.iter_mut().find(|volume| volume.begin.number == segment);
        let Some(volume) = volume else { return };
        for stone in stones {
            let last = volume.stones.last();
            if last.is_none_or(|last| {
                last.number < stone.number && last.offset + STRIDE <= stone.offset
            }) {
                volume.stones.push(stone);
            }
        }
    }

    /// Where to begin reading for the piece with this number.
    pub(super) fn spot(&self, number: u64) -> Option<Spot> {
        let at = self.volumes.partition_point(|volume| volume.begin.number <= number);
        let volume = self.volumes.get(at.checked_sub(1)?)?;
        let known = volume.stones.partition_point(|stone| stone.number <= number);
        let stone = known.checked_sub(1).and_then(|known| volume.stones.get(known));
        Some(Spot {
            segment: volume.begin.number,
            stone: stone.map(|stone| (stone.number, stone.offset)),
            end: self.volumes.get(at).map_or(u64::MAX, |next| next.begin.number),
        })
    }

    /// The number of a piece from which on all changes after `place` are found.
    pub(super) fn find(&self, place: Place) -> u64 {
        let at = self.volumes.partition_point(|volume| volume.begin.place <= place);
        let volume = at.checked_sub(1).and_then(|at| self.volumes.get(at));
        let number = volume.map_or(0, |volume| {
            let known = volume.stones.partition_point(|stone| stone.place <= place);
            let stone = known.checked_sub(1).and_then(|known| volume.stones.get(known));
            stone.map_or(volume.begin.number, |stone| stone.number)
        });
        number.max(self.floor.number)
    }

    /// A piece of a segment cannot be read: everything up to the end of the segment is given up. `None` when that is
    /// known already.
    pub(super) fn give_up(&mut self, number: u64) -> Option<Floor> {
        if number < self.floor.number {
            return None;
        }
        let at = self.volumes.partition_point(|volume| volume.begin.number <= number);
        self.floor = self.volumes.get(at).map_or(self.synced, |next| next.begin);
        Some(self.floor)
    }

    /// Removes what may not stay; the caller removes the files in [`Shelf::doomed`].
    pub(super) fn retain(&mut self, limits: Limits) {
        let mut bytes = self.bytes();
        while let (Some(first), Some(second)) = (self.volumes.front(), self.volumes.get(1)) {
            let end = second.begin;
            let age = limits.now.saturating_sub(second.since);
            let is_over = limits.bytes < bytes || limits.age < Duration::from_millis(age);
            // What the fan-out has still to read is kept a while longer.
            let is_read = end.number <= limits.live || limits.bytes.saturating_mul(2) < bytes;
            let is_whole = end.number <= limits.visible;
            let is_useless = end.number <= self.floor.number;
            if !(is_useless || is_over && is_read && is_whole) {
                break;
            }
            bytes -= first.bytes;
            if self.floor.number < end.number {
                self.floor = end;
            }
            self.doomed.extend(self.volumes.pop_front().map(|volume| volume.begin.number));
        }
    }

    /// Removes every segment that begins before `floor`, the caller the files: everything before it is gone.
    pub(super) fn forget(&mut self, floor: Floor) {
        while let Some(first) = self.volumes.front().filter(|it| it.begin.number < floor.number) {
            self.doomed.push(first.begin.number);
            self.volumes.pop_front();
        }
        if self.floor.number < floor.number {
            self.floor = floor;
        }
    }

    /// Removes every segment from `number` on: they hold what was begun again.
    pub(super) fn cut(&mut self, number: u64) {
        while let Some(last) = self.volumes.back().filter(|last| number <= last.begin.number) {
            self.doomed.push(last.begin.number);
            self.volumes.pop_back();
        }
        if let Some(last) = self.volumes.back_mut() {
            last.stones.retain(|stone| stone.number < number);
        }
    }

    /// Another history begins.
    pub(super) fn clear(&mut self, epoch: Epoch, floor: Floor) {
        self.cut(0);
        (self.epoch, self.floor, self.synced) = (Some(epoch), floor, floor);
    }

    /// The files to remove.
    pub(super) fn doomed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.doomed)
    }

    /// Remembers a file that could not be removed.
    pub(super) fn doom(&mut self, segment: u64) {
        self.doomed.push(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changelog::disk::segment::tests::header;
    use crate::model::Lsn;

    fn place(commit: u64) -> Place {
        Place { commit_lsn: Lsn::new(commit), index: 0 }
    }

    /// Segments at 10, 20 and 30 of 100 bytes each, begun at second 1, 2 and 3; commits are ten times the numbers.
    fn shelf() -> Shelf {
        let floor = Floor { number: 10, place: place(90) };
        let mut shelf = Shelf::new(None, floor);
        for (number, clock) in [(10, 1000), (20, 2000), (30, 3000)] {
            let header =
                Header { first: number, after: place(10 * number - 10), clock, ..header() };
            shelf.put(&header, 100);
        }
        shelf.grow(100, Floor { number: 40, place: place(390) });
        let stone = |number, offset| Stone { number, place: place(10 * number), offset };
        shelf.learn(20, [stone(20, 50), stone(21, 60), stone(25, 50 + STRIDE)]);
        shelf
    }

    fn limits() -> Limits {
        let age = Duration::from_secs(1000);
        Limits { bytes: 1000, age, now: 4000, live: 40, visible: 40 }
    }

    #[test]
    fn a_piece_is_looked_for_from_the_last_stone_before_it() {
        let shelf = shelf();
        let spot = |number| shelf.spot(number).map(|spot| (spot.segment, spot.stone, spot.end));
        assert_eq!(spot(9), None);
        assert_eq!(spot(12), Some((10, None, 20)));
        assert_eq!(spot(24), Some((20, Some((20, 50)), 30)));
        assert_eq!(spot(26), Some((20, Some((25, 50 + STRIDE)), 30)));
        assert_eq!(spot(99), Some((30, None, u64::MAX)));
        assert_eq!(shelf.find(place(95)), 10);
        assert_eq!(shelf.find(place(195)), 20);
        assert_eq!(shelf.find(place(251)), 25);
        assert_eq!(shelf.find(place(290)), 30);
    }

    #[test]
    fn the_oldest_go_by_size_and_by_age_and_the_bound_moves() {
        let mut by_size = shelf();
        by_size.retain(Limits { bytes: 250, ..limits() });
        assert_eq!(by_size.doomed(), [10]);
        assert_eq!(by_size.floor(), Floor { number: 20, place: place(190) });
        by_size.retain(Limits { bytes: 1, ..limits() });
        assert_eq!((by_size.doomed(), by_size.len()), (vec![20], 1));

        let mut by_age = shelf();
        by_age.retain(Limits { age: Duration::from_millis(1500), ..limits() });
        assert_eq!(by_age.doomed(), [10], "its last piece is older than the second's first");
    }

    #[test]
    fn what_is_unread_stays_twice_as_long_and_what_is_not_whole_for_as_long_as_it_takes() {
        let mut shelf = shelf();
        shelf.retain(Limits { bytes: 150, live: 12, ..limits() });
        assert_eq!(shelf.doomed(), [0; 0]);
        shelf.retain(Limits { bytes: 149, live: 12, ..limits() });
        assert_eq!(shelf.doomed(), [10]);
        shelf.retain(Limits { bytes: 1, visible: 22, ..limits() });
        assert_eq!(shelf.doomed(), [0; 0]);
    }

    #[test]
    fn damage_moves_the_bound_to_the_next_segment_or_to_the_end() {
        let mut shelf = shelf();
        let next = Floor { number: 30, place: place(290) };
        assert_eq!(shelf.give_up(25), Some(next));
        assert_eq!(shelf.give_up(25), None);
        shelf.retain(limits());
        assert_eq!((shelf.doomed(), shelf.floor()), (vec![10, 20], next));
        assert_eq!(shelf.give_up(31), Some(Floor { number: 40, place: place(390) }));
    }

    #[test]
    fn what_is_forgotten_is_gone_whatever_retention_says() {
        let mut shelf = shelf();
        let floor = Floor { number: 30, place: place(290) };
        shelf.forget(floor);
        assert_eq!((shelf.doomed(), shelf.len(), shelf.floor()), (vec![10, 20], 1, floor));
        shelf.forget(floor);
        assert_eq!((shelf.doomed(), shelf.len()), (vec![], 1));
    }

    #[test]
    fn a_cut_removes_what_comes_later() {
        let mut shelf = shelf();
        shelf.cut(25);
        assert_eq!(shelf.doomed(), [30]);
        assert_eq!(shelf.spot(26).unwrap().stone, Some((20, 50)));
    }
}
