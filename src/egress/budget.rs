//! So many a second, as one number: joins over all sockets, messages of one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bursts may be as large as this long a saving: clients reconnect together.
const SAVING: Duration = Duration::from_secs(5);

/// So many a second on average. A generic cell rate algorithm: the number is when those taken so far would have ended,
/// had they come evenly.
#[derive(Debug)]
pub(super) struct Budget {
    start: Instant,
    interval_ns: AtomicU64,
    saving_ns: u64,
    even_ns: AtomicU64,
}

impl Budget {
    /// Allows `per_second`, counted from `now`.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self::with_burst(per_second, 0, now)
    }

    /// The same, and after a rest never fewer than `burst` at once.
    pub(super) fn with_burst(per_second: u32, burst: u64, now: Instant) -> Self {
        let interval_ns = interval(per_second);
        let saving_ns = nanoseconds(SAVING).max(interval_ns.saturating_mul(burst));
        // Half of what fits, so that no sum overflows.
        Self {
            start: now,
            interval_ns: AtomicU64::new(interval_ns),
            saving_ns: saving_ns.min(u64::MAX / 4),
            even_ns: AtomicU64::new(0),
        }
    }

    /// Allows another number a second from now on. What was taken stays taken.
    pub(super) fn set_rate(&self, per_second: u32) {
        self.interval_ns.store(interval(per_second), Ordering::Relaxed);
    }

    /// Takes so many at once; false, and nothing taken, when fewer are left.
    pub(super) fn take(&self, count: u32, now: Instant) -> bool {
        let now_ns = self.since_start(now);
        let taken_ns = self.interval().saturating_mul(u64::from(count));
        let take = |even_ns: u64| {
            let next = even_ns.max(now_ns).saturating_add(taken_ns);
            (next <= now_ns + self.saving_ns).then_some(next)
        };
        self.even_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many could be taken at once after a rest.
    pub(super) fn most(&self) -> u64 {
        self.saving_ns / self.interval()
    }

    /// How many could be taken at the moment.
    pub(super) fn left(&self, now: Instant) -> u64 {
        let now_ns = self.since_start(now);
        let even_ns = self.even_ns.load(Ordering::Relaxed).max(now_ns);
        (now_ns + self.saving_ns).saturating_sub(even_ns) / self.interval()
    }

    /// Whether none is left at the moment.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        self.left(now) == 0
    }

    /// Whether nothing of it is used at the moment, so that forgetting it changes nothing.
    pub(super) fn is_rested(&self, now: Instant) -> bool {
        self.even_ns.load(Ordering::Relaxed) <= self.since_start(now)
    }

    fn interval(&self) -> u64 {
        self.interval_ns.load(Ordering::Relaxed)
    }

    fn since_start(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.start))
    }
}

/// Nanoseconds between two of them, never none.
fn interval(per_second: u32) -> u64 {
    (1_000_000_000 / u64::from(per_second.max(1))).max(1)
}

/// 584 years fit; half of them are enough.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_burst_and_then_the_rate() {
        let start = Instant::now();
        let budget = Budget::new(2, start);
        let taken = (0..100).filter(|_| budget.take(1, start)).count();
        assert_eq!(taken, 10);
        assert!(budget.is_spent(start) && !budget.take(1, start));
        let later = start + Duration::from_secs(3);
        assert!(!budget.is_spent(later));
        assert_eq!((0..100).filter(|_| budget.take(1, later)).count(), 6);
        let rested = start + Duration::from_secs(60);
        assert!(!budget.take(11, rested) && budget.take(7, rested));
        assert_eq!(budget.left(rested), 3);
        assert!(!budget.take(u32::MAX, rested));
    }

    #[test]
    fn a_burst_may_be_larger_than_the_saving_and_comes_back_at_the_rate() {
        let start = Instant::now();
        let budget = Budget::with_burst(2, 30, start);
        assert!(budget.is_rested(start) && budget.most() == 30);
        assert!(budget.take(30, start) && !budget.take(1, start));
        let later = start + Duration::from_secs(14);
        assert_eq!(budget.left(later), 28);
        assert!(!budget.is_rested(later) && budget.is_rested(later + Duration::from_secs(1)));
        let large = Budget::with_burst(1, u64::MAX, start);
        assert!(large.take(u32::MAX, start));
    }
}
