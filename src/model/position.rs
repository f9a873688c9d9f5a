//! An event's id, and a reader's place in the change log.

use std::fmt;
use std::str::FromStr;

use super::Lsn;

/// The life of a log. A new one means that history was lost; positions of different epochs do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Wraps an epoch number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Epoch, commit LSN and index of the change in its transaction: a pure function of the WAL.
///
/// The index counts every row change of the transaction in decode order, before any filter, so an id does not
/// move when options or subscribers change. LSNs of single changes are not ids: rows of one COPY share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Where the transaction committed.
    pub commit_lsn: Lsn,
    /// Which change of the transaction, from 0.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}:{}", self.epoch, self.commit_lsn.bytes(), self.index)
    }
}

/// After what a reader wants to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this change.
    After(Position),
    /// It said something that is no position.
    Unreadable,
}

impl Since {
    /// Reads what a client wrote.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or(Self::Unreadable, Self::After)
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let mut parts = text.split(':');
        let (Some(epoch), Some(commit), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParsePositionError);
        };
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(epoch) || !is_hex(commit) || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParsePositionError);
        }
        let hex = |text| u64::from_str_radix(text, 16).map_err(|_| ParsePositionError);
        let index = index.parse().map_err(|_| ParsePositionError)?;
        Ok(Self { epoch: Epoch(hex(epoch)?), commit_lsn: Lsn::new(hex(commit)?), index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints_and_nothing_else() {
        let position = Position { epoch: Epoch::new(0xabc), commit_lsn: Lsn::new(0x10), index: 3 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "1:2", "1:2:3:4", "x:2:3", "1:+2:3", "1:2:", "1:2:x", "1::3", "1:2:-3"] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }

    #[test]
    fn prints_epoch_commit_and_index() {
        let position = Position { epoch: Epoch::new(0xabc), commit_lsn: Lsn::new(0x10), index: 3 };
        assert_eq!(position.to_string(), "abc:0000000000000010:3");
    }
}
