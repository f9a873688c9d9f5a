//! The one bounded queue in front of each client.
//!
//! Offering never waits, so one client cannot hold up another. A queue over its byte limit closes with the word
//! `Slow` once nothing was taken from it for a moment; whoever drains it then closes the socket. So a client that
//! reads survives a large transaction, which is offered faster than any socket writes, and one that does not read is
//! closed near the limit. Far above the limit nobody survives.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// A bounded queue of frames for one socket.
#[derive(Debug)]
pub struct Outbox {
    limit_bytes: usize,
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

/// How far above its limit a queue that moves may grow.
const BURST: usize = 64;

/// Room kept in an empty queue; more is given back after a burst.
const KEPT_FRAMES: usize = 64;

/// Bytes handed out at once: little enough that a socket which writes comes back often, and so proves that it does.
const BATCH_BYTES: usize = 64 * 1024;

impl Outbox {
    /// An empty outbox that closes as slow above `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        let (frames, moved_at) = (VecDeque::new(), Instant::now());
        let state = Mutex::new(State { frames, bytes: 0, moved_at, closed: None });
        Self { limit_bytes, state, ready: Notify::new() }
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
        } else if self.limit_bytes < bytes && self.is_hopeless(&state, bytes) {
            state.closed = Some(Closed::Slow);
            state.frames = VecDeque::new();
            state.bytes = 0;
            drop(state);
            self.ready.notify_one();
            return Err(Undelivered::Slow);
        }
        state.bytes = bytes;
        state.frames.push_back(frame);
        let was_empty = state.frames.len() == 1;
        drop(state);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Whether a queue over its limit stands still, or is too far over it.
    fn is_hopeless(&self, state: &State, bytes: usize) -> bool {
        self.limit_bytes.saturating_mul(BURST) < bytes || STANDSTILL <= state.moved_at.elapsed()
    }

    /// Closes the outbox; frames already queued are still handed out.
    pub fn close(&self, reason: Closed) {
        self.lock().closed.get_or_insert(reason);
        self.ready.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame::Binary(Bytes::from(vec![0; bytes]))
    }

    #[tokio::test(start_paused = true)]
    async fn closes_as_slow_when_it_is_full_and_stands_still() {
        let outbox = Outbox::new(1000);
        assert_eq!(outbox.offer(frame(900)), Ok(()));
        assert_eq!(outbox.offer(frame(900)), Ok(()));
        tokio::time::advance(STANDSTILL).await;
        assert_eq!(outbox.offer(frame(900)), Err(Undelivered::Slow));
        assert_eq!(outbox.offer(frame(1)), Err(Undelivered::Gone));
        assert_eq!(outbox.take(&mut Vec::new()), Some(Err(Closed::Slow)));
    }

    #[tokio::test(start_paused = true)]
    async fn survives_a_burst_while_it_moves() {
        let outbox = Outbox::new(BATCH_BYTES);
        for _ in 0..BURST / 2 {
            assert_eq!(outbox.offer(frame(BATCH_BYTES)), Ok(()));
            tokio::time::advance(STANDSTILL / 2).await;
            assert_eq!(outbox.offer(frame(BATCH_BYTES / 2)), Ok(()));
            assert_eq!(outbox.take(&mut Vec::new()), Some(Ok(())));
        }
    }

    #[test]
    fn closes_as_slow_far_above_the_limit_whatever_moves() {
        let outbox = Outbox::new(1000);
        let mut offered = 0;
        while outbox.offer(frame(900)) == Ok(()) {
            offered += 900;
        }
        assert!((1000 * BURST / 2..1000 * BURST).contains(&offered), "{offered}");
        assert!(outbox.is_slow());
    }

    #[test]
    fn lets_one_large_frame_through_an_empty_queue() {
        let outbox = Outbox::new(1000);
        assert_eq!(outbox.offer(frame(5000)), Ok(()));
        let mut frames = Vec::new();
        assert_eq!(outbox.take(&mut frames), Some(Ok(())));
        assert_eq!(frames.len(), 1);
    }

    #[tokio::test]
    async fn hands_out_what_was_queued_before_it_closed() {
        let outbox = Outbox::new(1000);
        outbox.offer(frame(1)).unwrap();
        outbox.close(Closed::Drain);
        let mut frames = Vec::new();
        assert_eq!(outbox.drain(&mut frames).await, Ok(()));
        assert_eq!(frames.len(), 1);
        assert_eq!(outbox.drain(&mut frames).await, Err(Closed::Drain));
    }

    #[tokio::test]
    async fn wakes_the_drainer() {
        let outbox = std::sync::Arc::new(Outbox::new(1000));
        let drainer = std::sync::Arc::clone(&outbox);
        let waiting = async move {
            let mut frames = Vec::new();
            drainer.drain(&mut frames).await.map(|()| frames.len())
        };
        let (drained, offered) = tokio::join!(waiting, async { outbox.offer(frame(1)) });
        assert_eq!((drained, offered), (Ok(1), Ok(())));
    }
}
