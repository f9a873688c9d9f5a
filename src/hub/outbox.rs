//! The one bounded queue in front of each client.
//!
//! Offering never waits, so one client cannot hold up another. A queue over its byte limit closes with the word
//! `Slow`; whoever drains it then closes the socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
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

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    closed: Option<Closed>,
}

/// What each queued frame costs beyond its payload.
const FRAME_OVERHEAD: usize = 32;

impl Outbox {
    /// An empty outbox that closes as slow above `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default(), ready: Notify::new() }
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
        if bytes > self.limit_bytes && !state.frames.is_empty() {
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

    /// Closes the outbox; frames already queued are still handed out.
    pub fn close(&self, reason: Closed) {
        self.lock().closed.get_or_insert(reason);
        self.ready.notify_one();
    }

    /// Whether it closed because the client reads too slowly.
    pub fn is_slow(&self) -> bool {
        self.lock().closed == Some(Closed::Slow)
    }

    /// Waits for frames and moves all of them into `frames`. `Err` when it closed and nothing is left.
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
            frames.extend(state.frames.drain(..));
            state.bytes = 0;
            if state.frames.capacity() > 64 {
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

    #[test]
    fn closes_as_slow_above_the_limit_and_stays_closed() {
        let outbox = Outbox::new(1000);
        assert_eq!(outbox.offer(frame(900)), Ok(()));
        assert_eq!(outbox.offer(frame(900)), Err(Undelivered::Slow));
        assert_eq!(outbox.offer(frame(1)), Err(Undelivered::Gone));
        assert_eq!(outbox.take(&mut Vec::new()), Some(Err(Closed::Slow)));
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
