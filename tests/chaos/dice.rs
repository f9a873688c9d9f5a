//! Random numbers that a seed repeats.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a run's randomness comes from (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other dice, the same for the same seed and number.
    pub const fn of(&self, number: u64) -> Self {
        Self(self.0 ^ number.wrapping_mul(0xA24B_AED4_963E_E407))
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `below - 1`.
    pub const fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// True so many times of a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between the two.
    pub const fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// The seed of this run: `SEED`, else a new one.
pub fn seed() -> u64 {
    std::env::var("SEED").map_or_else(
        |_| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Dice::new(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())).next()
                >> 32
        },
        |text| text.parse().expect("SEED is a number"),
    )
}
