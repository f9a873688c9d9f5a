//! The change log in memory: bounded, and gone with the process.
//!
//! What it lost in a crash was confirmed to Postgres, so it promises delivery to those who are connected and
//! nothing to those who are not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::ChangeLog;
use crate::model::{Change, Lsn, Transaction};

/// A bounded queue of transactions. When full, the source waits and Postgres keeps the WAL.
#[derive(Debug)]
pub struct MemoryLog {
    limit_bytes: usize,
    state: Mutex<State>,
    appended: Notify,
    taken: Notify,
    durable: watch::Sender<Lsn>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Arc<Transaction>, usize)>,
    bytes: usize,
    last_commit: Lsn,
}

impl MemoryLog {
    /// An empty log that makes the source wait above `limit_bytes` of changes.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            state: Mutex::default(),
            appended: Notify::new(),
            taken: Notify::new(),
            durable: watch::Sender::new(Lsn::ZERO),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeLog for MemoryLog {
    async fn append(&self, transaction: Arc<Transaction>) -> bool {
        let bytes = 128 + transaction.changes.iter().map(Change::size).sum::<usize>();
        loop {
            {
                let mut state = self.lock();
                if transaction.commit_lsn <= state.last_commit {
                    return false;
                }
                if state.queue.is_empty() || state.bytes + bytes <= self.limit_bytes {
                    state.last_commit = transaction.commit_lsn;
                    state.bytes += bytes;
                    let end = transaction.end_lsn;
                    state.queue.push_back((transaction, bytes));
                    drop(state);
                    self.appended.notify_one();
                    self.durable.send_replace(end);
                    return true;
                }
            }
            self.taken.notified().await;
        }
    }

    fn durable(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    fn forget(&self) {
        self.lock().last_commit = Lsn::ZERO;
        self.durable.send_replace(Lsn::ZERO);
    }

    async fn next(&self, most: usize) -> Vec<Arc<Transaction>> {
        loop {
            let mut batch = Vec::new();
            {
                let mut state = self.lock();
                let mut taken = 0;
                while let Some((transaction, bytes)) = state.queue.pop_front() {
                    state.bytes -= bytes;
                    taken += bytes;
                    batch.push(transaction);
                    if taken >= most {
                        break;
                    }
                }
            }
            if !batch.is_empty() {
                self.taken.notify_one();
                return batch;
            }
            self.appended.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::model::time::PgTime;

    fn transaction(commit: u64) -> Arc<Transaction> {
        Arc::new(Transaction {
            xid: 1,
            commit_lsn: Lsn::new(commit),
            end_lsn: Lsn::new(commit + 8),
            committed_at: PgTime::default(),
            changes: Vec::new(),
            oversized: false,
        })
    }

    fn is_waiting(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_repetition_is_dropped_until_a_new_history_begins() {
        let log = MemoryLog::new(1 << 20);
        assert!(log.append(transaction(20)).await);
        assert_eq!(*log.durable().borrow(), Lsn::new(28));
        assert!(!log.append(transaction(20)).await);
        assert!(!log.append(transaction(10)).await);
        assert_eq!(*log.durable().borrow(), Lsn::new(28));
        log.forget();
        assert_eq!(*log.durable().borrow(), Lsn::ZERO);
        assert!(log.append(transaction(10)).await);
        let commits: Vec<_> = log.next(1 << 20).await.iter().map(|t| t.commit_lsn).collect();
        assert_eq!(commits, [Lsn::new(20), Lsn::new(10)], "what was appended stays");
    }

    #[tokio::test]
    async fn a_full_log_waits_for_its_reader_but_takes_anything_when_empty() {
        let log = MemoryLog::new(1);
        assert!(is_waiting(log.next(1)));
        assert!(log.append(transaction(10)).await);
        let mut second = pin!(log.append(transaction(20)));
        assert!(is_waiting(second.as_mut()));
        assert_eq!(*log.durable().borrow(), Lsn::new(18), "what waits is not durable");
        assert_eq!(log.next(1).await.len(), 1);
        assert!(second.await);
        assert_eq!(log.next(1).await.len(), 1);
    }
}
