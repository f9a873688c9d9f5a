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
    interval_ns: u64,
    even_ns: AtomicU64,
}

impl Budget {
    /// Allows `per_second`, counted from `now`.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Self { start: now, interval_ns, even_ns: AtomicU64::new(0) }
    }

    /// Takes so many at once; false, and nothing taken, when fewer are left.
    pub(super) fn take(&self, count: u32, now: Instant) -> bool {
        let now_ns = self.since_start(now);
        let taken_ns = self.interval_ns.saturating_mul(u64::from(count));
        let take = |even_ns: u64| {
            let next = even_ns.max(now_ns).saturating_add(taken_ns);
            (next <= now_ns + saving_ns()).then_some(next)
        };
        self.even_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many could be taken at once after a rest.
    pub(super) fn most(&self) -> u64 {
        saving_ns() / self.interval_ns
    }

    /// How many could be taken at the moment.
    pub(super) fn left(&self, now: Instant) -> u64 {
        let now_ns = self.since_start(now);
        let even_ns = self.even_ns.load(Ordering::Relaxed).max(now_ns);
        (now_ns + saving_ns()).saturating_sub(even_ns) / self.interval_ns
    }

    /// Whether none is left at the moment.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        self.left(now) == 0
    }

    fn since_start(&self, now: Instant) -> u64 {
        // 584 years fit.
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

fn saving_ns() -> u64 {
    u64::try_from(SAVING.as_nanos()).unwrap_or(u64::MAX / 2)
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
}
