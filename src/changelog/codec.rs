//! A piece of a transaction ⇄ bytes. Pure and total: bytes that make no sense are refused, never guessed.
//!
//! ```text
//! piece      version u8 · flags u8 (1 last, 2 oversized) · xid u32 · commit u64 · end u64 · time i64
//!            · first u32 · changes u32 · newest relation u64
//!            · count, then each relation: length, oid u32, generation u64, identity u8, schema, name,
//!              count, then each column: key u8, type u32, typmod i32, name
//!            · each change: kind u8, relation, rows
//! row        count, then each cell: 0 null, 1 unchanged, n+2 a text of n bytes
//! ```
//!
//! Numbers with a width are little-endian; counts, lengths and places are LEB128; a name is its length and its bytes.
//! A piece holds every relation it names, so it can be read without the ones before it. Checksums are the segment's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::Place;
use crate::model::time::PgTime;
use crate::model::{
    Cell, Change, ChangeKind, Column, Lsn, OldRow, Relation, ReplicaIdentity, Row, Transaction,
};

const VERSION: u8 = 1;
const LAST: u8 = 1;
const OVERSIZED: u8 = 2;

/// The bytes are not of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// What every piece begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) xid: u32,
    pub(super) commit_lsn: Lsn,
    pub(super) end_lsn: Lsn,
    pub(super) committed_at: PgTime,
    pub(super) first: u32,
    pub(super) count: u32,
    /// The highest generation of its relations.
    pub(super) generation: u64,
    pub(super) is_last: bool,
    pub(super) oversized: bool,
}

impl Head {
    /// The place of the piece's last change.
    pub(super) const fn last(&self) -> Place {
        Place::last(self.commit_lsn, self.first, self.count, self.oversized)
    }
}

/// Appends `piece` to `out`.
pub fn encode(piece: &Transaction, out: &mut Vec<u8>) {
    let mut places: HashMap<*const Relation, u64> = HashMap::new();
    let mut relations: Vec<&Relation> = Vec::new();
    for change in &piece.changes {
        places.entry(Arc::as_ptr(&change.relation)).or_insert_with(|| {
            relations.push(&change.relation);
            relations.len() as u64 - 1
        });
    }
    let flags = if piece.is_last { LAST } else { 0 } | if piece.oversized { OVERSIZED } else { 0 };
    out.put_u8(VERSION);
    out.put_u8(flags);
    out.put_u32_le(piece.xid);
    out.put_u64_le(piece.commit_lsn.bytes());
    out.put_u64_le(piece.end_lsn.bytes());
    out.put_i64_le(piece.committed_at.pg_micros());
    out.put_u32_le(piece.first);
    out.put_u32_le(u32::try_from(piece.changes.len()).unwrap_or(u32::MAX));
    out.put_u64_le(relations.iter().map(|relation| relation.generation).max().unwrap_or(0));
    put_number(out, relations.len() as u64);
    let mut described = Vec::new();
    for relation in relations {
        described.clear();
        put_relation(&mut described, relation);
        put_name(out, &described);
    }
    for change in &piece.changes {
        let place = places.get(&Arc::as_ptr(&change.relation)).copied().unwrap_or_default();
        put_change(out, change, place);
    }
}

/// How many bytes a piece will take, roughly: names of relations are not counted.
pub(super) fn length(piece: &Transaction) -> usize {
    let row = |row: &Row| 2 * row.cells.len() + row.size() + 1;
    let old = |old: &OldRow| match old {
        OldRow::Absent => 0,
        OldRow::Key(old) | OldRow::Full(old) => row(old),
    };
    let of = |change: &Change| match &change.kind {
        ChangeKind::Insert { new } => row(new),
        ChangeKind::Update { old: before, new } => old(before) + row(new),
        ChangeKind::Delete { old: before } => old(before),
        ChangeKind::Truncate => 0,
    };
    64 + piece.changes.iter().map(|change| 2 + of(change)).sum::<usize>()
}

fn put_relation(out: &mut Vec<u8>, relation: &Relation) {
    out.put_u32_le(relation.oid);
    out.put_u64_le(relation.generation);
    out.put_u8(match relation.identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Index => b'i',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Nothing => b'n',
    });
    put_name(out, relation.schema.as_bytes());
    put_name(out, relation.name.as_bytes());
    put_number(out, relation.columns.len() as u64);
    for column in &relation.columns {
        out.put_u8(u8::from(column.is_key));
        out.put_u32_le(column.type_oid);
        out.put_i32_le(column.typmod);
        put_name(out, column.name.as_bytes());
    }
}

fn put_change(out: &mut Vec<u8>, change: &Change, relation: u64) {
    let (kind, old, new) = match &change.kind {
        ChangeKind::Insert { new } => (b'I', None, Some(new)),
        ChangeKind::Update { old: OldRow::Absent, new } => (b'u', None, Some(new)),
        ChangeKind::Update { old: OldRow::Key(old), new } => (b'k', Some(old), Some(new)),
        ChangeKind::Update { old: OldRow::Full(old), new } => (b'U', Some(old), Some(new)),
        ChangeKind::Delete { old: OldRow::Absent } => (b'x', None, None),
        ChangeKind::Delete { old: OldRow::Key(old) } => (b'd', Some(old), None),
        ChangeKind::Delete { old: OldRow::Full(old) } => (b'D', Some(old), None),
        ChangeKind::Truncate => (b'T', None, None),
    };
    out.put_u8(kind);
    put_number(out, relation);
    for row in old.into_iter().chain(new) {
        put_number(out, row.cells.len() as u64);
        for cell in &row.cells {
            match cell {
                Cell::Null => out.put_u8(0),
                Cell::Unchanged => out.put_u8(1),
                Cell::Text(text) => {
                    put_number(out, text.len() as u64 + 2);
                    out.put_slice(text);
                }
            }
        }
    }
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    put_number(out, name.len() as u64);
    out.put_slice(name);
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8((number & 0x7f) as u8);
}

/// Turns bytes back into pieces. Remembers relations, so that those of one table are one allocation.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<Bytes, Arc<Relation>>,
}

/// Relations remembered by one decoder; then all are forgotten.
const REMEMBERED: usize = 1024;

impl Decoder {
    /// Reads a whole piece. Its texts share `bytes`.
    ///
    /// # Errors
    /// The bytes are not what [`encode`] writes.
    pub fn decode(&mut self, bytes: Bytes) -> Result<Transaction, Nonsense> {
        let mut rest = bytes;
        let head = Head::take(&mut rest)?;
        let count = count_of(&mut rest)?;
        let mut relations = Vec::with_capacity(count);
        for _ in 0..count {
            let described = bytes_of(&mut rest)?;
            relations.push(self.relation(described)?);
        }
        let count = usize::try_from(head.count).unwrap_or(usize::MAX);
        // A change takes two bytes or more.
        if rest.len() / 2 < count {
            return Err(Nonsense);
        }
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            changes.push(change(&mut rest, &relations)?);
        }
        let Head { xid, commit_lsn, end_lsn, committed_at, first, is_last, oversized, .. } = head;
        let piece = Transaction {
            xid,
            commit_lsn,
            end_lsn,
            committed_at,
            first,
            changes,
            is_last,
            oversized,
        };
        if rest.is_empty() { Ok(piece) } else { Err(Nonsense) }
    }

    fn relation(&mut self, described: Bytes) -> Result<Arc<Relation>, Nonsense> {
        if let Some(known) = self.relations.get(&described) {
            return Ok(Arc::clone(known));
        }
        let relation = Arc::new(relation(described.clone())?);
        if REMEMBERED <= self.relations.len() {
            self.relations.clear();
        }
        // A copy: the bytes it was found in may be a megabyte.
        self.relations.insert(Bytes::copy_from_slice(&described), Arc::clone(&relation));
        Ok(relation)
    }
}

impl Head {
    /// Reads the beginning of a piece.
    ///
    /// # Errors
    /// Too short, or of another version.
    pub(super) fn take(bytes: &mut Bytes) -> Result<Self, Nonsense> {
        let version = bytes.try_get_u8().map_err(short)?;
        let flags = bytes.try_get_u8().map_err(short)?;
        if version != VERSION || flags & !(LAST | OVERSIZED) != 0 {
            return Err(Nonsense);
        }
        Ok(Self {
            xid: bytes.try_get_u32_le().map_err(short)?,
            commit_lsn: Lsn::new(bytes.try_get_u64_le().map_err(short)?),
            end_lsn: Lsn::new(bytes.try_get_u64_le().map_err(short)?),
            committed_at: PgTime::from_pg_micros(bytes.try_get_i64_le().map_err(short)?),
            first: bytes.try_get_u32_le().map_err(short)?,
            count: bytes.try_get_u32_le().map_err(short)?,
            generation: bytes.try_get_u64_le().map_err(short)?,
            is_last: flags & LAST != 0,
            oversized: flags & OVERSIZED != 0,
        })
    }
}

fn relation(mut bytes: Bytes) -> Result<Relation, Nonsense> {
    let oid = bytes.try_get_u32_le().map_err(short)?;
    let generation = bytes.try_get_u64_le().map_err(short)?;
    let identity = match bytes.try_get_u8().map_err(short)? {
        b'd' => ReplicaIdentity::Default,
        b'i' => ReplicaIdentity::Index,
        b'f' => ReplicaIdentity::Full,
        b'n' => ReplicaIdentity::Nothing,
        _ => return Err(Nonsense),
    };
    let (schema, name) = (text(&mut bytes)?, text(&mut bytes)?);
    let count = count_of(&mut bytes)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(Column {
            is_key: match bytes.try_get_u8().map_err(short)? {
                0 => false,
                1 => true,
                _ => return Err(Nonsense),
            },
            type_oid: bytes.try_get_u32_le().map_err(short)?,
            typmod: bytes.try_get_i32_le().map_err(short)?,
            name: text(&mut bytes)?,
        });
    }
    let relation =
        Relation { oid, generation, schema, name, identity, columns: columns.into_boxed_slice() };
    if bytes.is_empty() { Ok(relation) } else { Err(Nonsense) }
}

fn change(bytes: &mut Bytes, relations: &[Arc<Relation>]) -> Result<Change, Nonsense> {
    let kind = bytes.try_get_u8().map_err(short)?;
    let place = usize::try_from(number(bytes)?).map_err(|_| Nonsense)?;
    let relation = Arc::clone(relations.get(place).ok_or(Nonsense)?);
    let kind = match kind {
        b'I' => ChangeKind::Insert { new: row(bytes)? },
        b'u' => ChangeKind::Update { old: OldRow::Absent, new: row(bytes)? },
        b'k' => ChangeKind::Update { old: OldRow::Key(row(bytes)?), new: row(bytes)? },
        b'U' => ChangeKind::Update { old: OldRow::Full(row(bytes)?), new: row(bytes)? },
        b'x' => ChangeKind::Delete { old: OldRow::Absent },
        b'd' => ChangeKind::Delete { old: OldRow::Key(row(bytes)?) },
        b'D' => ChangeKind::Delete { old: OldRow::Full(row(bytes)?) },
        b'T' => ChangeKind::Truncate,
        _ => return Err(Nonsense),
    };
    Ok(Change { relation, kind })
}

fn row(bytes: &mut Bytes) -> Result<Row, Nonsense> {
    let count = count_of(bytes)?;
    let mut cells = Vec::with_capacity(count);
    for _ in 0..count {
        cells.push(match number(bytes)? {
            0 => Cell::Null,
            1 => Cell::Unchanged,
            length => Cell::Text(take(bytes, length - 2)?),
        });
    }
    Ok(Row { cells: cells.into_boxed_slice() })
}

/// A count of things that take a byte or more each: never more than there are bytes.
fn count_of(bytes: &mut Bytes) -> Result<usize, Nonsense> {
    let count = usize::try_from(number(bytes)?).map_err(|_| Nonsense)?;
    if count <= bytes.len() { Ok(count) } else { Err(Nonsense) }
}

fn text(bytes: &mut Bytes) -> Result<Arc<str>, Nonsense> {
    let name = bytes_of(bytes)?;
    std::str::from_utf8(&name).map(Arc::from).map_err(|_| Nonsense)
}

fn bytes_of(bytes: &mut Bytes) -> Result<Bytes, Nonsense> {
    let length = number(bytes)?;
    take(bytes, length)
}

fn take(bytes: &mut Bytes, length: u64) -> Result<Bytes, Nonsense> {
    let length = usize::try_from(length).map_err(|_| Nonsense)?;
    if length <= bytes.len() { Ok(bytes.split_to(length)) } else { Err(Nonsense) }
}

fn number(bytes: &mut Bytes) -> Result<u64, Nonsense> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(short)?;
        let part = u64::from(byte & 0x7f);
        if part != 0 && part << shift >> shift != part {
            return Err(Nonsense);
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Nonsense)
}

fn short(_: bytes::TryGetError) -> Nonsense {
    Nonsense
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::changelog::samples;

    fn encoded(piece: &Transaction) -> Bytes {
        let mut out = Vec::new();
        encode(piece, &mut out);
        out.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_encoded_is_decoded(piece in samples::pieces()) {
            prop_assert_eq!(Decoder::default().decode(encoded(&piece)), Ok(piece));
        }

        #[test]
        fn a_part_of_a_piece_is_refused(piece in samples::pieces(), part in 0.0..1.0_f64) {
            let whole = encoded(&piece);
            #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a share of a length")]
            let cut = whole.slice(..(whole.len() as f64 * part) as usize);
            prop_assert_eq!(Decoder::default().decode(cut), Err(Nonsense));
        }

        #[test]
        fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            let _ = Decoder::default().decode(bytes.clone().into());
            // Past the version, more of the format is reached.
            if let [version, flags, ..] = &mut bytes[..] {
                (*version, *flags) = (VERSION, LAST);
            }
            let _ = Decoder::default().decode(bytes.into());
        }
    }

    #[test]
    fn the_length_is_known_before() {
        let piece = samples::sized(1, 0, 100, true, 50);
        let (told, is) = (length(&piece), encoded(&piece).len());
        assert!(told.abs_diff(is) < is / 20, "{told} and {is}");
    }

    #[test]
    fn relations_of_one_table_are_one() {
        let mut decoder = Decoder::default();
        let bytes = encoded(&samples::piece(1, 0, 2, true));
        let [one, two] = [(); 2].map(|()| decoder.decode(bytes.clone()).unwrap());
        assert!(Arc::ptr_eq(&one.changes[0].relation, &two.changes[1].relation));
    }
}
