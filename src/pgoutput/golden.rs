//! Real streams of a Postgres 15, and what they mean: `tests/golden/pgoutput/*.txt`.
//!
//! A file is the SQL that was run, the messages that came of it, `----`, and the transactions they make. Everything
//! but the SQL and the bytes is written by this test when `UPDATE_GOLDEN` is set; otherwise it is compared.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::model::{Cell, Change, ChangeKind, OldRow, Relation, ReplicaIdentity, Row, Transaction};
use crate::pgoutput::Assembler;
use crate::pgoutput::message::Message;
use crate::pgoutput::reader::Reader;

const BYTES_A_LINE: usize = 32;

/// One golden file.
pub(crate) struct Golden {
    path: PathBuf,
    text: String,
    sql: String,
    pub(crate) messages: Vec<Bytes>,
}

/// Every golden file, by name.
pub(crate) fn all() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pgoutput");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(Golden::read).collect()
}

impl Golden {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let (mut sql, mut messages) = (String::new(), Vec::<Vec<u8>>::new());
        for line in text.lines().take_while(|line| *line != "----") {
            if line.starts_with('#') {
                sql.push_str(line);
                sql.push('\n');
                continue;
            }
            let indented = line.starts_with("  ");
            let hex = line.trim_start().split("  ").next().unwrap_or_default();
            let bytes = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap());
            match messages.last_mut() {
                Some(message) if indented => message.extend(bytes),
                _ => messages.push(bytes.collect()),
            }
        }
        let messages = messages.into_iter().map(Bytes::from).collect();
        Self { path, text, sql, messages }
    }

    /// The file as it should be.
    fn written(&self) -> String {
        let mut out = self.sql.clone();
        for message in &self.messages {
            for (index, bytes) in message.chunks(BYTES_A_LINE).enumerate() {
                let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
                let hex = hex.join(" ");
                match index {
                    0 => writeln!(out, "{hex:36}  {}", label(message)).unwrap(),
                    _ => writeln!(out, "  {hex}").unwrap(),
                }
            }
        }
        out.push_str("----\n");
        let mut assembler = Assembler::new(usize::MAX, 0);
        for message in &self.messages {
            if let Some(transaction) = assembler.push(message.clone()).unwrap() {
                push_transaction(&mut out, &transaction, &assembler);
            }
        }
        out
    }
}

fn label(message: &Bytes) -> String {
    match Message::decode(&mut Reader::new(message.clone())).unwrap() {
        Message::Begin { xid, .. } => format!("begin xid {xid}"),
        Message::Commit { commit_lsn, .. } => format!("commit {commit_lsn}"),
        Message::Origin => "origin".to_owned(),
        Message::Relation(relation) => format!("relation {}", relation.name),
        Message::Type { name, .. } => format!("type {name}"),
        Message::Insert { .. } => "insert".to_owned(),
        Message::Update { .. } => "update".to_owned(),
        Message::Delete { .. } => "delete".to_owned(),
        Message::Truncate { .. } => "truncate".to_owned(),
        Message::Logical { .. } => "logical message".to_owned(),
    }
}

fn push_transaction(out: &mut String, transaction: &Transaction, assembler: &Assembler) {
    let Transaction { xid, commit_lsn, end_lsn, committed_at, changes, .. } = transaction;
    writeln!(out, "transaction {commit_lsn} to {end_lsn} xid {xid} at {committed_at}").unwrap();
    for change in changes {
        push_change(out, change, assembler);
    }
}

fn push_change(out: &mut String, change: &Change, assembler: &Assembler) {
    let relation = &*change.relation;
    let identity = match relation.identity {
        ReplicaIdentity::Default => "default",
        ReplicaIdentity::Index => "index",
        ReplicaIdentity::Full => "full",
        ReplicaIdentity::Nothing => "nothing",
    };
    let verb = match &change.kind {
        ChangeKind::Insert { .. } => "insert",
        ChangeKind::Update { .. } => "update",
        ChangeKind::Delete { .. } => "delete",
        ChangeKind::Truncate => "truncate",
    };
    let Relation { schema, name, generation, .. } = relation;
    writeln!(out, "  {verb} {schema}.{name} identity {identity} generation {generation}").unwrap();
    match &change.kind {
        ChangeKind::Insert { new } => push_row(out, "new", relation, new, assembler),
        ChangeKind::Update { old, new } => {
            push_old(out, relation, old, assembler);
            push_row(out, "new", relation, new, assembler);
        }
        ChangeKind::Delete { old } => push_old(out, relation, old, assembler),
        ChangeKind::Truncate => (),
    }
}

fn push_old(out: &mut String, relation: &Relation, old: &OldRow, assembler: &Assembler) {
    match old {
        OldRow::Absent => out.push_str("    old absent\n"),
        OldRow::Key(row) => push_row(out, "old key", relation, row, assembler),
        OldRow::Full(row) => push_row(out, "old full", relation, row, assembler),
    }
}

fn push_row(out: &mut String, what: &str, relation: &Relation, row: &Row, assembler: &Assembler) {
    writeln!(out, "    {what}").unwrap();
    for (column, cell) in relation.columns.iter().zip(&row.cells) {
        let key = if column.is_key { "*" } else { "" };
        let type_name = match assembler.type_name(column.type_oid) {
            Some((schema, name)) => format!("{schema}.{name}"),
            None => column.type_oid.to_string(),
        };
        let value = match cell {
            Cell::Null => "null".to_owned(),
            Cell::Unchanged => "unchanged".to_owned(),
            Cell::Text(bytes) if 80 < bytes.len() => format!("text of {} bytes", bytes.len()),
            Cell::Text(_) => format!("text {:?}", cell.text().unwrap()),
        };
        writeln!(out, "      {}{key} {type_name}  {value}", column.name).unwrap();
    }
}

#[test]
fn real_streams_mean_what_the_golden_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let goldens = all();
    assert!(20 < goldens.len());
    for golden in goldens {
        let written = golden.written();
        if update {
            fs::write(&golden.path, written).unwrap();
        } else {
            assert_eq!(golden.text, written, "{}", golden.path.display());
        }
    }
}
