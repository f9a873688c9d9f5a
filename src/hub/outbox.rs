//! The one bounded queue in front of each client.
//!
//! Offering never waits, so one client cannot hold up another. A queue over its byte limit closes with the word
//! `Slow` once nothing was taken from it for a moment; whoever drains it then closes the socket. So a client that
//! reads survives a large transaction, which is offered faster than any socket writes, and one that does not read is
//! closed near the limit. All queues together have a limit too ([`Backlog`]): while it is exceeded, every queue over its
//! own limit closes, moving or not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Bytes as they go on a client's wire. Cloning copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame; validated once.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
}

impl Frame {
    /// Bytes of payload.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The client reads too slowly; its outbox just closed.
    Slow,
    /// The outbox had closed before.
    Gone,
}

/// Why an outbox closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// More bytes were waiting than the limit allows.
    Slow,
    /// The server is going away; clients should reconnect.
    Drain,
}

/// What waits in all outboxes together.
#[derive(Debug)]
pub struct Backlog {
    limit_bytes: usize,
    bytes: AtomicUsize,
}

impl Backlog {
    /// Nothing waits yet; above `limit_bytes` there is no room for bursts.
    pub const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, bytes: AtomicUsize::new(0) }
    }

    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A bounded queue of frames for one socket.
#[derive(Debug)]
pub struct Outbox {
    limit_bytes: usize,
    backlog: Arc<Backlog>,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// When something was last taken, or the queue began to fill.
    moved_at: Instant,
    closed: Option<Closed>,
}

/// What each queued frame costs beyond its payload.
const FRAME_OVERHEAD: usize = 32;

/// How long a queue over its limit may stand still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Room kept in an empty queue; more is given back after a burst.
const KEPT_FRAMES: usize = 64;

/// Bytes handed out at once: little enough that a socket which writes comes back often, and so proves that it does.
const BATCH_BYTES: usize = 64 * 1024;

impl Outbox {
    /// An empty outbox that closes as slow above `limit_bytes`, and counts towards `backlog`.
    pub fn new(limit_bytes: usize, backlog: Arc<Backlog>) -> Self {
        let (frames, moved_at) = (VecDeque::new(), Instant::now());
        let state = Mutex::new(State { frames, bytes: 0, moved_at, closed: None });
        Self { limit_bytes, backlog, state, ready: Notify::new() }
    }

    /// Queues a frame without ever waiting. A frame larger than the limit is let through an empty queue, so a
    /// limit below one message is not a trap.
    ///
    /// # Errors
    /// The frame was not queued; the socket is closing or closed.
    pub fn offer(&self, frame: Frame) -> Result<(), Undelivered> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(Undelivered::Gone);
        }
        let bytes = state.bytes + frame.len() + FRAME_OVERHEAD;
        if state.frames.is_empty() {
            state.moved_at = Instant::now();
        } else if self.limit_bytes < bytes && self.is_hopeless(&state) {
            state.closed = Some(Closed::Slow);
            state.frames = VecDeque::new();
            self.backlog.bytes.fetch_sub(state.bytes, Ordering::Relaxed);
            state.bytes = 0;
            drop(state);
            self.ready.notify_one();
            return Err(Undelivered::Slow);
        }
        self.backlog.bytes.fetch_add(bytes - state.bytes, Ordering::Relaxed);
        state.bytes = bytes;
        state.frames.push_back(frame);
        let was_empty = state.frames.len() == 1;
        drop(state);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Whether a queue over its limit stands still, or there is no room for bursts.
    fn is_hopeless(&self, state: &State) -> bool {
        self.backlog.limit_bytes < self.backlog.bytes() || STANDSTILL <= state.moved_at.elapsed()
    }

    /// Closes the outbox; frames already queued are still handed out.
    pub fn close(&self, reason: Closed) {
        self.lock().closed.get_or_insert(reason);
        self.ready.notify_one();
    }

    /// Bytes that wait in it.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether it closed because the client reads too slowly.
    pub fn is_slow(&self) -> bool {
        self.lock().closed == Some(Closed::Slow)
    }

    /// Waits for frames and moves a batch of them into `frames`. `Err` when it closed and nothing is left.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Why the outbox closed.
    pub async fn drain(&self, frames: &mut Vec<Frame>) -> Result<(), Closed> {
        loop {
            if let Some(result) = self.take(frames) {
                return result;
            }
            self.ready.notified().await;
        }
    }

    /// Moves what is queued into `frames` without waiting; `None` when there is nothing to say.
    pub fn take(&self, frames: &mut Vec<Frame>) -> Option<Result<(), Closed>> {
        let mut state = self.lock();
        if !state.frames.is_empty() {
            let mut batch = 0;
            while batch < BATCH_BYTES
                && let Some(frame) = state.frames.pop_front()
            {
                batch += frame.len() + FRAME_OVERHEAD;
                frames.push(frame);
            }
            state.bytes = state.bytes.saturating_sub(batch);
            self.backlog.bytes.fetch_sub(batch, Ordering::Relaxed);
            state.moved_at = Instant::now();
            if state.frames.is_empty() && KEPT_FRAMES < state.frames.capacity() {
                state.frames = VecDeque::new();
            }
            return Some(Ok(()));
        }
        state.closed.map(Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock leaves at worst a frame unsent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.lock().bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(limit_bytes: usize) -> Outbox {
        Outbox::new(limit_bytes, Arc::new(Backlog::new(1_000_000)))
    }

    fn frame(bytes: usize) -> Frame {
        Frame::Binary(Bytes::from(vec![0; bytes]))
    }

    #[tokio::test(start_paused = true)]
    async fn closes_as_slow_when_it_is_full_and_stands_still() {
        let outbox = outbox(1000);
        assert_eq!(outbox.offer(frame(900)), Ok(()));
        assert_eq!(outbox.offer(frame(900)), Ok(()));
        tokio::time::advance(STANDSTILL).await;
        assert_eq!(outbox.offer(frame(900)), Err(Undelivered::Slow));
        assert_eq!(outbox.offer(frame(1)), Err(Undelivered::Gone));
        assert_eq!(outbox.take(&mut Vec::new()), Some(Err(Closed::Slow)));
    }

    #[tokio::test(start_paused = true)]
    async fn survives_a_burst_while_it_moves() {
        let outbox = outbox(BATCH_BYTES);
        for _ in 0..10 {
            assert_eq!(outbox.offer(frame(BATCH_BYTES)), Ok(()));
            tokio::time::advance(STANDSTILL / 2).await;
            assert_eq!(outbox.offer(frame(BATCH_BYTES / 2)), Ok(()));
            assert_eq!(outbox.take(&mut Vec::new()), Some(Ok(())));
        }
    }

    #[test]
    fn closes_as_slow_over_its_limit_while_all_together_are_over_theirs() {
        let backlog = Arc::new(Backlog::new(10_000));
        let [one, two] = [1000, 1000].map(|limit| Outbox::new(limit, Arc::clone(&backlog)));
        while one.offer(frame(900)) == Ok(()) {}
        assert!(one.is_slow() && backlog.bytes() == 0);
        for _ in 0..5 {
            one.offer(frame(900)).unwrap_err();
            two.offer(frame(900)).unwrap();
        }
        two.take(&mut Vec::new()).unwrap().unwrap();
        drop(two);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn lets_one_large_frame_through_an_empty_queue() {
        let outbox = outbox(1000);
        assert_eq!(outbox.offer(frame(5000)), Ok(()));
        let mut frames = Vec::new();
        assert_eq!(outbox.take(&mut frames), Some(Ok(())));
        assert_eq!(frames.len(), 1);
    }

    #[tokio::test]
    async fn hands_out_what_was_queued_before_it_closed() {
        let outbox = outbox(1000);
        outbox.offer(frame(1)).unwrap();
        outbox.close(Closed::Drain);
        let mut frames = Vec::new();
        assert_eq!(outbox.drain(&mut frames).await, Ok(()));
        assert_eq!(frames.len(), 1);
        assert_eq!(outbox.drain(&mut frames).await, Err(Closed::Drain));
    }

    #[tokio::test]
    async fn wakes_the_drainer() {
        let outbox = Arc::new(outbox(1000));
        let drainer = Arc::clone(&outbox);
        let waiting = async move {
            let mut frames = Vec::new();
            drainer.drain(&mut frames).await.map(|()| frames.len())
        };
        let (drained, offered) = tokio::join!(waiting, async { outbox.offer(frame(1)) });
        assert_eq!((drained, offered), (Ok(1), Ok(())));
    }
}
