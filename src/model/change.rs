//! One row changed, and the transaction it committed in.

use std::sync::Arc;

use super::time::PgTime;
use super::{Lsn, OldRow, Relation, Row};

/// The changes of one commit, in the order they were made. Only committed transactions become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The 32-bit transaction id of the WAL; Postgres widens it when asked about visibility.
    pub xid: u32,
    /// Where the commit record starts: what ids are made of.
    pub commit_lsn: Lsn,
    /// Where the commit record ends: what may be confirmed to Postgres, exactly.
    pub end_lsn: Lsn,
    /// When it committed, by the server's clock.
    pub committed_at: PgTime,
    /// Its changes; empty when [`Transaction::oversized`] is set.
    pub changes: Vec<Change>,
    /// The transaction outgrew the configured memory and its changes were let go: readers must announce a gap.
    pub oversized: bool,
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
