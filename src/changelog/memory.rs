//! The change log in memory: bounded, and gone with the process.
//!
//! What it lost in a crash was confirmed to Postgres, so it promises delivery to those who are connected and
//! nothing to those who are not; a client that was away for a moment may find what it missed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::place::{Bounds, Gap, Place};
use super::reader::{News, Reader};
use super::tail::{Kept, Tail, Taken};
use super::{ChangeLog, Origin, Past, Read, Trouble};
use crate::model::{Lsn, Position, Transaction};

/// The newest transactions. When the fan-out is behind by more than the limit, the source waits and Postgres keeps the
/// WAL.
#[derive(Debug)]
pub struct MemoryLog {
    limit: usize,
    largest: usize,
    state: Mutex<State>,
    news: watch::Sender<News>,
    room: Notify,
    durable: watch::Sender<Lsn>,
    trouble: watch::Sender<Trouble>,
}

#[derive(Debug)]
struct State {
    tail: Tail,
    oldest: Place,
}

impl MemoryLog {
    /// An empty log that makes the source wait above `limit_bytes` of changes, and lets a transaction go that has more
    /// than `largest`, or comes in pieces and has more than `limit_bytes`.
    pub fn new(limit_bytes: usize, largest: usize) -> Self {
        let tail = Tail::new(limit_bytes, Kept::default());
        Self {
            limit: limit_bytes,
            largest,
            news: watch::Sender::new(tail.news()),
            state: Mutex::new(State { tail, oldest: Place::default() }),
            room: Notify::new(),
            durable: watch::Sender::new(Lsn::ZERO),
            trouble: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, piece: &Arc<Transaction>) -> Taken {
        let mut state = self.lock();
        let spare = state.tail.live();
        // One in pieces stays until it is whole, so waiting for room would be for ever. One piece alone always fits.
        let is_whole = piece.is_last && piece.first == 0;
        let largest = if is_whole { self.largest } else { self.largest.min(self.limit) };
        let taken = state.take(piece, spare, (piece.footprint(), largest));
        if taken == Taken::In && piece.is_last {
            let (news, end) = (state.tail.news(), state.tail.end());
            drop(state);
            self.news.send_replace(news);
            self.durable.send_replace(end);
        }
        taken
    }
}

impl State {
    fn take(&mut self, piece: &Arc<Transaction>, spare: u64, weight: (usize, usize)) -> Taken {
        let taken = self.tail.take(piece, spare, weight);
        self.learn_oldest();
        taken
    }

    fn bounds(&self) -> Bounds {
        Bounds { epoch: self.tail.epoch(), oldest: self.oldest, newest: self.tail.newest() }
    }

    /// The number of the oldest piece of the present history.
    fn first(&self) -> u64 {
        self.tail.first().max(self.tail.history())
    }

    /// What left memory is gone.
    fn learn_oldest(&mut self) {
        if self.tail.history() < self.tail.first() {
            self.oldest = self.tail.oldest().unwrap_or(self.tail.newest());
        }
    }
}

impl ChangeLog for MemoryLog {
    fn recall(&self) -> Option<Past> {
        None
    }

    fn begin(&self, origin: Origin, from: Lsn) {
        let mut state = self.lock();
        let before = Place::before(from);
        state.tail.begin(origin.epoch, before);
        state.oldest = before;
        let news = state.tail.news();
        drop(state);
        self.news.send_replace(news);
        self.durable.send_replace(Lsn::ZERO);
    }

    async fn append(&self, piece: Arc<Transaction>) -> bool {
        loop {
            match self.offer(&piece) {
                Taken::Repeated => return false,
                Taken::In => return true,
                Taken::Full => self.room.notified().await,
            }
        }
    }

    fn mark(&self, end: Lsn) {
        self.lock().tail.abandon();
        self.durable.send_if_modified(|durable| {
            let is_news = *durable < end;
            *durable = end.max(*durable);
            is_news
        });
    }

    fn durable(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    fn trouble(&self) -> watch::Receiver<Trouble> {
        self.trouble.subscribe()
    }

    fn bounds(&self) -> Bounds {
        self.lock().bounds()
    }

    fn follow(&self) -> Reader {
        let state = self.lock();
        Reader::live(state.tail.live(), state.tail.stand(), self.news.subscribe())
    }

    fn read_from(&self, after: Position) -> Result<Reader, Gap> {
        let state = self.lock();
        state.bounds().check(after)?;
        let next = state.tail.find(after.into()).unwrap_or(state.first());
        Ok(Reader::new(next, (state.tail.news().era, after), self.news.subscribe()))
    }

    async fn read(&self, reader: &mut Reader, most: usize) -> Result<Read, Gap> {
        loop {
            {
                let mut state = self.lock();
                let end = state.tail.era_end(reader.era, reader.is_live);
                if end <= reader.next {
                    let floor = (state.first(), state.oldest);
                    return Ok(Read::Begun(reader.enter(state.tail.enter(reader.is_live, floor))));
                }
                let Some(batch) = state.tail.read(reader.next..end, most) else {
                    reader.next = state.first();
                    return Err(Gap::Forgotten { oldest: state.oldest });
                };
                let last = batch.last().map(|piece| Place::last_of(piece));
                let batch = reader.pass(batch);
                if let Some(last) = last.filter(|_| reader.is_live) {
                    state.tail.follow(reader.next, last);
                    state.tail.tidy(reader.next);
                    state.learn_oldest();
                    self.room.notify_one();
                }
                if !batch.is_empty() {
                    return Ok(Read::Pieces(batch));
                }
            }
            reader.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::changelog::samples;
    use crate::model::Epoch;

    fn transaction(commit: u64) -> Arc<Transaction> {
        Arc::new(samples::piece(commit, 0, 1, true))
    }

    async fn read(log: &MemoryLog, reader: &mut Reader) -> Vec<Arc<Transaction>> {
        match log.read(reader, 1).await.unwrap() {
            Read::Pieces(batch) => batch,
            Read::Begun(at) => panic!("another history begins after {at}"),
        }
    }

    #[tokio::test]
    async fn a_transaction_in_pieces_that_does_not_fit_is_let_go_instead_of_waiting_for_ever() {
        let piece = |first, is_last| Arc::new(samples::piece(100, first, 1, is_last));
        let log = MemoryLog::new(2 * piece(0, false).footprint(), 1 << 20);
        let mut reader = log.follow();
        for (first, is_last) in [(0, false), (1, false), (2, false), (3, true)] {
            let taken =
                tokio::time::timeout(Duration::from_secs(20), log.append(piece(first, is_last)));
            assert!(taken.await.expect("it waits for itself"));
        }
        let batch = read(&log, &mut reader).await;
        assert!(batch.len() == 1 && batch[0].oversized, "{batch:?}");
        log.append(transaction(200)).await;
        assert_eq!(read(&log, &mut reader).await, [transaction(200)]);
    }

    fn is_waiting(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_repetition_is_dropped_until_a_new_history_begins() {
        let log = MemoryLog::new(1 << 20, 1 << 20);
        let mut reader = log.follow();
        assert!(log.append(transaction(20)).await);
        assert_eq!(*log.durable().borrow(), Lsn::new(28));
        assert!(!log.append(transaction(20)).await);
        assert!(!log.append(transaction(10)).await);
        assert_eq!(*log.durable().borrow(), Lsn::new(28));
        log.begin(Origin::default(), Lsn::new(5));
        assert_eq!(*log.durable().borrow(), Lsn::ZERO);
        assert!(log.append(transaction(10)).await);
        assert_eq!(read(&log, &mut reader).await, [transaction(20)], "what was appended stays");
        let begun = Place::before(Lsn::new(5)).of(Epoch::new(0));
        assert_eq!(log.read(&mut reader, 1).await, Ok(Read::Begun(begun)));
        assert_eq!(read(&log, &mut reader).await, [transaction(10)]);
    }

    #[tokio::test]
    async fn a_full_log_waits_for_its_reader_but_takes_anything_when_empty() {
        let log = MemoryLog::new(1, 1 << 20);
        let mut reader = log.follow();
        assert!(is_waiting(log.read(&mut reader, 1)));
        assert!(log.append(transaction(10)).await);
        let mut second = pin!(log.append(transaction(20)));
        assert!(is_waiting(second.as_mut()));
        assert_eq!(*log.durable().borrow(), Lsn::new(18), "what waits is not durable");
        assert_eq!(read(&log, &mut reader).await.len(), 1);
        assert!(second.await);
        assert_eq!(read(&log, &mut reader).await.len(), 1);
    }

    #[tokio::test]
    async fn who_was_away_for_a_moment_finds_what_it_missed_and_is_told_when_it_is_gone() {
        let log = MemoryLog::new(2 * transaction(10).footprint(), 1 << 20);
        let mut live = log.follow();
        let at = |commit| Position { epoch: Epoch::new(7), commit_lsn: Lsn::new(commit), index: 0 };
        assert_eq!(log.read_from(at(10)).unwrap_err(), Gap::OtherEpoch);
        log.begin(Origin { epoch: Epoch::new(7), ..Origin::default() }, Lsn::new(5));
        for commit in [10, 20] {
            log.append(transaction(commit)).await;
        }
        let mut reader = log.read_from(at(10)).unwrap();
        assert_eq!(read(&log, &mut reader).await, [transaction(20)]);
        assert!(log.read_from(at(4)).is_err());
        assert!(log.read_from(at(5)).is_ok());
        assert!(matches!(log.read_from(at(30)), Err(Gap::Ahead { .. })));
        let mut slow = log.read_from(at(5)).unwrap();
        assert!(matches!(log.read(&mut live, 1).await, Ok(Read::Begun(_))));
        log.read(&mut live, usize::MAX).await.unwrap();
        log.append(transaction(30)).await;
        let oldest = Place { commit_lsn: Lsn::new(19), index: u32::MAX };
        assert_eq!(log.bounds().oldest, oldest);
        assert_eq!(log.read(&mut slow, 1).await, Err(Gap::Forgotten { oldest }));
        assert_eq!(read(&log, &mut slow).await, [transaction(20)]);
        assert!(log.read_from(at(10)).is_err());
        assert!(log.read_from(at(20)).is_ok());
    }
}
