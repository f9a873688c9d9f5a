//! Times and sizes as people write them: `"10s"`, `"1 MiB"`. A unit is always required, so no number is ever
//! read in another unit than it was meant.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A length of time, such as `250ms`, `10s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A number of bytes, such as `512 B`, `64 KiB`, `1 MiB` or `5 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// Largest first, so that printing finds the shortest text.
const TIMES: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Something written as text in a fixed form.
pub(crate) trait Written: Sized {
    /// What a reader should have written.
    const EXPECTED: &'static str;

    /// The value, or nothing when the text is not of the form.
    fn parse(text: &str) -> Option<Self>;
}

impl Written for Time {
    const EXPECTED: &'static str = "a time such as \"250ms\", \"10s\", \"5m\" or \"1h\"";

    fn parse(text: &str) -> Option<Self> {
        scaled(text, TIMES).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Written for Size {
    const EXPECTED: &'static str = "a size such as \"64 KiB\", \"1 MiB\" or \"5 MB\"";

    fn parse(text: &str) -> Option<Self> {
        scaled(text, SIZES).and_then(|bytes| usize::try_from(bytes).ok()).map(Self)
    }
}

/// A whole number times its unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let (_, scale) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        print(f, millis, "", TIMES)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0 as u64, " ", SIZES)
    }
}

/// In the largest unit that divides it.
fn print(f: &mut fmt::Formatter<'_>, number: u64, gap: &str, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |(_, scale): &&(&str, u64)| number != 0 && number.is_multiple_of(*scale);
    match units.iter().find(fits).or(units.last()) {
        Some((unit, scale)) => write!(f, "{}{gap}{unit}", number / scale),
        None => write!(f, "{number}"),
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Quoted(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Quoted(PhantomData))
    }
}

struct Quoted<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for Quoted<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["0ms", "250ms", "10s", "90s", "5m", "1h", "7d"] {
            assert_eq!(Time::parse(text).unwrap().to_string(), text);
        }
        for text in ["0 B", "1000001 B", "64 KiB", "1 MiB", "5 MB", "2 GiB", "3 kB"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("1mib"), Some(Size(1 << 20)));
        assert_eq!(Time::parse(" 10 s "), Some(Time(Duration::from_secs(10))));
    }

    #[test]
    fn a_number_without_a_unit_is_nothing() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 apples", "99999999999999999999s", "１s"] {
            assert_eq!(Time::parse(text), None, "{text}");
            assert_eq!(Size::parse(text), None, "{text}");
        }
        assert_eq!(Size::parse("99999999999999999 GiB"), None);
    }
}
