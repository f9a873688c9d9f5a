//! How fast what a client sends must come: a byte now and then is no sign of life.

use std::time::Duration;

use tokio::time::Instant;

/// How long something may come as slowly as it likes.
const START: Duration = Duration::from_secs(10);

/// Bytes a second that it must have come at since it began.
const LEAST_RATE: u64 = 1024;

/// The pace of one message or body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    began: Instant,
    /// How long it may take, however fast it comes.
    patience: Duration,
}

impl Pace {
    /// It begins now.
    pub(super) fn begin(patience: Duration) -> Self {
        Self { began: Instant::now(), patience }
    }

    /// When it is late unless more than so many bytes have come.
    pub(super) fn due(&self, bytes: usize) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_RATE);
        self.began + START.max(earned).min(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_earned_by_bytes_up_to_the_patience() {
        let pace = Pace::begin(Duration::from_secs(60));
        for (bytes, seconds) in
            [(0, 10), (10_240, 10), (20_480, 20), (1 << 20, 60), (usize::MAX, 60)]
        {
            assert_eq!(pace.due(bytes), pace.began + Duration::from_secs(seconds), "{bytes}");
        }
    }
}
