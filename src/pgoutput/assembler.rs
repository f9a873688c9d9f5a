//! Begin … Commit → [`Transaction`]; remembers relations and types for one session.
//!
//! Promises: nothing is complete before its Commit; changes keep the order they were decoded in, each with the relation
//! as it was described when the change was made; memory held here is bounded, because a large transaction comes out in
//! pieces. Whoever takes them shows none before the last one came.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::time::PgTime;
use crate::model::{Change, ChangeKind, Lsn, OldRow, Relation, Row, Transaction};
use crate::pgoutput::Malformed;
use crate::pgoutput::message::{Description, Message};
use crate::pgoutput::reader::Reader;

/// Turns the messages of one session into committed transactions.
///
/// A new session (a reconnect) needs a new assembler: Postgres describes every relation again.
#[derive(Debug)]
pub struct Assembler {
    piece_bytes: usize,
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
    commit_lsn: Lsn,
    committed_at: PgTime,
    first: u32,
    changes: Vec<Change>,
    size: usize,
}

impl Assembler {
    /// Of a transaction that takes more than `piece_bytes` of memory, pieces of that size come out before its Commit.
    /// `generation` continues the count of relation descriptions over sessions.
    pub fn new(piece_bytes: usize, generation: u64) -> Self {
        Self {
            piece_bytes,
            generation,
            relations: HashMap::default(),
            types: HashMap::new(),
            open: None,
            replaced_texts: 0,
        }
    }

    /// Takes one logical message; a transaction comes out at its Commit, a piece of a large one when it is full.
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
                return Ok(self.full());
            }
            Message::Update { relation, old, new } => {
                let relation = self.relation(relation)?;
                check_old(relation, &old)?;
                check(relation, &new)?;
                let relation = Arc::clone(relation);
                self.hold(Change { relation, kind: ChangeKind::Update { old, new } })?;
                return Ok(self.full());
            }
            Message::Delete { relation, old } => {
                let relation = self.relation(relation)?;
                check_old(relation, &old)?;
                let relation = Arc::clone(relation);
                self.hold(Change { relation, kind: ChangeKind::Delete { old } })?;
                return Ok(self.full());
            }
            Message::Truncate { relations } => {
                for oid in relations {
                    let relation = Arc::clone(self.relation(oid)?);
                    self.hold(Change { relation, kind: ChangeKind::Truncate })?;
                }
            }
            Message::Begin { commit_lsn, committed_at, xid } => {
                self.begin(commit_lsn, committed_at, xid)?;
            }
            Message::Commit { commit_lsn, end_lsn, .. } => {
                let open = self.open.take().ok_or(Malformed::new("commit", OUTSIDE))?;
                // Pieces are on their way under the position that Begin announced.
                if open.commit_lsn != commit_lsn {
                    return Err(Malformed::new(
                        "commit position",
                        "is not the one that begin told",
                    ));
                }
                return Ok(Some(Arc::new(open.into_piece(Some(end_lsn)))));
            }
            Message::Relation(description) => self.describe(description),
            // A domain is described by the name of the type it is based on.
            Message::Type { oid, schema, name } => {
                self.types.insert(oid, TypeName { schema: in_full(schema), name });
            }
            // Where a transaction was first committed is of no use to clients; nothing of it is kept, so nothing
            // of it can leak into the next transaction.
            Message::Origin => {
                self.open.as_ref().ok_or(Malformed::new("origin", OUTSIDE))?;
            }
            Message::Logical { .. } => (),
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

    fn begin(&mut self, commit_lsn: Lsn, committed_at: PgTime, xid: u32) -> Result<(), Malformed> {
        if self.in_transaction() {
            return Err(Malformed::new("begin", "comes inside a transaction"));
        }
        self.open =
            Some(Open { xid, commit_lsn, committed_at, first: 0, changes: Vec::new(), size: 0 });
        Ok(())
    }

    fn describe(&mut self, description: Description) {
        let Description { oid, schema, name, identity, columns } = description;
        self.generation += 1;
        let (generation, schema) = (self.generation, in_full(schema));
        let relation = Relation { oid, generation, schema, name, identity, columns };
        self.relations.insert(oid, Arc::new(relation));
    }

    fn relation(&self, oid: u32) -> Result<&Arc<Relation>, Malformed> {
        self.relations.get(&oid).ok_or(Malformed::new("change", "is of a relation not described"))
    }

    /// Adds a change to the open transaction.
    fn hold(&mut self, change: Change) -> Result<(), Malformed> {
        let open = self.open.as_mut().ok_or(Malformed::new("change", OUTSIDE))?;
        open.size = open.size.saturating_add(change.footprint());
        open.changes.push(change);
        Ok(())
    }

    /// What the open transaction has so far, when that is a piece.
    fn full(&mut self) -> Option<Arc<Transaction>> {
        let open = self.open.as_mut().filter(|open| self.piece_bytes < open.size)?;
        let count = u32::try_from(open.changes.len()).unwrap_or(u32::MAX);
        let next =
            Open { first: open.first.saturating_add(count), changes: Vec::new(), size: 0, ..*open };
        Some(Arc::new(std::mem::replace(open, next).into_piece(None)))
    }
}

impl Open {
    /// The changes held as a piece; the last one when the commit's end is known.
    fn into_piece(self, end: Option<Lsn>) -> Transaction {
        Transaction {
            xid: self.xid,
            commit_lsn: self.commit_lsn,
            end_lsn: end.unwrap_or_default(),
            committed_at: self.committed_at,
            first: self.first,
            changes: self.changes,
            is_last: end.is_some(),
            oversized: false,
        }
    }
}

const OUTSIDE: &str = "comes outside a transaction";

/// Postgres leaves out the name of this one schema to save bytes.
fn in_full(schema: Arc<str>) -> Arc<str> {
    if schema.is_empty() { Arc::from("pg_catalog") } else { schema }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes messages given as byte strings; the last transaction that came out.
    fn push(assembler: &mut Assembler, messages: &[&[u8]]) -> Result<Transaction, Malformed> {
        let mut last = None;
        for message in messages {
            last = assembler.push(Bytes::copy_from_slice(message))?.or(last);
        }
        Ok((*last.expect("a transaction")).clone())
    }

    fn problem(messages: &[&[u8]]) -> String {
        push(&mut Assembler::new(1 << 20, 0), messages).unwrap_err().to_string()
    }

    const BEGIN: &[u8] = b"B\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\x2a";
    const COMMIT: &[u8] = b"C\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\0";
    const TABLE: &[u8] = b"R\0\0\0\x07s\0t\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
    const INSERT: &[u8] = b"I\0\0\0\x07N\0\x01t\0\0\0\x011";
    const ORIGIN: &[u8] = b"O\0\0\0\0\0\0\0\x01o\0";
    const TRUNCATE: &[u8] = b"T\0\0\0\x02\0\0\0\0\x07\0\0\0\x07";

    #[test]
    fn nothing_comes_out_before_its_commit() {
        let mut assembler = Assembler::new(1 << 20, 0);
        for message in [BEGIN, TABLE, INSERT] {
            assert_eq!(assembler.push(Bytes::from_static(message)), Ok(None));
            assert!(assembler.in_transaction());
        }
        let transaction = assembler.push(Bytes::from_static(COMMIT)).unwrap().unwrap();
        assert!(!assembler.in_transaction());
        assert_eq!((transaction.xid, transaction.changes.len()), (42, 1));
        assert_eq!((transaction.commit_lsn.bytes(), transaction.end_lsn.bytes()), (0x10, 0x20));
    }

    #[test]
    fn messages_out_of_order_are_refused() {
        assert_eq!(problem(&[BEGIN, BEGIN]), "begin comes inside a transaction");
        assert_eq!(problem(&[COMMIT]), "commit comes outside a transaction");
        assert_eq!(problem(&[BEGIN, COMMIT, COMMIT]), "commit comes outside a transaction");
        assert_eq!(problem(&[TABLE, INSERT]), "change comes outside a transaction");
        assert_eq!(problem(&[TABLE, TRUNCATE]), "change comes outside a transaction");
        assert_eq!(problem(&[ORIGIN]), "origin comes outside a transaction");
        assert_eq!(problem(&[BEGIN, INSERT]), "change is of a relation not described");
        assert_eq!(problem(&[BEGIN, TRUNCATE]), "change is of a relation not described");
    }

    #[test]
    fn a_row_must_have_as_many_columns_as_its_relation() {
        for row in [
            b"I\0\0\0\x07N\0\x02nn".as_slice(),
            b"I\0\0\0\x07N\0\0",
            b"D\0\0\0\x07K\0\x02nn",
            b"U\0\0\0\x07O\0\0N\0\x01n",
            b"U\0\0\0\x07O\0\x01nN\0\0",
        ] {
            assert_eq!(
                problem(&[BEGIN, TABLE, row]),
                "row columns are not as many as the relation has"
            );
        }
    }

    #[test]
    fn a_large_transaction_comes_out_in_pieces() {
        let whole = push(&mut Assembler::new(1 << 20, 0), &[BEGIN, TABLE, INSERT, COMMIT]).unwrap();
        let one = whole.changes[0].footprint();
        let mut assembler = Assembler::new(2 * one, 0);
        let messages = [&[BEGIN, TABLE][..], &[INSERT; 7], &[COMMIT, BEGIN, INSERT, COMMIT]];
        let mut pieces = Vec::new();
        for message in messages.concat() {
            let piece = assembler.push(Bytes::from_static(message)).unwrap();
            pieces.extend(piece.map(|piece| {
                assert_eq!((piece.xid, piece.commit_lsn), (whole.xid, whole.commit_lsn));
                assert_eq!(piece.is_last, piece.end_lsn == whole.end_lsn);
                (piece.first, piece.changes.len(), piece.is_last)
            }));
        }
        assert_eq!(pieces, [(0, 3, false), (3, 3, false), (6, 1, true), (0, 1, true)]);
    }

    #[test]
    fn a_commit_is_where_its_begin_said() {
        const ELSEWHERE: &[u8] = b"C\0\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\0";
        let told = problem(&[BEGIN, TABLE, INSERT, ELSEWHERE]);
        assert_eq!(told, "commit position is not the one that begin told");
    }

    #[test]
    fn a_row_of_nulls_has_a_size() {
        let many: Vec<u8> = [b"I\0\0\0\x07N\x04\0".as_slice(), &[b'n'; 1024]].concat();
        let table: Vec<u8> = [b"R\0\0\0\x07\0t\0n\x04\0".as_slice()]
            .into_iter()
            .chain(std::iter::repeat_n(b"\0c\0\0\0\0\x17\xff\xff\xff\xff".as_slice(), 1024))
            .flatten()
            .copied()
            .collect();
        let mut assembler = Assembler::new(1024 * size_of::<crate::model::Cell>(), 0);
        let piece = push(&mut assembler, &[BEGIN, &table, &many]).unwrap();
        assert!(!piece.is_last);
    }

    #[test]
    fn the_count_of_descriptions_goes_on_over_sessions() {
        let mut first = Assembler::new(1 << 20, 0);
        push(&mut first, &[BEGIN, TABLE, TABLE, COMMIT]).unwrap();
        let mut second = Assembler::new(1 << 20, first.generation());
        assert_eq!(
            push(&mut second, &[BEGIN, INSERT]).unwrap_err().to_string(),
            "change is of a relation not described"
        );
        let mut third = Assembler::new(1 << 20, second.generation());
        let transaction = push(&mut third, &[BEGIN, TABLE, INSERT, COMMIT]).unwrap();
        assert_eq!(transaction.changes[0].relation.generation, 3);
    }

    #[test]
    fn a_schema_without_a_name_is_pg_catalog() {
        let mut assembler = Assembler::new(1 << 20, 0);
        let table = b"R\0\0\0\x07\0t\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
        let transaction = push(&mut assembler, &[BEGIN, table, INSERT, COMMIT]).unwrap();
        assert_eq!(&*transaction.changes[0].relation.schema, "pg_catalog");
    }

    #[test]
    fn text_that_is_not_utf8_is_counted_and_does_not_stop_the_stream() {
        let mut assembler = Assembler::new(1 << 20, 0);
        let latin = b"I\0\0\0\x07N\0\x01t\0\0\0\x01\xe9";
        let transaction = push(&mut assembler, &[BEGIN, TABLE, latin, COMMIT]).unwrap();
        let cell = transaction.changes[0].subject().unwrap().cell(0).unwrap();
        assert_eq!((cell.text(), assembler.replaced_texts()), (Some("\u{fffd}"), 1));
    }
}
