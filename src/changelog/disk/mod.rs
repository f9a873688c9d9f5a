//! The change log on disk: served from memory at once, made to last behind that.
//!
//! Promises:
//!
//! - What [`durable`](super::ChangeLog::durable) says is on disk: fsynced, in a file whose directory entry is fsynced.
//! - A transaction is there whole or not at all, under the same number and ids for as long as it is there.
//! - Damage is noticed by checksums and never delivered; whoever needs what is lost is told of a gap.
//! - A full or failing disk stops confirmations, not deliveries: up to the limit of memory everything goes on, then the
//!   source waits. It heals by itself.
//! - Nobody's clock matters: age is counted in time that relays ran on the log, order by position.
//! - One relay per directory, and one database and slot.
//!
//! **Why files of our own and no embedded store.** Speed does not decide: beside redb 4, which is well kept, on the same
//! bytes and disk (`cargo bench --bench changelog`), one transaction is on disk in 0.2 ms either way, 20,000 in 34 ms
//! either way, and processor time is 1.2 and 1.5 us each; reading is slower (8 ms against 4), dropping the oldest
//! faster (0.6 ms against 1.8). What decides is rot: of 20 bytes changed on disk, the store read all 20 as wrong rows
//! without an error. Here every record is checked whenever it is read, and damage is told. Besides, the store takes half
//! as much space again (673 bytes a transaction against 445), and a file that is unlinked needs no space to go.
//!
//! The parts of own files that are easy to get wrong are few and written down: the format and its invariants in
//! `segment`, what happens after a crash in `recovery`, what happens when the disk says no in `writer`.
//!
//! What is not here: compression, encryption, and copies on other machines.

mod appending;
pub(super) mod fetch;
#[cfg(test)]
mod flaky;
mod forget;
mod medium;
mod privacy;
mod recovery;
mod segment;
mod shelf;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, WaitTimeoutResult};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use self::medium::{Directory, Medium};
use self::recovery::recover;
use self::shelf::{Floor, Shelf};
use self::writer::Writer;
use super::reader::News;
use super::tail::Tail;
use super::{Bounds, Origin, Past, Place, Trouble};
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::model::Lsn;

pub use privacy::{PRIVATE_MODE, REQUEST, ask_to_forget};

/// A segment is closed when it has grown to this: what retention drops at once.
const SEGMENT: u64 = 16 << 20;

/// Where the log is and how much of it stays.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes on disk above which the oldest go. A larger transaction is let go. What the fan-out has not read stays
    /// until there is twice as much.
    pub retain_bytes: u64,
    /// How old the oldest may become.
    pub retain_age: Duration,
    /// Bytes in memory above which the source waits for the disk.
    pub memory: usize,
}

/// What the parts of the log need of its settings.
#[derive(Clone, Copy, Debug)]
struct Terms {
    retain_bytes: u64,
    retain_age: Duration,
    segment_bytes: u64,
}

impl Terms {
    /// How often somebody looks what has become too old.
    fn rest(self) -> Duration {
        (self.retain_age / 8).clamp(Duration::from_millis(10), Duration::from_mins(1))
    }
}

/// The change log on disk.
pub struct DiskLog {
    shared: Arc<Shared>,
    largest: usize,
    past: Option<Past>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the log's threads and its users share.
#[derive(Debug)]
pub(super) struct Shared {
    medium: Arc<dyn Medium>,
    place: String,
    settings: Terms,
    state: Mutex<State>,
    work: Condvar,
    shelf: Mutex<Shelf>,
    room: Notify,
    news: watch::Sender<News>,
    durable: watch::Sender<Lsn>,
    trouble: watch::Sender<Trouble>,
    /// How many times something was forgotten because somebody asked.
    forgotten: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    tail: Tail,
    /// Where the present history begins, when it began in this process.
    floor: Floor,
    /// Everything below this number is on disk.
    synced: u64,
    /// What is being written ends at this number.
    in_flight: u64,
    mark: Option<Lsn>,
    /// Since when a mark waits.
    marked_at: Option<Instant>,
    anew: Option<Anew>,
    /// Numbers from here on are given out again, and were perhaps written.
    cut: Option<u64>,
    /// Everything below this number, at least, is to be forgotten.
    forget: Option<u64>,
    /// The writer rests and need not be woken for a single piece.
    is_resting: bool,
    is_closing: bool,
}

impl State {
    /// Numbers that are given out again may have been written: they are written again.
    fn heed_cut(&mut self) {
        let written = self.synced.max(self.in_flight);
        if let Some(cut) = self.tail.take_cut().filter(|cut| *cut < written) {
            self.synced = self.synced.min(cut);
            self.cut = Some(self.cut.map_or(cut, |before| before.min(cut)));
        }
    }
}

/// A history that begins.
#[derive(Clone, Debug)]
struct Anew {
    origin: Origin,
    from: Lsn,
    before: Place,
}

impl DiskLog {
    /// Opens or makes the log in `settings.dir`, repairs what a crash left, and starts writing.
    ///
    /// # Errors
    /// `Misconfigured`: the directory cannot be used; `LogInUse`: another process uses it.
    pub fn open(settings: &Settings, metrics: Metrics) -> Result<Self, Error> {
        let directory = Directory::open(&settings.dir)?;
        let place = settings.dir.display().to_string();
        Self::on(Arc::new(directory), place, settings, SEGMENT, metrics)
    }

    fn on(
        medium: Arc<dyn Medium>,
        place: String,
        settings: &Settings,
        segment_bytes: u64,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let name = place.clone();
        let cannot = |cause: std::io::Error| {
            let text = format!("could not open the change log in {name}");
            Error::new(ErrorKind::Misconfigured, text).because(cause)
        };
        let recovered = recover(&*medium).map_err(cannot)?;
        let (kept, origin) = (recovered.kept, recovered.origin);
        let past = origin.clone().map(|origin| Past {
            origin,
            end: kept.end,
            relations: recovered.relations,
        });
        if recovered.is_damaged {
            metrics.log_damages.inc();
        }
        let settings_of = Terms {
            retain_bytes: settings.retain_bytes,
            retain_age: settings.retain_age,
            segment_bytes,
        };
        let tail = Tail::new(settings.memory, kept);
        let shared = Arc::new(Shared {
            medium,
            settings: settings_of,
            news: watch::Sender::new(tail.news()),
            state: Mutex::new(State {
                tail,
                floor: recovered.shelf.floor(),
                synced: kept.next,
                in_flight: kept.next,
                mark: None,
                marked_at: None,
                anew: None,
                cut: None,
                forget: None,
                is_resting: false,
                is_closing: false,
            }),
            work: Condvar::new(),
            shelf: Mutex::new(recovered.shelf),
            room: Notify::new(),
            durable: watch::Sender::new(kept.end),
            trouble: watch::Sender::new(None),
            forgotten: watch::Sender::new(0),
            metrics,
            place,
        });
        let writer = Writer::new(
            Arc::clone(&shared),
            (recovered.active, origin),
            recovered.clock,
            recovered.relations,
            kept,
        );
        let checked = Arc::clone(&shared);
        let threads = [
            std::thread::Builder::new().name("relay-log".into()).spawn(move || writer.run()),
            std::thread::Builder::new()
                .name("relay-log-check".into())
                .spawn(move || fetch::check(&checked, kept.next)),
        ];
        let threads = threads.into_iter().collect::<Result<_, _>>().map_err(cannot)?;
        let largest = usize::try_from(settings.retain_bytes).unwrap_or(usize::MAX);
        Ok(Self { shared, largest, past, threads: Mutex::new(threads) })
    }

    /// Waits until what was appended is on disk, or the disk says no, and stops. May block for as long as an fsync.
    pub fn close(&self) {
        self.shared.state().is_closing = true;
        self.shared.work.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // It panicked: its panic was printed, and what it did not write comes again.
            let _ = thread.join();
        }
    }
}

impl Drop for DiskLog {
    /// Lets the threads end; the lock of the directory goes with the last of them.
    fn drop(&mut self) {
        self.shared.state().is_closing = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    /// Waits for work, up to `span`.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        span: Duration,
    ) -> (MutexGuard<'a, State>, WaitTimeoutResult) {
        self.work.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be asked for.
    fn bounds(&self, state: &State) -> Bounds {
        let oldest = self.floor(state).place;
        Bounds { epoch: state.tail.epoch(), oldest, newest: state.tail.newest() }
    }

    /// Where the log begins.
    fn floor(&self, state: &State) -> Floor {
        let floor = self.shelf().floor();
        if floor.number < state.floor.number { state.floor } else { floor }
    }
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLog").field("place", &self.shared.place).finish_non_exhaustive()
    }
}
