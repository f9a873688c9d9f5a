//! Many clients that only count what they receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::stand::{Stand, row_id};
use crate::cli::client::Client;
use crate::cli::process::Process;
use crate::error::{Error, ErrorKind};

/// Joins under way at once.
const AT_ONCE: usize = 64;

/// How long nothing may arrive before the rest is called lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients that have joined.
#[derive(Debug)]
pub(super) struct Crowd {
    clients: Vec<Client>,
    /// How long it took until all had joined.
    pub(super) took: Duration,
}

/// Clients that are counting.
#[derive(Debug)]
pub(super) struct Counting {
    tally: Arc<Tally>,
    readers: FuturesUnordered<JoinHandle<Error>>,
}

#[derive(Debug)]
struct Tally {
    received: AtomicU64,
    wanted: u64,
    all: Notify,
}

impl Crowd {
    /// Joins `count` clients; the filter of each comes from its number.
    ///
    /// # Errors
    /// The first that could not join.
    pub(super) async fn join(
        stand: &Stand,
        relay: &Process,
        count: usize,
        filter: impl Fn(usize) -> Option<String>,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let joins = (0..count).map(|number| {
            let filter = filter(number);
            async move { stand.join(relay, filter.as_deref()).await }
        });
        let mut joins = futures_util::stream::iter(joins).buffer_unordered(AT_ONCE);
        let mut clients = Vec::with_capacity(count);
        while let Some(client) = joins.next().await {
            clients.push(client?);
        }
        Ok(Self { clients, took: start.elapsed() })
    }

    /// Starts to count until `wanted` rows have come, over all clients. `seen` is told of each row.
    pub(super) fn count(
        self,
        stand: &Stand,
        wanted: u64,
        seen: impl Fn(u64) + Clone + Send + 'static,
    ) -> Counting {
        let tally = Arc::new(Tally { received: AtomicU64::new(0), wanted, all: Notify::new() });
        let readers = self
            .clients
            .into_iter()
            .map(|client| {
                let read = read(client, Arc::clone(&tally), seen.clone());
                stand.stage.spawn(read)
            })
            .collect();
        Counting { tally, readers }
    }

    /// Keeps the sockets alive without counting.
    pub(super) fn idle(self, stand: &Stand) -> Counting {
        self.count(stand, u64::MAX, |_| {})
    }
}

impl Counting {
    /// How many rows have come.
    pub(super) fn received(&self) -> u64 {
        self.tally.received.load(Ordering::Relaxed)
    }

    /// Waits until all have come, or until nothing has come for a while. Returns what is missing.
    ///
    /// # Errors
    /// A client that was closed.
    pub(super) async fn finish(mut self) -> Result<u64, Error> {
        let mut before = self.received();
        loop {
            tokio::select! {
                () = self.tally.all.notified() => break,
                Some(ended) = self.readers.next() => {
                    self.stop();
                    return Err(ended.unwrap_or_else(|error| {
                        Error::new(ErrorKind::Bug, "a client failed").because(error)
                    }));
                }
                () = tokio::time::sleep(PATIENCE) => {
                    if self.received() == before {
                        break;
                    }
                    before = self.received();
                }
            }
        }
        let missing = self.tally.wanted.saturating_sub(self.received());
        self.stop();
        Ok(missing)
    }

    /// Closes every socket.
    pub(super) fn stop(&self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

/// Counts until the socket ends, which is an error: nobody asked for it.
async fn read(mut client: Client, tally: Arc<Tally>, seen: impl Fn(u64)) -> Error {
    loop {
        match client.hear_text().await {
            Ok(frame) => {
                let Some(id) = row_id(&frame) else { continue };
                seen(id);
                if tally.received.fetch_add(1, Ordering::Relaxed) + 1 == tally.wanted {
                    tally.all.notify_one();
                }
            }
            Err(error) => return error,
        }
    }
}
