//! A reader's place in a log, and how it moves. The log does the reading.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::disk::fetch::{Fetch, Fetched};
use super::eras::Entry;
use super::place::{Place, after};
use crate::model::{Position, Transaction};

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
    /// The number of the history that it was told of last.
    pub(super) era: u64,
    start: Position,
    news: watch::Receiver<News>,
    /// Where it stands on disk, when it reads from there.
    pub(super) fetch: Option<Fetch>,
    /// Reading from disk that is under way. Kept here so that whoever waits for it may stop waiting and come again.
    pub(super) under_way: Option<JoinHandle<io::Result<Fetched>>>,
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Pieces below this number may be seen.
    pub(super) visible: u64,
    /// The number of the present history.
    pub(super) era: u64,
}

impl Reader {
    /// A reader behind `start` in the history numbered `era`, whose next piece may have changes up to there.
    pub(super) fn new(
        next: u64,
        (era, start): (u64, Position),
        news: watch::Receiver<News>,
    ) -> Self {
        let (seen, fetch, under_way) = (Some(start.into()), None, None);
        Self { next, seen, is_live: false, era, start, news, fetch, under_way }
    }

    /// The fan-out's, which stands at the beginning of a piece.
    pub(super) fn live(next: u64, stand: (u64, Position), news: watch::Receiver<News>) -> Self {
        Self { seen: None, is_live: true, ..Self::new(next, stand, news) }
    }

    /// Behind which change it was made.
    pub const fn start(&self) -> Position {
        self.start
    }

    /// Goes on in another history.
    pub(super) fn enter(&mut self, entry: Entry) -> Position {
        (self.era, self.next, self.seen, self.fetch) = (entry.number, entry.next, None, None);
        entry.at
    }

    /// Waits until there is something to read.
    pub(super) async fn wait(&mut self) {
        let (next, era) = (self.next, self.era);
        let is_news = |news: &News| next < news.visible || news.era != era;
        if self.news.wait_for(is_news).await.is_err() {
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
