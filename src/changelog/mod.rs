//! The change log between Postgres and the clients: what the source appends, the fan-out reads.
//!
//! It decouples: Postgres is acknowledged when the log has a transaction, never when a client has it.

pub mod memory;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::{Lsn, Transaction};

pub use memory::MemoryLog;

/// The promise a log keeps.
pub trait ChangeLog: Send + Sync + 'static {
    /// Appends one transaction, waiting while the log is full. Readers see it at once. A transaction at or before
    /// the last appended commit is a repetition and is dropped; the answer says whether it was new.
    fn append(&self, transaction: Arc<Transaction>) -> impl Future<Output = bool> + Send;
    /// End LSN of the newest transaction whose loss we accept the blame for: what may be confirmed to Postgres.
    fn durable(&self) -> watch::Receiver<Lsn>;
    /// A new history begins: what comes next is new even where its positions are not past the last commit, and
    /// nothing of it is durable yet. Transactions already appended stay.
    fn forget(&self);
    /// Takes the transactions appended since the last call, at least one, at most about `bytes` worth of changes.
    fn next(&self, bytes: usize) -> impl Future<Output = Vec<Arc<Transaction>>> + Send;
}
