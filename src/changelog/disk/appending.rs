//! The log as its users see it: appending, and reading from memory or from disk.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::warn;

use super::fetch::{Fetched, Wanted, fetch};
use super::shelf::Floor;
use super::{Anew, DiskLog, Shared};
use crate::changelog::codec;
use crate::changelog::tail::Taken;
use crate::changelog::{Bounds, ChangeLog, Gap, Origin, Past, Place, Read, Reader, Trouble};
use crate::model::{Lsn, Position, Transaction};

/// The pause before a file that could not be opened is tried again: usually there are too many open.
const PAUSE: Duration = Duration::from_millis(100);

/// What there is to do for a reader.
enum Next {
    /// This is in memory.
    Batch(Vec<Arc<Transaction>>),
    /// Another history begins.
    Begun(Position),
    /// Everything was read.
    Nothing,
    /// It is on disk.
    OnDisk(Wanted),
    /// It is nowhere.
    Gone(Floor),
}

impl DiskLog {
    fn offer(&self, piece: &Arc<Transaction>) -> Taken {
        let shared = &*self.shared;
        let mut state = shared.state();
        let synced = state.synced;
        let taken = state.tail.take(piece, synced, (codec::length(piece), self.largest));
        state.heed_cut();
        let news = state.tail.news();
        let is_news = !state.is_resting || state.tail.is_crowded();
        drop(state);
        if taken == Taken::In && piece.is_last {
            shared.news.send_replace(news);
        }
        if is_news {
            shared.work.notify_one();
        }
        taken
    }

    fn look(&self, reader: &mut Reader, most: usize) -> Next {
        let mut state = self.shared.state();
        let end = state.tail.era_end(reader.era, reader.is_live);
        // What is behind that may have left memory already, but is not to be seen.
        if reader.next < end && state.tail.visible() <= reader.next {
            return Next::Nothing;
        }
        if reader.next < end
            && let Some(batch) = state.tail.read(reader.next..end, most)
        {
            let last = batch.last().map(|piece| Place::last_of(piece));
            let batch = reader.pass(batch);
            reader.fetch = None;
            if let Some(last) = last.filter(|_| reader.is_live) {
                state.tail.follow(reader.next, last);
                let synced = state.synced;
                state.tail.tidy(synced);
            }
            return Next::Batch(batch);
        }
        let floor = self.shared.floor(&state);
        // What is not in memory of a history that ended is nowhere.
        if end != u64::MAX {
            let entry = state.tail.enter(reader.is_live, (floor.number, floor.place));
            return Next::Begun(reader.enter(entry));
        }
        if reader.next < floor.number {
            return Next::Gone(floor);
        }
        let limit = state.tail.first().min(state.tail.visible());
        Next::OnDisk(Wanted { next: reader.next, limit, bytes: most, seen: reader.seen })
    }

    /// Whether what a reader reads from disk is before where the log begins now.
    fn is_gone(&self, reader: &Reader) -> bool {
        let state = self.shared.state();
        reader.next < self.shared.floor(&state).number
    }

    /// Moves a reader past what was read from disk.
    fn take(&self, reader: &mut Reader, fetched: Fetched) -> Vec<Arc<Transaction>> {
        reader.next = fetched.next;
        reader.fetch = fetched.fetch;
        if !fetched.pieces.is_empty() {
            reader.seen = None;
        }
        if let Some(last) = fetched.pieces.last().filter(|_| reader.is_live) {
            self.shared.state().tail.follow(reader.next, Place::last_of(last));
        }
        fetched.pieces
    }
}

fn spawn(
    shared: &Arc<Shared>,
    reader: &mut Reader,
    wanted: Wanted,
) -> tokio::task::JoinHandle<io::Result<Fetched>> {
    let (shared, place) = (Arc::clone(shared), reader.fetch.take());
    tokio::task::spawn_blocking(move || fetch(&shared, place, wanted))
}

impl ChangeLog for DiskLog {
    fn recall(&self) -> Option<Past> {
        self.past.clone()
    }

    fn begin(&self, origin: Origin, from: Lsn) {
        let shared = &*self.shared;
        let mut state = shared.state();
        let before = Place::before(from);
        state.tail.begin(origin.epoch, before);
        let history = state.tail.history();
        state.tail.take_cut();
        state.floor = Floor { number: history, place: before };
        (state.synced, state.mark, state.marked_at, state.cut) = (history, None, None, None);
        state.anew = Some(Anew { origin, from, before });
        shared.durable.send_replace(Lsn::ZERO);
        let news = state.tail.news();
        drop(state);
        shared.news.send_replace(news);
        shared.work.notify_one();
    }

    async fn append(&self, piece: Arc<Transaction>) -> bool {
        loop {
            match self.offer(&piece) {
                Taken::Repeated => return false,
                Taken::In => return true,
                Taken::Full => self.shared.room.notified().await,
            }
        }
    }

    fn mark(&self, end: Lsn) {
        let mut state = self.shared.state();
        state.tail.abandon();
        state.heed_cut();
        if *self.shared.durable.borrow() < end {
            let is_first = state.mark.is_none();
            state.mark = Some(state.mark.map_or(end, |mark| mark.max(end)));
            state.marked_at.get_or_insert_with(Instant::now);
            drop(state);
            if is_first {
                self.shared.work.notify_one();
            }
        }
    }

    fn durable(&self) -> watch::Receiver<Lsn> {
        self.shared.durable.subscribe()
    }

    fn trouble(&self) -> watch::Receiver<Trouble> {
        self.shared.trouble.subscribe()
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds(&self.shared.state())
    }

    fn follow(&self) -> Reader {
        let state = self.shared.state();
        Reader::live(state.tail.live(), state.tail.stand(), self.shared.news.subscribe())
    }

    fn read_from(&self, after: Position) -> Result<Reader, Gap> {
        let place = Place::from(after);
        let state = self.shared.state();
        self.shared.bounds(&state).check(after)?;
        let floor = self.shared.floor(&state).number;
        let next = state.tail.find(place).unwrap_or_else(|| self.shared.shelf().find(place));
        let era = state.tail.news().era;
        Ok(Reader::new(next.max(floor), (era, after), self.shared.news.subscribe()))
    }

    async fn read(&self, reader: &mut Reader, most: usize) -> Result<Read, Gap> {
        loop {
            if let Some(task) = &mut reader.under_way {
                let result = task.await;
                reader.under_way = None;
                match result {
                    // It was forgotten while it was read.
                    Ok(Ok(_)) if self.is_gone(reader) => reader.fetch = None,
                    Ok(Ok(fetched)) => {
                        let batch = self.take(reader, fetched);
                        if !batch.is_empty() {
                            return Ok(Read::Pieces(batch));
                        }
                    }
                    Ok(Err(error)) => {
                        warn!(%error, "could not read the change log; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                    // The runtime is shutting down, or the task panicked and says so itself.
                    Err(_) => std::future::pending().await,
                }
            }
            match self.look(reader, most) {
                Next::Batch(batch) if batch.is_empty() => {}
                Next::Batch(batch) => return Ok(Read::Pieces(batch)),
                Next::Begun(at) => return Ok(Read::Begun(at)),
                Next::Nothing => reader.wait().await,
                Next::OnDisk(wanted) => {
                    reader.under_way = Some(spawn(&self.shared, reader, wanted));
                }
                Next::Gone(floor) => {
                    reader.next = floor.number;
                    reader.fetch = None;
                    return Err(Gap::Forgotten { oldest: floor.place });
                }
            }
        }
    }
}
