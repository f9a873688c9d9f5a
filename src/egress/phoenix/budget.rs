//! Joins per second over all sockets, as one number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Joins may come in bursts of this long a saving: clients reconnect together.
const SAVING: Duration = Duration::from_secs(5);

/// So many joins a second on average. A generic cell rate algorithm: the number is when the joins taken so far would
/// have ended, had they come evenly.
#[derive(Debug)]
pub(super) struct Budget {
    start: Instant,
    interval_ns: u64,
    even_ns: AtomicU64,
}

impl Budget {
    /// Allows `per_second` joins, counted from `now`.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Self { start: now, interval_ns, even_ns: AtomicU64::new(0) }
    }

    /// Takes one join; false when there is none left.
    pub(super) fn take(&self, now: Instant) -> bool {
        let now_ns = self.since_start(now);
        let take = |even_ns: u64| {
            let next = even_ns.max(now_ns) + self.interval_ns;
            (next <= now_ns + saving_ns()).then_some(next)
        };
        self.even_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Whether there is no join left at the moment.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        let now_ns = self.since_start(now);
        let even_ns = self.even_ns.load(Ordering::Relaxed);
        even_ns.max(now_ns) + self.interval_ns > now_ns + saving_ns()
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
        let taken = (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(taken, 10);
        assert!(budget.is_spent(start));
        let later = start + Duration::from_secs(3);
        assert!(!budget.is_spent(later));
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 6);
    }
}
