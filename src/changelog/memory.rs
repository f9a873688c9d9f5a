//! The change log in memory: bounded, and gone with the process.
//!
//! What it lost in a crash was confirmed to Postgres, so it promises delivery to those who are connected and
//! nothing to those who are not; a client that was away for a moment may find what it missed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::place::{Bounds, Gap, Place};
use super::reader::Reader;
use super::tail::{Kept, Tail, Taken};
use super::{ChangeLog, Origin, Past, Trouble};
use crate::model::{Epoch, Lsn, Position, Transaction};

/// The newest transactions. When the fan-out is behind by more than the limit, the source waits and Postgres keeps the
/// WAL.
#[derive(Debug)]
pub struct MemoryLog {
    largest: usize,
    state: Mutex<State>,
    visible: watch::Sender<u64>,
    room: Notify,
    durable: watch::Sender<Lsn>,
    trouble: watch::Sender<Trouble>,
}

#[derive(Debug)]
struct State {
    tail: Tail,
    epoch: Option<Epoch>,
    oldest: Place,
}

impl MemoryLog {
    /// An empty log that makes the source wait above `limit_bytes` of changes, and lets a transaction of more than
    /// `largest` go.
    pub fn new(limit_bytes: usize, largest: usize) -> Self {
        let tail = Tail::new(limit_bytes, Kept::default());
        Self {
            largest,
            state: Mutex::new(State { tail, epoch: None, oldest: Place::default() }),
            visible: watch::Sender::new(0),
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
        let taken = state.take(piece, spare, self.largest);
        if taken == Taken::In && piece.is_last {
            let (visible, end) = (state.tail.visible(), state.tail.end());
            drop(state);
            self.visible.send_replace(visible);
            self.durable.send_replace(end);
        }
        taken
    }
}

impl State {
    fn take(&mut self, piece: &Arc<Transaction>, spare: u64, largest: usize) -> Taken {
        let taken = self.tail.take(piece, spare, largest);
        self.learn_oldest();
        taken
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
        state.tail.begin(before);
        state.oldest = before;
        state.epoch = Some(origin.epoch);
        drop(state);
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
        let state = self.lock();
        Bounds { epoch: state.epoch, oldest: state.oldest, newest: state.tail.newest() }
    }

    fn follow(&self) -> Reader {
        let mut reader = Reader::new(self.lock().tail.live(), None, self.visible.subscribe());
        reader.is_live = true;
        reader
    }

    fn read_from(&self, after: Position) -> Result<Reader, Gap> {
        let bounds = self.bounds();
        bounds.check(after)?;
        let state = self.lock();
        let place = Place::from(after);
        let next = state.tail.find(place).unwrap_or(state.tail.first().max(state.tail.history()));
        Ok(Reader::new(next, Some(place), self.visible.subscribe()))
    }

    async fn read(&self, reader: &mut Reader, most: usize) -> Result<Vec<Arc<Transaction>>, Gap> {
        loop {
            {
                let mut state = self.lock();
                let Some(batch) = state.tail.read(reader.next, most) else {
                    reader.next = state.tail.first();
                    return Err(Gap::Forgotten { oldest: state.oldest });
                };
                let is_empty = batch.is_empty();
                let batch = reader.pass(batch);
                if reader.is_live && !is_empty {
                    state.tail.follow(reader.next);
                    state.tail.tidy(reader.next);
                    state.learn_oldest();
                    self.room.notify_one();
                }
                if !batch.is_empty() {
                    return Ok(batch);
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

    use super::*;
    use crate::changelog::samples;

    fn transaction(commit: u64) -> Arc<Transaction> {
        Arc::new(samples::piece(commit, 0, 1, true))
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
        let batch = log.read(&mut reader, 1 << 20).await.unwrap();
        let commits: Vec<_> = batch.iter().map(|t| t.commit_lsn).collect();
        assert_eq!(commits, [Lsn::new(20), Lsn::new(10)], "what was appended stays");
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
        assert_eq!(log.read(&mut reader, 1).await.unwrap().len(), 1);
        assert!(second.await);
        assert_eq!(log.read(&mut reader, 1).await.unwrap().len(), 1);
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
        assert_eq!(log.read(&mut reader, 1).await.unwrap(), [transaction(20)]);
        assert!(log.read_from(at(4)).is_err());
        assert!(log.read_from(at(5)).is_ok());
        assert!(matches!(log.read_from(at(30)), Err(Gap::Ahead { .. })));
        let mut slow = log.read_from(at(5)).unwrap();
        log.read(&mut live, usize::MAX).await.unwrap();
        log.append(transaction(30)).await;
        let oldest = Place { commit_lsn: Lsn::new(19), index: u32::MAX };
        assert_eq!(log.bounds().oldest, oldest);
        assert_eq!(log.read(&mut slow, 1).await, Err(Gap::Forgotten { oldest }));
        assert_eq!(log.read(&mut slow, 1).await.unwrap(), [transaction(20)]);
        assert!(log.read_from(at(10)).is_err());
        assert!(log.read_from(at(20)).is_ok());
    }
}
