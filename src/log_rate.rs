//! How often a line is logged that clients can cause: once a minute for each cause, with the number of those left out.
//!
//! Promises: however often a client causes a line, it is written once a minute, and the next one says how many were left out
//! in between; one cause hides no other, up to `MAX_CAUSES` causes. Overflow: when as many are remembered, those of a minute ago
//! are forgotten, and if there are none, all further causes are one.
//!
//! Deliberately not here: the lines themselves. What is no client's doing is logged without this.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line for each cause comes this often at most.
const PERIOD: Duration = Duration::from_mins(1);

/// Causes that are remembered.
const MAX_CAUSES: usize = 1024;

/// The causes of all lines of this process.
static CAUSES: LogRate = LogRate::new();

/// Whether a line may be written now whose cause is this: the kind of the line and what it is about. Then how many were left
/// out since the last one.
pub fn admit(cause: &[&str]) -> Option<u64> {
    CAUSES.admit(cause, Instant::now())
}

/// What was logged lately.
#[derive(Debug)]
struct LogRate(Mutex<BTreeMap<Box<str>, Written>>);

/// A line that was written.
#[derive(Debug)]
struct Written {
    at: Instant,
    left_out: u64,
}

impl LogRate {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn admit(&self, cause: &[&str], now: Instant) -> Option<u64> {
        // The map is never left half-changed.
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key: Box<str> = cause.join("\0").into();
        if MAX_CAUSES <= written.len() && !written.contains_key(&key) {
            written.retain(|_, line| now.duration_since(line.at) < PERIOD);
            if MAX_CAUSES <= written.len() {
                key = Box::default();
            }
        }
        match written.get_mut(&key) {
            Some(line) if now.duration_since(line.at) < PERIOD => {
                line.left_out = line.left_out.saturating_add(1);
                None
            }
            Some(line) => {
                line.at = now;
                Some(std::mem::take(&mut line.left_out))
            }
            None => {
                written.insert(key, Written { at: now, left_out: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_has_a_line_a_minute_which_says_how_many_were_left_out() {
        let (rate, start) = (LogRate::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.admit(&["withheld", "notes"], at(0)), Some(0));
        for second in 1..60 {
            assert_eq!(rate.admit(&["withheld", "notes"], at(second)), None);
        }
        assert_eq!(rate.admit(&["withheld", "posts"], at(1)), Some(0), "another cause");
        assert_eq!(rate.admit(&["withheld", "notes"], at(60)), Some(59));
        assert_eq!(rate.admit(&["withheld", "notes"], at(61)), None);
        assert_eq!(rate.admit(&["withheld", "notes"], at(200)), Some(1));
    }

    #[test]
    fn causes_without_number_take_neither_memory_nor_log() {
        let (rate, start) = (LogRate::new(), Instant::now());
        let lines = |at: Instant| {
            let causes = (0..10 * MAX_CAUSES).map(|number| number.to_string());
            causes.filter(|cause| rate.admit(&[cause], at).is_some()).count()
        };
        // The one beside those remembered stands for all others.
        assert_eq!(lines(start), MAX_CAUSES + 1);
        assert!(rate.0.lock().unwrap().len() <= MAX_CAUSES + 1);
        assert_eq!(lines(start + PERIOD), MAX_CAUSES + 1);
    }
}
