//! How sockets are sent away: told at once that no more can be had here, then closed a few at a time.
//!
//! Clients come back after fixed delays, so the pace of the goodbyes is the pace at which whoever takes them over gets
//! them. A socket keeps getting everything until its turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::sleep;

/// Sockets are closed in batches this far apart.
const STEP: Duration = Duration::from_millis(100);

/// The smallest batch; 250 a second.
const BATCH: usize = 25;

/// Whether sockets may stay, and whose turn it is to go.
#[derive(Debug)]
pub struct Departure {
    call: watch::Sender<Call>,
    newest: Mutex<Generation>,
    turns: Semaphore,
}

/// Who is to leave.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    everybody: bool,
    /// Generations before this one.
    below: u64,
}

impl Call {
    const fn is_for(self, generation: u64) -> bool {
        self.everybody || generation < self.below
    }
}

/// The sockets that came between two recalls; each holds it for as long as it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Generation(Arc<u64>);

impl Generation {
    /// Later ones have higher numbers.
    pub(super) fn number(&self) -> u64 {
        *self.0
    }
}

impl Departure {
    /// Everybody may stay.
    pub(super) fn new() -> Self {
        let call = watch::Sender::new(Call::default());
        Self { call, newest: Mutex::default(), turns: Semaphore::new(0) }
    }

    /// One more socket is here.
    pub(super) fn enter(&self) -> Generation {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Completes when the sockets of a generation are to leave.
    pub(super) async fn called(&self, generation: u64) {
        // The sender is here.
        let _ = self.call.subscribe().wait_for(|call| call.is_for(generation)).await;
    }

    /// Whether the sockets of a generation are to leave.
    pub(super) fn is_for(&self, generation: u64) -> bool {
        self.call.borrow().is_for(generation)
    }

    /// Tells everybody to leave, whoever comes now included; they wait for [`Departure::send_away`] to give them their
    /// turns.
    pub fn begin(&self) {
        self.call.send_modify(|call| call.everybody = true);
    }

    /// Whether everybody is to leave, whoever comes now included.
    pub fn is_on(&self) -> bool {
        self.call.borrow().everybody
    }

    /// Completes when it is the turn of a socket of this generation, with true, or when it may stay after all.
    pub(super) async fn turn(&self, generation: u64) -> bool {
        let mut call = self.call.subscribe();
        tokio::select! {
            turn = self.turns.acquire() => {
                turn.map(SemaphorePermit::forget).is_ok()
            }
            _ = call.wait_for(|call| !call.is_for(generation)) => false,
        }
    }

    /// Sends everybody away, spread over about `over` when they are many, and returns when `present` counts nobody.
    pub async fn send_away(&self, over: Duration, present: impl Fn() -> usize) {
        self.begin();
        self.give_turns(over, present).await;
    }

    /// Everybody may stay again, but for those who were recalled.
    pub fn end(&self) {
        self.call.send_modify(|call| call.everybody = false);
        self.turns.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Tells those who are here now to leave; they wait for [`Departure::clear`] to give them their turns. Who comes
    /// later may stay.
    pub(super) fn recall(&self) -> Generation {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let below = newest.number() + 1;
        let recalled = std::mem::replace(&mut *newest, Generation(Arc::new(below)));
        self.call.send_modify(|call| call.below = below);
        recalled
    }

    /// Has those leave who were recalled, spread over about `over` when they are many, and returns when all are gone.
    pub(super) async fn clear(&self, recalled: &Generation, over: Duration) {
        // One is the caller's.
        self.give_turns(over, || Arc::strong_count(&recalled.0).saturating_sub(1)).await;
    }

    async fn give_turns(&self, over: Duration, present: impl Fn() -> usize) {
        let batch = batch(present(), over);
        while present() != 0 {
            sleep(STEP).await;
            // Turns that nobody takes are for those who are busy writing.
            if self.turns.available_permits() < present() {
                self.turns.add_permits(batch);
            }
        }
        // Of those who still wait for a turn somebody else takes care, at every step.
        self.turns.forget_permits(Semaphore::MAX_PERMITS);
    }
}

/// How many of `present` leave at each step.
fn batch(present: usize, over: Duration) -> usize {
    let steps = usize::try_from(over.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
    present.div_ceil(steps.max(1)).max(BATCH)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::shutdown::Stage;

    #[test]
    fn few_leave_at_250_a_second_and_many_in_the_time_there_is() {
        let over = Duration::from_secs(10);
        assert_eq!(batch(0, over), 25);
        assert_eq!(batch(2_500, over), 25);
        assert_eq!(batch(5_000, over), 50);
        assert_eq!(batch(5_000, Duration::ZERO), 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_told_at_once_and_leave_by_and_by() {
        const SOCKETS: usize = 100;
        let departure = Arc::new(Departure::new());
        let (told, present) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(SOCKETS)));
        let stage = Stage::new();
        let start = Instant::now();
        let leaving: Vec<_> = (0..SOCKETS)
            .map(|_| {
                let (departure, told, present) =
                    (Arc::clone(&departure), Arc::clone(&told), Arc::clone(&present));
                stage.spawn(async move {
                    departure.called(0).await;
                    told.fetch_add(1, Ordering::Relaxed);
                    departure.turn(0).await;
                    assert_eq!(told.load(Ordering::Relaxed), SOCKETS);
                    present.fetch_sub(1, Ordering::Relaxed);
                    start.elapsed()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        departure.send_away(Duration::from_secs(10), || present.load(Ordering::Relaxed)).await;
        let mut times = Vec::new();
        for task in leaving {
            times.push(task.await.unwrap());
        }
        times.sort();
        assert_eq!((times[0], times[SOCKETS - 1]), (STEP, STEP * 4), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_the_end_stays() {
        let departure = Departure::new();
        departure.send_away(Duration::ZERO, || 0).await;
        assert!(tokio::time::timeout(STEP, departure.called(0)).await.is_ok());
        departure.turns.add_permits(7);
        departure.end();
        assert!(tokio::time::timeout(STEP, departure.called(0)).await.is_err());
        assert!(!departure.is_on() && !departure.turn(0).await, "who was told to leave may stay");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_recall_stays_and_everybody_else_leaves() {
        let departure = Arc::new(Departure::new());
        let (old, others) = (departure.enter(), departure.enter());
        let recalled = departure.recall();
        let new = departure.enter();
        assert!(!departure.is_on() && old.number() < new.number());
        assert!(tokio::time::timeout(STEP, departure.called(new.number())).await.is_err());
        let stage = Stage::new();
        for generation in [old, others] {
            let departure = Arc::clone(&departure);
            stage.spawn(async move {
                departure.called(generation.number()).await;
                assert!(departure.turn(generation.number()).await, "there is no way back");
            });
        }
        departure.end();
        departure.clear(&recalled, Duration::ZERO).await;
        assert_eq!(departure.turns.available_permits(), 0);
        assert_eq!(Arc::strong_count(&recalled.0), 1);
    }
}
