//! The post: carries frames from many outboxes to their sockets, a few tasks for all of them.
//!
//! Waking a task per client and message would cost about as much as the write itself. Whoever offers a frame rings
//! instead; a round then goes to every outbox that was rung for, and puts what it finds there through its door, without
//! ever waiting. What does not go through at once is its owner's to look after, so that nobody waits for a slow client.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Frame, Outbox};
use crate::shutdown::Stage;

/// The write half of a client's socket.
pub trait Door: Debug + Send {
    /// Writes all frames in order without waiting, and keeps what the socket does not take. False when something was
    /// kept, or the socket is broken: the owner is to look after it. `scratch` is room to use.
    fn put(&mut self, frames: &mut Vec<Frame>, scratch: &mut Vec<u8>) -> bool;
}

/// One task that goes round. Outboxes are shared out among a few.
#[derive(Debug, Default)]
pub struct Post {
    rung: Mutex<Rung>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Rung {
    outboxes: Vec<Arc<Outbox>>,
    /// No more rounds are made: owners write themselves.
    is_over: bool,
}

/// Outboxes between two looks at whether others want to run on this thread: a fraction of a millisecond of writes.
const STRETCH: usize = 32;

/// Room for frames that is kept from one outbox to the next.
const KEPT_FRAMES: usize = 1024;

/// Room for bytes, likewise.
const KEPT_BYTES: usize = 256 * 1024;

impl Post {
    /// Starts to make rounds in `stage`, until it is asked to stop.
    pub fn start(stage: &Stage) -> Arc<Self> {
        let post = Arc::new(Self::default());
        let (rounds, stopping) = (Arc::clone(&post), stage.clone());
        stage.spawn(async move {
            rounds.go_round(&stopping).await;
            rounds.end();
        });
        post
    }

    /// Has the next round go to `outbox`.
    pub(super) fn ring(&self, outbox: &Arc<Outbox>) {
        let mut rung = self.lock();
        if rung.is_over {
            drop(rung);
            return outbox.return_to_owner();
        }
        rung.outboxes.push(Arc::clone(outbox));
        let is_first = rung.outboxes.len() == 1;
        drop(rung);
        if is_first {
            self.bell.notify_one();
        }
    }

    async fn go_round(&self, stage: &Stage) {
        let (mut round, mut frames, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        while !stage.is_stopping() {
            std::mem::swap(&mut round, &mut self.lock().outboxes);
            if round.is_empty() {
                tokio::select! {
                    () = self.bell.notified() => {}
                    () = stage.stopping() => {}
                }
            }
            for (place, outbox) in round.drain(..).enumerate() {
                outbox.deliver(&mut frames, &mut scratch);
                frames.clear();
                frames.shrink_to(KEPT_FRAMES);
                scratch.shrink_to(KEPT_BYTES);
                if place % STRETCH == STRETCH - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Leaves what was rung for to the owners.
    fn end(&self) {
        let mut rung = self.lock();
        rung.is_over = true;
        let left = std::mem::take(&mut rung.outboxes);
        drop(rung);
        left.iter().for_each(|outbox| outbox.return_to_owner());
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        // Nothing panics while holding the lock.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
