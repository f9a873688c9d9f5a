//! The change log between Postgres and the clients: what the source appends, the fan-out reads, and those read again
//! who were away.
//!
//! It decouples: Postgres is acknowledged when the log has a transaction, never when a client has it. Readers see a
//! transaction at once, before it is on disk: its ids are made of WAL positions only, so what a crash takes with it
//! comes again under the same ids.
//!
//! A reader is a place that moves: [`ChangeLog::read_from`] makes one behind any change the log has,
//! [`ChangeLog::read`] moves it, from disk while it is behind and then from memory, without a hole and without a
//! repetition. No reader holds anything back.
//!
//! Not here: who may see what was read. That is judged now, not when it was written.

pub mod codec;
pub mod disk;
mod eras;
pub mod memory;
mod place;
mod reader;
#[cfg(test)]
mod samples;
mod tail;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::{Epoch, Lsn, Position, Transaction};

pub use disk::DiskLog;
pub use memory::MemoryLog;
pub use place::{Bounds, Gap, NO_EPOCH, Place};
pub use reader::Reader;

/// Why nothing can be written at present, in words for an operator; `None` when all is well.
pub type Trouble = Option<Arc<str>>;

/// Whose history a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The life of this history: every id carries it.
    pub epoch: Epoch,
    /// The server's system identifier.
    pub system: String,
    /// The timeline of the server on which the history began.
    pub timeline: String,
    /// The database's oid.
    pub database_oid: u32,
    /// The database's name.
    pub database: String,
    /// The slot that is read.
    pub slot: String,
    /// Which slot of that name: 0, or where a later one began.
    pub generation: u64,
}

/// What a log kept of the process before this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Whose history it is.
    pub origin: Origin,
    /// Everything before this is on disk. Nothing beyond it was ever confirmed to Postgres.
    pub end: Lsn,
    /// Relation descriptions were counted this far.
    pub relations: u64,
}

/// What a reader comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next transactions or pieces of them, at least one.
    Pieces(Vec<Arc<Transaction>>),
    /// Another history begins; what comes next is after this position of it. The end of the one before may be missing.
    Begun(Position),
}

/// The promise a log keeps.
pub trait ChangeLog: Send + Sync + 'static {
    /// What an earlier process left, until [`ChangeLog::begin`] replaces it.
    fn recall(&self) -> Option<Past>;
    /// A history begins at `from`, where the slot stands: what comes next is new even where its positions are not past
    /// the last commit, and nothing of it is durable yet. What was there before can no longer be asked for; what is in
    /// memory still reaches the fan-out, and then it is told.
    fn begin(&self, origin: Origin, from: Lsn);
    /// Appends a transaction, or the next piece of one, waiting while the log is full. Readers see a transaction at
    /// once when its last piece is in; one whose first piece comes again starts over. A transaction at or before the
    /// last one is a repetition and is dropped; the answer says whether it was new.
    fn append(&self, piece: Arc<Transaction>) -> impl Future<Output = bool> + Send;
    /// Everything up to `end` was appended, nothing committed between the last transaction and there, and none is under
    /// way: one whose last piece did not come is given up. Becomes durable like a transaction.
    fn mark(&self, end: Lsn);
    /// End of what a crash does not take: what may be confirmed to Postgres.
    fn durable(&self) -> watch::Receiver<Lsn>;
    /// Whether it can write. While it cannot, it serves from memory and confirms nothing.
    fn trouble(&self) -> watch::Receiver<Trouble>;
    /// What can be asked for.
    fn bounds(&self) -> Bounds;
    /// The fan-out's reader: everything that no such reader has read, which at first is what this process appends. The
    /// log keeps it in memory for it as long as it can.
    fn follow(&self) -> Reader;
    /// A reader behind the change at `after`: the first thing it reads is the next change of the same transaction, or
    /// the next transaction. Costs no reading by itself.
    ///
    /// # Errors
    /// The log cannot continue there.
    fn read_from(&self, after: Position) -> Result<Reader, Gap>;
    /// What comes next, about `bytes` of memory worth; waits for it to be appended. May be dropped and called again:
    /// nothing is lost.
    ///
    /// # Errors
    /// What comes next in the same history is no longer there. The reader then stands at the oldest change there is.
    fn read(
        &self,
        reader: &mut Reader,
        bytes: usize,
    ) -> impl Future<Output = Result<Read, Gap>> + Send;
}

impl Origin {
    /// What in `now` shows that a log of `self` was not made for it, in words for an operator.
    pub fn is_foreign_to(&self, now: &Self) -> Option<String> {
        let is_same_database =
            self.database_oid == now.database_oid || self.database == now.database;
        if self.system == now.system && is_same_database && self.slot == now.slot {
            return None;
        }
        let Self { system, database, slot, .. } = self;
        let asked = (&now.system, &now.database, &now.slot);
        Some(format!(
            "it holds database {database:?} of server {system} through slot {slot:?}, not {:?} of {} through {:?}",
            asked.1, asked.0, asked.2
        ))
    }
}

impl Default for Origin {
    /// Nobody's.
    fn default() -> Self {
        Self {
            epoch: Epoch::new(0),
            system: String::new(),
            timeline: String::new(),
            database_oid: 0,
            database: String::new(),
            slot: String::new(),
            generation: 0,
        }
    }
}

impl Bounds {
    /// Whether a reader behind `after` would miss nothing.
    ///
    /// # Errors
    /// Why it would.
    pub fn check(&self, after: Position) -> Result<(), Gap> {
        let place = Place::from(after);
        if self.epoch != Some(after.epoch) {
            Err(Gap::OtherEpoch)
        } else if place < self.oldest {
            Err(Gap::Forgotten { oldest: self.oldest })
        } else if self.newest.max(self.oldest) < place {
            Err(Gap::Ahead { newest: self.newest })
        } else {
            Ok(())
        }
    }
}
