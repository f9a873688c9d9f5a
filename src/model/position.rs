//! An event's id, and a reader's place in the change log.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_epoch_commit_and_index() {
        let position = Position { epoch: Epoch::new(0xabc), commit_lsn: Lsn::new(0x10), index: 3 };
        assert_eq!(position.to_string(), "abc:0000000000000010:3");
    }
}
