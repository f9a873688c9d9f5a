//! How far behind the slot is, in seconds: since when WAL exists that was not confirmed. Pure.
//!
//! Postgres does not say when a position was written. So each look remembers where the WAL ended, and the oldest of
//! these ends that is not confirmed tells the age. What lies further back than the first look is not known.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Lsn;

/// Ends remembered. When there are more, every second one is let go, so that old ones get rarer, never lost.
const MOST: usize = 512;

/// Where the server's WAL ended, and when.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<(Lsn, Instant)>);

impl Ends {
    /// Takes in one look; how long the oldest WAL that was not confirmed is known to exist.
    pub(super) fn age(&mut self, end: Lsn, confirmed: Lsn, now: Instant) -> Duration {
        if self.0.back().is_some_and(|(last, _)| end < *last) {
            // Another history.
            self.0.clear();
        }
        while self.0.front().is_some_and(|(end, _)| *end <= confirmed) {
            self.0.pop_front();
        }
        if confirmed < end && self.0.back().is_none_or(|(last, _)| *last < end) {
            if MOST <= self.0.len() {
                let mut place = 0;
                self.0.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
            }
            self.0.push_back((end, now));
        }
        self.0.front().map_or(Duration::ZERO, |(_, seen)| now.duration_since(*seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_end_that_is_not_confirmed_tells_the_age() {
        let mut ends = Ends::default();
        let start = Instant::now();
        let mut age = |end, confirmed, second| {
            let now = start + Duration::from_secs(second);
            ends.age(Lsn::new(end), Lsn::new(confirmed), now).as_secs()
        };
        assert_eq!(age(100, 100, 0), 0);
        assert_eq!(age(200, 100, 10), 0, "written since the last look");
        assert_eq!(age(300, 150, 15), 5);
        assert_eq!(age(300, 200, 25), 10);
        assert_eq!(age(300, 300, 30), 0);
        assert_eq!(age(400, 300, 35), 0);
        assert_eq!(age(50, 40, 90), 0, "another history");
    }

    #[test]
    fn a_long_lag_keeps_its_age_in_bounded_memory() {
        let mut ends = Ends::default();
        let start = Instant::now();
        for second in 0..10_000 {
            let now = start + Duration::from_secs(second);
            let age = ends.age(Lsn::new(second + 1), Lsn::ZERO, now);
            assert_eq!(age.as_secs(), second);
        }
        assert!(ends.0.len() <= MOST);
    }
}
