//! Compares dates and timestamps by their ISO text, years of any length, `BC` and the infinities included.

use std::cmp::Ordering;

/// Compares two texts of the same type (`date`, `timestamp`, or `timestamptz` in UTC); `None` when one is not
/// written as the pinned session settings write it.
pub(super) fn compare(left: &str, right: &str) -> Option<Ordering> {
    Some(Moment::read(left)?.cmp(&Moment::read(right)?))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Past,
    /// Year (1 BC is 0), day within it, microsecond within that.
    At(i64, u32, u64),
    Future,
}

impl Moment {
    fn read(text: &str) -> Option<Self> {
        match text {
            "-infinity" => return Some(Self::Past),
            "infinity" => return Some(Self::Future),
            _ => (),
        }
        let (text, is_bc) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (date, time) = match text.split_once(' ') {
            Some((date, time)) => (date, micros(time.strip_suffix("+00").unwrap_or(time))?),
            None => (text, 0),
        };
        let mut parts = date.split('-');
        let mut next = || parts.next().and_then(digits);
        let (year, month, day) = (next()?, next()?, next()?);
        if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let year = i64::try_from(year).ok()?;
        let of_year = u32::try_from(month * 32 + day).ok()?;
        Some(Self::At(if is_bc { 1 - year } else { year }, of_year, time))
    }
}

/// `HH:MM:SS[.ffffff]` in microseconds.
fn micros(time: &str) -> Option<u64> {
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':');
    let mut next = || parts.next().and_then(digits);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if parts.next().is_some() || 24 < hour || 59 < minute || 60 < second {
        return None;
    }
    let fraction = match fraction.len() {
        0 => 0,
        length @ 1..=6 => digits(fraction)? * 10_u64.pow(6 - u32::try_from(length).ok()?),
        _ => return None,
    };
    Some((hour * 3600 + minute * 60 + second) * 1_000_000 + fraction)
}

/// A number of at most nine digits; Postgres' years end at 294276 (timestamps) and 5874897 (dates).
fn digits(text: &str) -> Option<u64> {
    let is_plain = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn ascending(texts: &[&str]) {
        for (place, left) in texts.iter().enumerate() {
            for (other, right) in texts.iter().enumerate() {
                assert_eq!(compare(left, right), Some(place.cmp(&other)), "{left} {right}");
            }
        }
    }

    #[test]
    fn dates_go_from_one_infinity_to_the_other() {
        ascending(&[
            "-infinity",
            "4713-11-24 BC",
            "0044-03-14 BC",
            "0044-03-15 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "2024-02-29",
            "9999-12-31",
            "10000-01-01",
            "5874897-12-31",
            "infinity",
        ]);
    }

    #[test]
    fn timestamps_compare_to_the_microsecond() {
        ascending(&[
            "0001-12-31 23:59:59.999999 BC",
            "2024-01-01 00:00:00",
            "2024-01-01 00:00:00.000001",
            "2024-01-01 00:00:00.1",
            "2024-01-01 00:00:01",
            "2024-01-01 10:00:00",
            "294276-12-31 23:59:59.999999",
        ]);
        ascending(&["0044-03-15 01:02:03+00 BC", "2024-01-01 00:00:00+00", "infinity"]);
    }

    #[test]
    fn other_ways_to_write_time_are_not_guessed() {
        for text in [
            "",
            "2024",
            "2024-01",
            "2024-13-01",
            "01/02/2024",
            "2024-01-01 00:00:00+02",
            "2024-01-01 00:00",
            "2024-01-01 00:00:00.1234567",
            "2024-01-01T00:00:00",
            "-1-01-01",
        ] {
            assert_eq!(compare(text, "2024-01-01"), None, "{text:?}");
        }
    }
}
