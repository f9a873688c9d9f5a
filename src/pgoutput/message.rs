//! One logical message from its bytes: protocol version 1.
//!
//! Newer versions add tags (streamed and prepared transactions); they are not asked for, so they are refused by name
//! of their tag like any other unknown one.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::time::PgTime;
use crate::model::{Cell, Column, Lsn, OldRow, ReplicaIdentity, Row};
use crate::pgoutput::Malformed;
use crate::pgoutput::reader::Reader;

/// One message of the logical stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// `B`: a committed transaction starts.
    Begin { commit_lsn: Lsn, committed_at: PgTime, xid: u32 },
    /// `C`
    Commit { commit_lsn: Lsn, end_lsn: Lsn, committed_at: PgTime },
    /// `O`: the transaction was replicated to the source from elsewhere.
    Origin,
    /// `R`
    Relation(Description),
    /// `Y`: the name of a type that is not built in.
    Type { oid: u32, schema: Arc<str>, name: Arc<str> },
    /// `I`
    Insert { relation: u32, new: Row },
    /// `U`
    Update { relation: u32, old: OldRow, new: Row },
    /// `D`
    Delete { relation: u32, old: OldRow },
    /// `T`: one statement can empty several tables.
    Truncate { relations: Box<[u32]> },
    /// `M`: written by `pg_logical_emit_message`, in a transaction or outside of one.
    Logical { prefix: Arc<str>, content: Bytes },
}

/// What `R` says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) oid: u32,
    /// Empty for `pg_catalog`.
    pub(crate) schema: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) identity: ReplicaIdentity,
    pub(crate) columns: Box<[Column]>,
}

impl Message {
    /// Decodes a whole message; bytes left over are as wrong as bytes missing.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        let (name, message) = match reader.u8("message tag")? {
            b'I' => ("insert", insert(reader)?),
            b'U' => ("update", update(reader)?),
            b'D' => ("delete", delete(reader)?),
            b'B' => ("begin", begin(reader)?),
            b'C' => ("commit", commit(reader)?),
            b'R' => ("relation", Self::Relation(description(reader)?)),
            b'Y' => ("type", type_name(reader)?),
            b'T' => ("truncate", truncate(reader)?),
            b'O' => ("origin", origin(reader)?),
            b'M' => ("logical message", logical(reader)?),
            tag => return Err(Malformed::tag("message tag", "is unknown:", tag)),
        };
        reader.end(name)?;
        Ok(message)
    }
}

/// The content of `message`, when it was written by `pg_logical_emit_message` under `prefix`.
pub fn emitted(message: &Bytes, prefix: &str) -> Option<Bytes> {
    // Nearly all messages are rows.
    if message.first() != Some(&b'M') {
        return None;
    }
    match Message::decode(&mut Reader::new(message.clone())) {
        Ok(Message::Logical { prefix: found, content }) if &*found == prefix => Some(content),
        _ => None,
    }
}

fn begin(reader: &mut Reader) -> Result<Message, Malformed> {
    Ok(Message::Begin {
        commit_lsn: reader.lsn("begin position")?,
        committed_at: reader.time("begin time")?,
        xid: reader.u32("begin xid")?,
    })
}

fn commit(reader: &mut Reader) -> Result<Message, Malformed> {
    reader.u8("commit flags")?;
    Ok(Message::Commit {
        commit_lsn: reader.lsn("commit position")?,
        end_lsn: reader.lsn("commit end")?,
        committed_at: reader.time("commit time")?,
    })
}

fn origin(reader: &mut Reader) -> Result<Message, Malformed> {
    reader.lsn("origin position")?;
    reader.name("origin name")?;
    Ok(Message::Origin)
}

fn description(reader: &mut Reader) -> Result<Description, Malformed> {
    let oid = reader.u32("relation oid")?;
    let schema = reader.name("relation schema")?;
    let name = reader.name("relation name")?;
    let identity = match reader.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'i' => ReplicaIdentity::Index,
        b'f' => ReplicaIdentity::Full,
        b'n' => ReplicaIdentity::Nothing,
        tag => return Err(Malformed::tag("replica identity", "is unknown:", tag)),
    };
    let count = reader.count16("relation columns")?;
    let mut columns = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        columns.push(Column {
            is_key: reader.u8("column flags")? & 1 == 1,
            name: reader.name("column name")?,
            type_oid: reader.u32("column type")?,
            typmod: reader.i32("column type modifier")?,
        });
    }
    Ok(Description { oid, schema, name, identity, columns: columns.into_boxed_slice() })
}

fn type_name(reader: &mut Reader) -> Result<Message, Malformed> {
    Ok(Message::Type {
        oid: reader.u32("type oid")?,
        schema: reader.name("type schema")?,
        name: reader.name("type name")?,
    })
}

fn insert(reader: &mut Reader) -> Result<Message, Malformed> {
    let relation = reader.u32("insert relation")?;
    match reader.u8("insert row tag")? {
        b'N' => Ok(Message::Insert { relation, new: row(reader)? }),
        tag => Err(Malformed::tag("insert row tag", "is unknown:", tag)),
    }
}

fn update(reader: &mut Reader) -> Result<Message, Malformed> {
    let relation = reader.u32("update relation")?;
    let (old, tag) = match reader.u8("update row tag")? {
        b'K' => (OldRow::Key(row(reader)?), reader.u8("update new row tag")?),
        b'O' => (OldRow::Full(row(reader)?), reader.u8("update new row tag")?),
        tag => (OldRow::Absent, tag),
    };
    match tag {
        b'N' => Ok(Message::Update { relation, old, new: row(reader)? }),
        tag => Err(Malformed::tag("update row tag", "is unknown:", tag)),
    }
}

fn delete(reader: &mut Reader) -> Result<Message, Malformed> {
    let relation = reader.u32("delete relation")?;
    let old = match reader.u8("delete row tag")? {
        b'K' => OldRow::Key(row(reader)?),
        b'O' => OldRow::Full(row(reader)?),
        tag => return Err(Malformed::tag("delete row tag", "is unknown:", tag)),
    };
    Ok(Message::Delete { relation, old })
}

fn truncate(reader: &mut Reader) -> Result<Message, Malformed> {
    let count = reader.count32("truncate relations")?;
    reader.u8("truncate options")?;
    let mut relations = Vec::with_capacity(count.min(reader.remaining() / 4));
    for _ in 0..count {
        relations.push(reader.u32("truncate relation")?);
    }
    Ok(Message::Truncate { relations: relations.into_boxed_slice() })
}

fn logical(reader: &mut Reader) -> Result<Message, Malformed> {
    reader.u8("logical message flags")?;
    reader.lsn("logical message position")?;
    let prefix = reader.name("logical message prefix")?;
    let len = reader.count32("logical message length")?;
    Ok(Message::Logical { prefix, content: reader.take("logical message content", len)? })
}

fn row(reader: &mut Reader) -> Result<Row, Malformed> {
    let count = reader.count16("row columns")?;
    // An announced count is trusted no further than the bytes that are there: every cell takes at least one.
    let mut cells = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        cells.push(match reader.u8("cell tag")? {
            b't' => {
                let len = reader.count32("cell length")?;
                Cell::Text(reader.text("cell", len)?)
            }
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b'b' => return Err(Malformed::tag("cell tag", "is binary, text was asked for:", b'b')),
            tag => return Err(Malformed::tag("cell tag", "is unknown:", tag)),
        });
    }
    Ok(Row { cells: cells.into_boxed_slice() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        Message::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)))
    }

    #[test]
    fn null_unchanged_and_empty_are_three_different_cells() {
        let message = decode(b"I\0\0\0\x07N\0\x03nut\0\0\0\0").unwrap();
        let cells = [Cell::Null, Cell::Unchanged, Cell::Text(Bytes::new())];
        assert_eq!(message, Message::Insert { relation: 7, new: Row { cells: Box::new(cells) } });
    }

    #[test]
    fn unknown_messages_and_cells_are_named_by_their_tag() {
        let problem = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(problem(b"S"), "message tag is unknown: 'S'");
        assert_eq!(problem(b"\x01"), "message tag is unknown: '\\x01'");
        assert_eq!(
            problem(b"I\0\0\0\x07N\0\x01b\0\0\0\x01x"),
            "cell tag is binary, text was asked for: 'b'"
        );
        assert_eq!(problem(b"I\0\0\0\x07K\0\0"), "insert row tag is unknown: 'K'");
        assert_eq!(problem(b"D\0\0\0\x07N\0\0"), "delete row tag is unknown: 'N'");
        assert_eq!(problem(b"U\0\0\0\x07K\0\0O\0\0"), "update row tag is unknown: 'O'");
        assert_eq!(problem(b"R\0\0\0\x07\0t\0x\0\0"), "replica identity is unknown: 'x'");
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert_eq!(
            decode(b"I\0\0\0\x07N\0\x01n\0").unwrap_err().to_string(),
            "insert has bytes left over"
        );
    }

    #[test]
    fn a_huge_count_is_an_error_not_an_allocation() {
        assert!(decode(b"T\x7f\xff\xff\xff\0").is_err());
        assert!(decode(b"I\0\0\0\x07N\x7f\xff").is_err());
        assert!(decode(b"I\0\0\0\x07N\0\x01t\x7f\xff\xff\xff").is_err());
    }
}
