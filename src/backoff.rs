//! How long to wait before trying again.

use std::time::Duration;

/// Doubles from `first` to `most`, with a quarter of jitter so that many relays do not knock together. Pure: the caller
/// brings the randomness and does the waiting.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits `first`, then twice that, and so on up to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait. `random` is any number; a quarter of the wait depends on it.
    pub fn wait(&mut self, random: u64) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.most);
        let fraction = u32::try_from(random % 1024).unwrap_or(0);
        base * 3 / 4 + base / 4 * fraction / 1024
    }

    /// It worked: the next failure waits `first` again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_most_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.wait(0).as_millis()).collect();
        assert_eq!(waits, [75, 150, 262, 262]);
        backoff.reset();
        assert!(backoff.wait(1023) < Duration::from_millis(100));
        backoff.reset();
        assert!(backoff.wait(512) > Duration::from_millis(75));
    }
}
