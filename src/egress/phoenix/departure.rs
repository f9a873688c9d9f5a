//! How sockets are sent away: told at once that no more can be had here, then closed a few at a time.
//!
//! Clients come back after fixed delays, so the pace of the goodbyes is the pace at which whoever takes them over gets
//! them. A socket keeps getting everything until its turn.

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
    leaving: watch::Sender<bool>,
    turns: Semaphore,
}

impl Departure {
    /// Everybody may stay.
    pub(super) fn new() -> Self {
        Self { leaving: watch::Sender::new(false), turns: Semaphore::new(0) }
    }

    /// Completes when everybody is to leave.
    pub(super) async fn called(&self) {
        // The sender is here.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    /// Whether everybody is to leave.
    pub fn is_on(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Completes when it is the caller's turn to leave, with true, or when it may stay after all.
    pub(super) async fn turn(&self) -> bool {
        let mut leaving = self.leaving.subscribe();
        tokio::select! {
            turn = self.turns.acquire() => {
                turn.map(SemaphorePermit::forget).is_ok()
            }
            _ = leaving.wait_for(|leaving| !*leaving) => false,
        }
    }

    /// Sends everybody away, spread over about `over` when they are many, and returns when `present` counts nobody.
    pub async fn send_away(&self, over: Duration, present: impl Fn() -> usize) {
        self.leaving.send_replace(true);
        let batch = batch(present(), over);
        while present() != 0 {
            sleep(STEP).await;
            // Turns that nobody takes are for those who are busy writing.
            if self.turns.available_permits() < present() {
                self.turns.add_permits(batch);
            }
        }
    }

    /// Everybody may stay again.
    pub fn end(&self) {
        self.leaving.send_replace(false);
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
                    departure.called().await;
                    told.fetch_add(1, Ordering::Relaxed);
                    departure.turn().await;
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
        assert!(tokio::time::timeout(STEP, departure.called()).await.is_ok());
        departure.turns.add_permits(7);
        departure.end();
        assert!(tokio::time::timeout(STEP, departure.called()).await.is_err());
        assert!(!departure.is_on() && !departure.turn().await, "who was told to leave may stay");
    }
}
