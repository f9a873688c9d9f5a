//! Begin … Commit → [`Transaction`]; remembers relations and types for one session.
//!
//! Promises: nothing comes out before its Commit; changes keep the order they were decoded in, each with the relation
//! as it was described when the change was made; memory held for one transaction is bounded.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Cell, Change, ChangeKind, OldRow, Relation, Row, Transaction};
use crate::pgoutput::Malformed;
use crate::pgoutput::message::{Description, Message};
use crate::pgoutput::reader::Reader;

/// Turns the messages of one session into committed transactions.
///
/// A new session (a reconnect) needs a new assembler: Postgres describes every relation again.
#[derive(Debug)]
pub struct Assembler {
    max_transaction_bytes: usize,
    generation: u64,
    relations: HashMap<u32, Arc<Relation>, foldhash::fast::FixedState>,
    types: HashMap<u32, TypeName>,
    open: Option<Open>,
    replaced_texts: u64,
}

/// Schema and name of a type that is not built in.
#[derive(Debug)]
struct TypeName {
    schema: Arc<str>,
    name: Arc<str>,
}

/// A transaction between Begin and Commit.
#[derive(Debug)]
struct Open {
    xid: u32,
    changes: Vec<Change>,
    size: usize,
    oversized: bool,
}

impl Assembler {
    /// `max_transaction_bytes` bounds the memory held for one transaction; above it the transaction comes out
    /// empty and marked oversized. `generation` continues the count of relation descriptions over sessions.
    pub fn new(max_transaction_bytes: usize, generation: u64) -> Self {
        Self {
            max_transaction_bytes,
            generation,
            relations: HashMap::default(),
            types: HashMap::new(),
            open: None,
            replaced_texts: 0,
        }
    }

    /// Takes one logical message; a transaction comes out at its Commit.
    ///
    /// # Errors
    /// Names the field that does not fit, or a message out of order. The session is not usable afterwards.
    pub fn push(&mut self, message: Bytes) -> Result<Option<Arc<Transaction>>, Malformed> {
        let mut reader = Reader::new(message);
        let message = Message::decode(&mut reader)?;
        self.replaced_texts += reader.replaced();
        match message {
            Message::Insert { relation, new } => {
                let relation = self.relation(relation)?;
                check(relation, &new)?;
                let relation = Arc::clone(relation);
                self.hold(Change { relation, kind: ChangeKind::Insert { new } })?;
            }
            Message::Update { relation, old, new } => {
                let relation = self.relation(relation)?;
                check_old(relation, &old)?;
                check(relation, &new)?;
                let relation = Arc::clone(relation);
                self.hold(Change { relation, kind: ChangeKind::Update { old, new } })?;
            }
            Message::Delete { relation, old } => {
                let relation = self.relation(relation)?;
                check_old(relation, &old)?;
                let relation = Arc::clone(relation);
                self.hold(Change { relation, kind: ChangeKind::Delete { old } })?;
            }
            Message::Truncate { relations } => {
                for oid in relations {
                    let relation = Arc::clone(self.relation(oid)?);
                    self.hold(Change { relation, kind: ChangeKind::Truncate })?;
                }
            }
            Message::Begin { xid } => self.begin(xid)?,
            Message::Commit { commit_lsn, end_lsn, committed_at } => {
                let Open { xid, changes, oversized, .. } =
                    self.open.take().ok_or(Malformed::new("commit", OUTSIDE))?;
                return Ok(Some(Arc::new(Transaction {
                    xid,
                    commit_lsn,
                    end_lsn,
                    committed_at,
                    changes,
                    oversized,
                })));
            }
            Message::Relation(description) => self.describe(description),
            Message::Type { oid, schema, name } => {
                self.types.insert(oid, TypeName { schema, name });
            }
            // Where a transaction was first committed is of no use to clients; nothing of it is kept, so nothing
            // of it can leak into the next transaction.
            Message::Origin => {
                self.open.as_ref().ok_or(Malformed::new("origin", OUTSIDE))?;
            }
            Message::Logical => (),
        }
        Ok(None)
    }

    /// Whether a transaction is open (an idle keepalive may not be confirmed then).
    pub const fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// The count of relation descriptions so far, for the next session.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How many texts were not UTF-8 and were replaced so far (the database has no encoding).
    pub const fn replaced_texts(&self) -> u64 {
        self.replaced_texts
    }

    /// Schema and name of a type that is not built in, as this session described it.
    pub fn type_name(&self, oid: u32) -> Option<(&str, &str)> {
        self.types.get(&oid).map(|name| (&*name.schema, &*name.name))
    }

    fn begin(&mut self, xid: u32) -> Result<(), Malformed> {
        if self.in_transaction() {
            return Err(Malformed::new("begin", "comes inside a transaction"));
        }
        self.open = Some(Open { xid, changes: Vec::new(), size: 0, oversized: false });
        Ok(())
    }

    fn describe(&mut self, description: Description) {
        let Description { oid, schema, name, identity, columns } = description;
        // Postgres shortens this one schema to save bytes.
        let schema = if schema.is_empty() { Arc::from("pg_catalog") } else { schema };
        self.generation += 1;
        let relation =
            Relation { oid, generation: self.generation, schema, name, identity, columns };
        self.relations.insert(oid, Arc::new(relation));
    }

    fn relation(&self, oid: u32) -> Result<&Arc<Relation>, Malformed> {
        self.relations.get(&oid).ok_or(Malformed::new("change", "is of a relation not described"))
    }

    /// Adds a change to the open transaction, or lets all of them go when it outgrows its memory.
    fn hold(&mut self, change: Change) -> Result<(), Malformed> {
        let open = self.open.as_mut().ok_or(Malformed::new("change", OUTSIDE))?;
        if open.oversized {
            return Ok(());
        }
        open.size = open.size.saturating_add(footprint(&change));
        if self.max_transaction_bytes < open.size {
            open.oversized = true;
            open.changes = Vec::new();
        } else {
            open.changes.push(change);
        }
        Ok(())
    }
}

const OUTSIDE: &str = "comes outside a transaction";

fn check(relation: &Relation, row: &Row) -> Result<(), Malformed> {
    if row.cells.len() == relation.columns.len() {
        Ok(())
    } else {
        Err(Malformed::new("row columns", "are not as many as the relation has"))
    }
}

fn check_old(relation: &Relation, old: &OldRow) -> Result<(), Malformed> {
    match old {
        OldRow::Absent => Ok(()),
        OldRow::Key(row) | OldRow::Full(row) => check(relation, row),
    }
}

/// Memory a change takes: its values and the boxes around them. A row of many nulls has boxes only.
fn footprint(change: &Change) -> usize {
    let cells = |old: &OldRow| match old {
        OldRow::Absent => 0,
        OldRow::Key(row) | OldRow::Full(row) => row.cells.len(),
    };
    let cells = match &change.kind {
        ChangeKind::Insert { new } => new.cells.len(),
        ChangeKind::Update { old, new } => cells(old) + new.cells.len(),
        ChangeKind::Delete { old } => cells(old),
        ChangeKind::Truncate => 0,
    };
    change.size() + cells * size_of::<Cell>()
}
