//! The log as its users see it: appending, and reading from memory or from disk.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::warn;

use super::fetch::{Fetched, Wanted, fetch};
use super::shelf::Floor;
use super::{Anew, DiskLog, Shared};
use crate::changelog::tail::Taken;
use crate::changelog::{Bounds, ChangeLog, Gap, Origin, Past, Place, Reader, Trouble};
use crate::model::{Lsn, Position, Transaction};

/// The pause before a file that could not be opened is tried again: usually there are too many open.
const PAUSE: Duration = Duration::from_millis(100);

/// What there is to do for a reader.
enum Next {
    /// This is in memory.
    Batch(Vec<Arc<Transaction>>),
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
        let taken = state.tail.take(piece, synced, self.largest);
        state.heed_cut();
        let visible = state.tail.visible();
        let is_news = !state.is_resting || state.tail.is_crowded();
        drop(state);
        if taken == Taken::In && piece.is_last {
            shared.visible.send_replace(visible);
        }
        if is_news {
            shared.work.notify_one();
        }
        taken
    }

    fn look(&self, reader: &mut Reader, most: usize) -> Next {
        let mut state = self.shared.state();
        // What is behind that may have left memory already, but is not to be seen.
        if state.tail.visible() <= reader.next {
            return Next::Nothing;
        }
        if let Some(batch) = state.tail.read(reader.next, most) {
            let batch = reader.pass(batch);
            reader.fetch = None;
            if reader.is_live {
                state.tail.follow(reader.next);
                let synced = state.synced;
                state.tail.tidy(synced);
            }
            return Next::Batch(batch);
        }
        let floor = self.shared.floor(&state);
        if reader.next < floor.number {
            return Next::Gone(floor);
        }
        let limit = state.tail.first().min(state.tail.visible());
        Next::OnDisk(Wanted { next: reader.next, limit, bytes: most, seen: reader.seen })
    }

    /// Moves a reader past what was read from disk.
    fn take(&self, reader: &mut Reader, fetched: Fetched) -> Vec<Arc<Transaction>> {
        reader.next = fetched.next;
        reader.fetch = fetched.fetch;
        if !fetched.pieces.is_empty() {
            reader.seen = None;
        }
        if reader.is_live {
            self.shared.state().tail.follow(reader.next);
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
        state.tail.begin(before);
        let history = state.tail.history();
        state.tail.take_cut();
        state.epoch = Some(origin.epoch);
        state.floor = Floor { number: history, place: before };
        (state.synced, state.mark, state.marked_at, state.cut) = (history, None, None, None);
        state.anew = Some(Anew { origin, from, before });
        shared.durable.send_replace(Lsn::ZERO);
        drop(state);
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
        let state = self.shared.state();
        let oldest = self.shared.floor(&state).place;
        Bounds { epoch: state.epoch, oldest, newest: state.tail.newest() }
    }

    fn follow(&self) -> Reader {
        let next = self.shared.state().tail.live();
        let mut reader = Reader::new(next, None, self.shared.visible.subscribe());
        reader.is_live = true;
        reader
    }

    fn read_from(&self, after: Position) -> Result<Reader, Gap> {
        self.bounds().check(after)?;
        let place = Place::from(after);
        let state = self.shared.state();
        let floor = self.shared.floor(&state).number;
        let next = state.tail.find(place).unwrap_or_else(|| self.shared.shelf().find(place));
        Ok(Reader::new(next.max(floor), Some(place), self.shared.visible.subscribe()))
    }

    async fn read(&self, reader: &mut Reader, most: usize) -> Result<Vec<Arc<Transaction>>, Gap> {
        loop {
            if let Some(task) = &mut reader.under_way {
                let result = task.await;
                reader.under_way = None;
                match result {
                    Ok(Ok(fetched)) => {
                        let batch = self.take(reader, fetched);
                        if !batch.is_empty() {
                            return Ok(batch);
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
                Next::Batch(batch) => return Ok(batch),
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
