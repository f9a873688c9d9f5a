//! Cells and rows. Null, unchanged and absent are three different things, from the WAL to the frame.

use bytes::Bytes;

/// One column's value in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL null.
    Null,
    /// A TOASTed value the update did not touch, so Postgres did not send it.
    Unchanged,
    /// The value in Postgres' own text form, valid UTF-8 (the decoder checks it).
    Text(Bytes),
}

impl Cell {
    /// The text, when there is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Unchanged => None,
        }
    }

    /// This cell, or the old row's when this one was not sent.
    #[must_use]
    pub fn or_old(self, old: Option<&Self>) -> Self {
        match (self, old) {
            (Self::Unchanged, Some(old)) => old.clone(),
            (cell, _) => cell,
        }
    }
}

/// Cells in the order of the relation's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// One cell per column of the relation.
    pub cells: Box<[Cell]>,
}

impl Row {
    /// The cell of column `index`, when the row is that long.
    pub fn cell(&self, index: usize) -> Option<&Cell> {
        self.cells.get(index)
    }

    /// Memory the row's values take, in bytes (not counting the boxes).
    pub fn size(&self) -> usize {
        let text = |cell: &Cell| if let Cell::Text(bytes) = cell { bytes.len() } else { 0 };
        self.cells.iter().map(text).sum()
    }
}

/// What the WAL says of a row before an UPDATE or DELETE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldRow {
    /// Nothing was sent: the key did not change.
    Absent,
    /// Only the columns of the replica identity; the others are [`Cell::Null`] and mean nothing.
    Key(Row),
    /// The whole row (replica identity FULL).
    Full(Row),
}

impl OldRow {
    /// The whole old row, when there is one.
    pub fn full(&self) -> Option<&Row> {
        if let Self::Full(row) = self { Some(row) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_cell_is_filled_from_the_old_row() {
        let old = Cell::Text(Bytes::from_static(b"long"));
        assert_eq!(Cell::Unchanged.or_old(Some(&old)), old);
        assert_eq!(Cell::Unchanged.or_old(None), Cell::Unchanged);
        assert_eq!(Cell::Null.or_old(Some(&old)), Cell::Null);
    }
}
