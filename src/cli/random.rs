//! Random names, passwords and identifiers.

use std::fmt::Write;

/// `bytes` random bytes as hexadecimal digits.
pub(crate) fn hex(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes * 2);
    for byte in fill(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A random (version 4) UUID.
pub(crate) fn uuid() -> String {
    uuid_of(&hex(16))
}

/// A UUID (version 4, as far as its form goes) of 32 hexadecimal digits.
pub(crate) fn uuid_of(digits: &str) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// A random number, for spreading waits.
pub(crate) fn number() -> u64 {
    fill(8).into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
}

#[allow(clippy::expect_used, reason = "without randomness no secret may be made")]
fn fill(bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut buffer).expect("the system's random source answers");
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_shape_and_differ() {
        let (one, two) = (uuid(), uuid());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        let dashes: Vec<_> = one.match_indices('-').map(|(place, _)| place).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
        assert_eq!(one.get(14..15), Some("4"));
    }
}
