//! A reader's place in a log, and how it moves. The log does the reading.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::disk::fetch::{Fetch, Fetched};
use super::place::{Place, after};
use crate::model::Transaction;

/// Reads a log from one place on, at its own speed: from disk while it is behind, from memory once it is not.
///
/// It holds nothing back: what retention removes before it was read is a gap. After a gap it stands at the oldest
/// change there is.
#[derive(Debug)]
pub struct Reader {
    /// The number of the piece to read next.
    pub(super) next: u64,
    /// Changes up to this place were seen.
    pub(super) seen: Option<Place>,
    /// The fan-out's, whose place the log knows.
    pub(super) is_live: bool,
    pub(super) visible: watch::Receiver<u64>,
    /// Where it stands on disk, when it reads from there.
    pub(super) fetch: Option<Fetch>,
    /// Reading from disk that is under way. Kept here so that whoever waits for it may stop waiting and come again.
    pub(super) under_way: Option<JoinHandle<io::Result<Fetched>>>,
}

impl Reader {
    pub(super) fn new(next: u64, seen: Option<Place>, visible: watch::Receiver<u64>) -> Self {
        Self { next, seen, is_live: false, visible, fetch: None, under_way: None }
    }

    /// Waits until there is something to read.
    pub(super) async fn wait(&mut self) {
        let next = self.next;
        if self.visible.wait_for(|visible| next < *visible).await.is_err() {
            // The log is gone, so nothing will come.
            std::future::pending::<()>().await;
        }
    }

    /// Moves past `batch`, and answers what of it is new.
    pub(super) fn pass(&mut self, batch: Vec<Arc<Transaction>>) -> Vec<Arc<Transaction>> {
        self.next += batch.len() as u64;
        let Some(seen) = self.seen else { return batch };
        let batch: Vec<_> = batch.iter().filter_map(|piece| after(piece, seen)).collect();
        if !batch.is_empty() {
            self.seen = None;
        }
        batch
    }
}
