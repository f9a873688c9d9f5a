//! One row changed, and the transaction it committed in.

use std::sync::Arc;

use super::time::PgTime;
use super::{Cell, Lsn, OldRow, Relation, Row};

/// The changes of one commit, in the order they were made, or a piece of them when they are many.
///
/// Only committed transactions reach readers. A large one comes as several pieces, one right behind the other: each
/// says which of the transaction's changes is its first, and the last one says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The 32-bit transaction id of the WAL; Postgres widens it when asked about visibility.
    pub xid: u32,
    /// Where the commit record starts: what ids are made of.
    pub commit_lsn: Lsn,
    /// Where the commit record ends: what may be confirmed to Postgres, exactly. Zero in pieces before the last.
    pub end_lsn: Lsn,
    /// When it committed, by the server's clock.
    pub committed_at: PgTime,
    /// The index of the first of `changes` in the transaction.
    pub first: u32,
    /// Its changes; empty when [`Transaction::oversized`] is set.
    pub changes: Vec<Change>,
    /// Nothing of the transaction follows.
    pub is_last: bool,
    /// The transaction outgrew what the log may hold and its changes were let go: readers must announce a gap.
    pub oversized: bool,
}

impl Transaction {
    /// The same without its changes.
    #[must_use]
    pub const fn clone_head(&self) -> Self {
        Self { changes: Vec::new(), ..*self }
    }

    /// Memory it takes, in bytes, roughly.
    pub fn footprint(&self) -> usize {
        128 + self.changes.iter().map(Change::footprint).sum::<usize>()
    }
}

/// One row inserted, updated or deleted, or one table truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table, as it was described for this change.
    pub relation: Arc<Relation>,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new row.
    Insert {
        /// The row.
        new: Row,
    },
    /// A changed row.
    Update {
        /// The row before, as far as the replica identity tells.
        old: OldRow,
        /// The row after.
        new: Row,
    },
    /// A removed row.
    Delete {
        /// The row before, as far as the replica identity tells.
        old: OldRow,
    },
    /// The table was emptied. Counts as a change for ids; never delivered as a row event.
    Truncate,
}

/// The row events a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Event {
    /// The word used on the wire and in SQL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

impl Change {
    /// The row event this change is, if clients can ask for it.
    pub const fn event(&self) -> Option<Event> {
        match self.kind {
            ChangeKind::Insert { .. } => Some(Event::Insert),
            ChangeKind::Update { .. } => Some(Event::Update),
            ChangeKind::Delete { .. } => Some(Event::Delete),
            ChangeKind::Truncate => None,
        }
    }

    /// The row after the change, or before it for a DELETE: what filters look at.
    pub const fn subject(&self) -> Option<&Row> {
        match &self.kind {
            ChangeKind::Insert { new } | ChangeKind::Update { new, .. } => Some(new),
            ChangeKind::Delete { old: OldRow::Full(row) | OldRow::Key(row) } => Some(row),
            ChangeKind::Delete { old: OldRow::Absent } | ChangeKind::Truncate => None,
        }
    }

    /// Memory it takes: its values and the boxes around them. A row of many nulls has boxes only.
    pub fn footprint(&self) -> usize {
        let cells = |old: &OldRow| match old {
            OldRow::Absent => 0,
            OldRow::Key(row) | OldRow::Full(row) => row.cells.len(),
        };
        let cells = match &self.kind {
            ChangeKind::Insert { new } => new.cells.len(),
            ChangeKind::Update { old, new } => cells(old) + new.cells.len(),
            ChangeKind::Delete { old } => cells(old),
            ChangeKind::Truncate => 0,
        };
        self.size() + cells * size_of::<Cell>()
    }

    /// Memory its values take, in bytes, roughly.
    pub fn size(&self) -> usize {
        let of_old = |old: &OldRow| match old {
            OldRow::Absent => 0,
            OldRow::Key(row) | OldRow::Full(row) => row.size(),
        };
        64 + match &self.kind {
            ChangeKind::Insert { new } => new.size(),
            ChangeKind::Update { old, new } => of_old(old) + new.size(),
            ChangeKind::Delete { old } => of_old(old),
            ChangeKind::Truncate => 0,
        }
    }
}
