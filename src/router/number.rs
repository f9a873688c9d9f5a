//! Compares numbers by the text Postgres writes for them: exactly, and in Postgres' order (`NaN` above all).
//!
//! Deliberately not here: parsing what people write. Operands went through Postgres first.

use std::cmp::Ordering;

/// Compares two `numeric` texts of any length; `None` when one is not a number.
pub(super) fn numeric(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Decimal::read(left)?, Decimal::read(right)?);
    Some(left.rank().cmp(&right.rank()).then_with(|| match (left, right) {
        (Decimal::Finite { is_negative, .. }, Decimal::Finite { .. }) if is_negative => {
            right.magnitude(&left)
        }
        (Decimal::Finite { .. }, Decimal::Finite { .. }) => left.magnitude(&right),
        _ => Ordering::Equal,
    }))
}

/// Compares two `float4` or `float8` texts; `None` when one is not a number.
pub(super) fn float(left: &str, right: &str) -> Option<Ordering> {
    let (left, right): (f64, f64) = (left.parse().ok()?, right.parse().ok()?);
    Some(left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan())))
}

/// Compares two integer texts; `None` when one is not an integer.
pub(super) fn integer(left: &str, right: &str) -> Option<Ordering> {
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    Some(left.cmp(&right))
}

/// The part of a `numeric` text that equal values share: trailing zeros of the fraction do not count.
pub(super) fn numeric_key(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The text that equal floats share: the two zeros are one.
pub(super) fn float_key(text: &str) -> &str {
    if text == "-0" { "0" } else { text }
}

#[derive(Clone, Copy)]
enum Decimal<'a> {
    NegativeInfinity,
    /// Whole digits without leading zeros, fraction digits without trailing ones.
    Finite {
        is_negative: bool,
        whole: &'a str,
        fraction: &'a str,
    },
    Infinity,
    NaN,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a str) -> Option<Self> {
        match text {
            "NaN" => return Some(Self::NaN),
            "Infinity" => return Some(Self::Infinity),
            "-Infinity" => return Some(Self::NegativeInfinity),
            _ => (),
        }
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if digits.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self::Finite { is_negative: is_negative && !is_zero, whole, fraction })
    }

    /// Orders the classes; equal ranks need a closer look only when finite.
    fn rank(self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite { is_negative: true, .. } => 1,
            Self::Finite { is_negative: false, .. } => 2,
            Self::Infinity => 3,
            Self::NaN => 4,
        }
    }

    /// Compares absolute values. Digits sort as text once the whole parts are equally long.
    fn magnitude(&self, other: &Self) -> Ordering {
        match (self, other) {
            (
                Self::Finite { whole: a, fraction: b, .. },
                Self::Finite { whole: c, fraction: d, .. },
            ) => a.len().cmp(&c.len()).then_with(|| a.cmp(c)).then_with(|| b.cmp(d)),
            _ => Ordering::Equal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_compare_at_any_length() {
        let ascending = [
            "-Infinity",
            "-123456789012345678901234567890.5",
            "-10",
            "-9.99",
            "-0.001",
            "0",
            "0.0009",
            "0.001",
            "0.01",
            "9",
            "10",
            "123456789012345678901234567890.4",
            "123456789012345678901234567890.5",
            "Infinity",
            "NaN",
        ];
        for (place, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(numeric(left, right), Some(place.cmp(&other)), "{left} {right}");
            }
        }
        for (left, right) in [("1.0", "1.00"), ("0.0", "0"), ("-0", "0"), ("10", "10.000")] {
            assert_eq!(numeric(left, right), Some(Ordering::Equal));
        }
    }

    #[test]
    fn what_is_no_number_is_not_guessed() {
        for text in ["", "-", "1e5", "1_000", "x", "1.2.3", "nan", " 1"] {
            assert_eq!(numeric(text, "1"), None, "{text:?}");
            assert_eq!(integer(text, "x"), None, "{text:?}");
        }
        assert_eq!(float("x", "1"), None);
    }

    #[test]
    fn floats_follow_postgres_where_ieee_does_not() {
        assert_eq!(float("NaN", "NaN"), Some(Ordering::Equal));
        assert_eq!(float("NaN", "Infinity"), Some(Ordering::Greater));
        assert_eq!(float("-0", "0"), Some(Ordering::Equal));
        assert_eq!(float("1e-05", "0.0001"), Some(Ordering::Less));
        assert_eq!(float("-Infinity", "-1e+308"), Some(Ordering::Less));
    }

    #[test]
    fn equal_numbers_share_a_key() {
        for (text, key) in
            [("1.500", "1.5"), ("1.0", "1"), ("0.00", "0"), ("100", "100"), ("-2.50", "-2.5")]
        {
            assert_eq!(numeric_key(text), key);
        }
        assert_eq!((float_key("-0"), float_key("-1")), ("0", "-1"));
    }
}
