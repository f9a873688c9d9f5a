//! The one bounded queue in front of each client.
//!
//! Offering never waits, so one client cannot hold up another. A queue over its byte limit closes with the word
//! `Slow` once nothing was taken from it for a moment; whoever drains it then closes the socket. So a client that
//! reads survives a large transaction, which is offered faster than any socket writes, and one that does not read is
//! closed near the limit. All queues together have a limit too ([`Backlog`]): while it is exceeded, every queue over its
//! own limit closes, moving or not.
//!
//! What is queued is written by one hand at a time (`Hand`): as a rule by a [`Post`], which carries the frames of
//! many outboxes to their [`Door`]s without waking anybody; by the outbox' owner while its client does not take them at
//! once, and where there is no door.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::post::{Door, Post};

/// Bytes as they go on a client's wire. Cloning copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame; validated once.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// A ping, which the client's WebSocket answers by itself; at most 125 bytes.
    Ping(Bytes),
}

impl Frame {
    /// Bytes of payload.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) => bytes.len(),
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
    post: OnceLock<Arc<Post>>,
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
    hand: Hand,
    /// The way to the client that needs no owner. The post takes it away while it writes.
    door: Option<Box<dyn Door>>,
    /// The owner wants to write itself from now on.
    is_wanted: bool,
    /// Nothing is written by the post for now.
    is_paused: bool,
}

/// Whose turn it is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hand {
    /// The owner's.
    Owner,
    /// The owner's, who is to look after what is stuck in the door.
    Stuck,
    /// Nobody's: nothing is queued.
    Free,
    /// The post's, which knows of it.
    Post,
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
    /// An empty outbox that closes as slow above `limit_bytes`, and counts towards `backlog`. Its owner drains it.
    pub fn new(limit_bytes: usize, backlog: Arc<Backlog>) -> Self {
        let state = State {
            frames: VecDeque::new(),
            bytes: 0,
            moved_at: Instant::now(),
            closed: None,
            hand: Hand::Owner,
            door: None,
            is_wanted: false,
            is_paused: false,
        };
        let (post, ready) = (OnceLock::new(), Notify::new());
        Self { limit_bytes, backlog, post, state: Mutex::new(state), ready }
    }

    /// From now on `post` carries frames to `door`; the owner is woken for what does not go through at once.
    pub fn open(&self, post: Arc<Post>, door: Box<dyn Door>) {
        if self.post.set(post).is_ok() {
            self.lock().door = Some(door);
        }
        self.ready.notify_one();
    }

    /// Queues a frame without ever waiting. A frame larger than the limit is let through an empty queue, so a
    /// limit below one message is not a trap.
    ///
    /// # Errors
    /// The frame was not queued; the socket is closing or closed.
    pub fn offer(self: &Arc<Self>, frame: Frame) -> Result<(), Undelivered> {
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
        match state.hand {
            Hand::Free if !state.is_paused => {
                state.hand = Hand::Post;
                drop(state);
                self.ring();
            }
            Hand::Owner if state.frames.len() == 1 => {
                drop(state);
                self.ready.notify_one();
            }
            Hand::Owner | Hand::Stuck | Hand::Free | Hand::Post => {}
        }
        Ok(())
    }

    /// Keeps what is queued from now on until [`Outbox::resume`], so that what it tells is true before it is read. For
    /// moments without waiting only.
    pub fn pause(&self) {
        self.lock().is_paused = true;
    }

    /// Ends a pause.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_paused = false;
        if state.hand == Hand::Free && !state.frames.is_empty() {
            state.hand = Hand::Post;
            drop(state);
            self.ring();
        }
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

    /// Waits for what is the owner's to write and moves a batch of it into `frames`; none when something is stuck in
    /// the door. `Err` when it closed and nothing is left. Cancel-safe.
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

    /// Moves what is the owner's to write into `frames` without waiting; `None` when there is nothing to say.
    pub fn take(&self, frames: &mut Vec<Frame>) -> Option<Result<(), Closed>> {
        let mut state = self.lock();
        match state.hand {
            Hand::Stuck => {
                state.hand = Hand::Owner;
                self.move_batch(&mut state, frames);
                return Some(Ok(()));
            }
            Hand::Owner if !state.frames.is_empty() => {
                self.move_batch(&mut state, frames);
                return Some(Ok(()));
            }
            Hand::Owner if state.door.is_some() => state.hand = Hand::Free,
            // What waits for the post is handed out before a close is told; of what was too much, nothing is.
            Hand::Post if state.closed != Some(Closed::Slow) => return None,
            Hand::Owner | Hand::Free | Hand::Post => {}
        }
        state.closed.map(Err)
    }

    /// Takes the pen from the post for good, waiting until it is laid down.
    pub async fn take_over(&self) {
        loop {
            {
                let mut state = self.lock();
                state.is_wanted = true;
                if state.hand != Hand::Post {
                    state.door = None;
                    if state.hand == Hand::Free {
                        state.hand = Hand::Owner;
                    }
                    return;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Nobody writes any more: the door is let go.
    pub fn seal(&self) {
        let mut state = self.lock();
        state.is_wanted = true;
        state.closed.get_or_insert(Closed::Drain);
        self.backlog.bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        (state.frames, state.bytes) = (VecDeque::new(), 0);
        let door = state.door.take();
        drop(state);
        drop(door);
    }

    /// Carries what is queued to the door. For the post, with buffers of its own, whenever it was rung for.
    pub(super) fn deliver(self: &Arc<Self>, frames: &mut Vec<Frame>, scratch: &mut Vec<u8>) {
        let mut state = self.lock();
        if state.is_paused && !state.is_wanted {
            state.hand = Hand::Free;
            return;
        }
        let door = if state.is_wanted { None } else { state.door.take() };
        let Some(mut door) = door else {
            drop(state);
            return self.return_to_owner();
        };
        self.move_batch(&mut state, frames);
        drop(state);
        let is_through = door.put(frames, scratch);
        let mut state = self.lock();
        if state.is_wanted {
            drop(state);
            return self.return_to_owner();
        }
        state.door = Some(door);
        if !is_through {
            drop(state);
            self.return_to_owner();
        } else if !state.frames.is_empty() {
            drop(state);
            self.ring();
        } else {
            state.hand = Hand::Free;
            if state.closed.is_some() {
                self.ready.notify_one();
            }
        }
    }

    fn ring(self: &Arc<Self>) {
        match self.post.get() {
            Some(post) => post.ring(self),
            None => self.return_to_owner(),
        }
    }

    /// Leaves the writing to the owner.
    pub(super) fn return_to_owner(&self) {
        self.lock().hand = Hand::Stuck;
        self.ready.notify_one();
    }

    fn move_batch(&self, state: &mut State, frames: &mut Vec<Frame>) {
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
mod tests;
