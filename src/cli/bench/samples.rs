//! Measured times, and the figures people compare.

use std::time::Duration;

/// Times that were measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub(super) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// `p50 0.41 · p95 0.80 · p99 1.20 · max 3.00 ms`
    pub(super) fn describe(&mut self) -> String {
        self.0.sort_unstable();
        let [p50, p95, p99, max] = [0.50, 0.95, 0.99, 1.0].map(|share| self.at(share));
        format!("p50 {p50:.2} · p95 {p95:.2} · p99 {p99:.2} · max {max:.2} ms")
    }

    /// The sample below which `share` of all are, in milliseconds; the samples are sorted.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into the samples of a bench fits"
    )]
    fn at(&self, share: f64) -> f64 {
        let index = (self.0.len() as f64 * share).ceil() as usize;
        let found = self.0.get(index.saturating_sub(1).min(self.0.len().saturating_sub(1)));
        found.map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
    }
}

/// `count` per second over `time`.
#[allow(clippy::cast_precision_loss, reason = "a figure is printed with few digits")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A rate with its thousands apart: `41,300/s`.
pub(super) fn rate(count: u64, time: Duration) -> String {
    format!("{}/s", thousands(per_second(count, time)))
}

/// A number with its thousands apart.
pub(super) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + 4);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        for ms in (1..=100).rev() {
            samples.add(Duration::from_millis(ms));
        }
        assert_eq!(samples.describe(), "p50 50.00 · p95 95.00 · p99 99.00 · max 100.00 ms");
    }

    #[test]
    fn no_samples_have_no_quantiles() {
        assert!(Samples::default().describe().contains("NaN"));
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(12.0), "12");
    }
}
