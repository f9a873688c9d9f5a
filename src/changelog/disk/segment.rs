//! One file of the log: its format, byte by byte. Pure.
//!
//! ```text
//! segment   header · record · record · …
//! header    "relaylog" · version u32 · length u32 · checksum u32 · first u64 · whole u64 · epoch u64
//!           · after: commit u64, index u32 · newest: commit u64, index u32 · end u64 · clock u64 · relations u64
//!           · database oid u32 · generation u64 · system, timeline, database, slot: length u32, bytes
//! record    length u32 · checksum u32 · number u64 · synced u64 · kind u8 · piece or mark
//! mark      end u64 · clock u64
//! ```
//!
//! All numbers are little-endian. `length` counts what follows the fixed part: in a header what is checksummed, in a
//! record kind and content. A record's checksum (CRC-32C) covers the epoch and everything but itself, so a record of
//! another history, at another number, or cut short is none.
//!
//! **Invariants**
//!
//! - Pieces have consecutive numbers from `first` on. A mark has the number of the piece that follows it.
//! - A segment ends where the next one's `first` begins, whatever its file holds beyond that. The next one is created
//!   only after everything before it is on disk.
//! - `synced` is the number up to which everything was on disk before the record was written. So a record that is
//!   broken although a later one says it was on disk is *damage*; without such a witness it is a *torn tail*, which a
//!   crash leaves and Postgres sends again.
//! - `end`, in the header and in marks, is where everything before is in the log. Nothing beyond the newest one, or the
//!   newest commit's end, was ever confirmed to Postgres.

use bytes::{Buf, BufMut, Bytes};

use crate::changelog::codec::{self, Head};
use crate::changelog::{Origin, Place};
use crate::model::{Epoch, Lsn, Transaction};

const MAGIC: &[u8; 8] = b"relaylog";
const VERSION: u32 = 1;
/// What precedes the checksummed part of a header.
const HEADER_FIXED: usize = 20;
/// What precedes a record's kind.
const RECORD_FIXED: usize = 24;
const PIECE: u8 = 1;
const MARK: u8 = 2;
/// A header is shorter; a longer one is none.
pub(super) const LONGEST_HEADER: usize = 4096;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of its first piece.
    pub(super) first: u64,
    /// Everything below this number is part of a whole transaction; not above `first`.
    pub(super) whole: u64,
    /// The last change before `first`.
    pub(super) after: Place,
    /// The last change of the last whole transaction before `first`.
    pub(super) newest: Place,
    /// Everything before this is in the segments before this one.
    pub(super) end: Lsn,
    /// How many milliseconds the log had been in use.
    pub(super) clock: u64,
    /// Relation descriptions were counted this far.
    pub(super) relations: u64,
    /// Whose history it is.
    pub(super) origin: Origin,
}

/// Why there is no header or record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There may be one, if so many bytes were there.
    Short(usize),
    /// There is none.
    Damaged,
}

/// A record that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) synced: u64,
    pub(super) content: Content,
    /// Bytes it takes.
    pub(super) size: usize,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A piece of a transaction, and what it begins with.
    Piece(Head, Bytes),
    /// See `mark` of the log.
    Mark { end: Lsn, clock: u64 },
}

/// The name of the segment whose first piece has this number.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The number of the first piece of the segment called `name`.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let is_ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_ours)
}

impl Header {
    /// The header as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let origin = &self.origin;
        let mut body = Vec::with_capacity(256);
        body.put_u64_le(self.first);
        body.put_u64_le(self.whole);
        body.put_u64_le(origin.epoch.number());
        for place in [self.after, self.newest] {
            body.put_u64_le(place.commit_lsn.bytes());
            body.put_u32_le(place.index);
        }
        body.put_u64_le(self.end.bytes());
        body.put_u64_le(self.clock);
        body.put_u64_le(self.relations);
        body.put_u32_le(origin.database_oid);
        body.put_u64_le(origin.generation);
        for text in [&origin.system, &origin.timeline, &origin.database, &origin.slot] {
            body.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
            body.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(HEADER_FIXED + body.len());
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
        out.put_u32_le(crc32c::crc32c(&body));
        out.put_slice(&body);
        out
    }

    /// The header that `bytes` begin with, and how long it is.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), Broken> {
        let mut fixed = bytes.get(..HEADER_FIXED).ok_or(Broken::Short(HEADER_FIXED))?;
        let is_ours = fixed.starts_with(MAGIC);
        fixed.advance(MAGIC.len());
        let (version, length) = (fixed.get_u32_le(), fixed.get_u32_le() as usize);
        if !is_ours || version != VERSION || LONGEST_HEADER < length {
            return Err(Broken::Damaged);
        }
        let size = HEADER_FIXED + length;
        let body = bytes.get(HEADER_FIXED..size).ok_or(Broken::Short(size))?;
        if crc32c::crc32c(body) != fixed.get_u32_le() {
            return Err(Broken::Damaged);
        }
        Self::body(body).map(|header| (header, size)).map_err(|_| Broken::Damaged)
    }

    fn body(mut body: &[u8]) -> Result<Self, bytes::TryGetError> {
        let (first, whole) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
        let epoch = Epoch::new(body.try_get_u64_le()?);
        let mut place = || -> Result<Place, bytes::TryGetError> {
            let commit_lsn = Lsn::new(body.try_get_u64_le()?);
            Ok(Place { commit_lsn, index: body.try_get_u32_le()? })
        };
        let (after, newest) = (place()?, place()?);
        let end = Lsn::new(body.try_get_u64_le()?);
        let (clock, relations) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
        let (database_oid, generation) = (body.try_get_u32_le()?, body.try_get_u64_le()?);
        let mut text = || -> Result<String, bytes::TryGetError> {
            let length = body.try_get_u32_le()? as usize;
            let mut text = vec![0; length.min(LONGEST_HEADER)];
            body.try_copy_to_slice(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let (system, timeline, database, slot) = (text()?, text()?, text()?, text()?);
        let origin = Origin { epoch, system, timeline, database_oid, database, slot, generation };
        Ok(Self { first, whole, after, newest, end, clock, relations, origin })
    }
}

/// Appends a piece as a record.
pub(super) fn put_piece(
    out: &mut Vec<u8>,
    epoch: Epoch,
    number: u64,
    synced: u64,
    piece: &Transaction,
) {
    put_record(out, epoch, number, synced, |out| {
        out.put_u8(PIECE);
        codec::encode(piece, out);
    });
}

/// Appends a mark as a record.
pub(super) fn put_mark(
    out: &mut Vec<u8>,
    epoch: Epoch,
    number: u64,
    synced: u64,
    end: Lsn,
    clock: u64,
) {
    put_record(out, epoch, number, synced, |out| {
        out.put_u8(MARK);
        out.put_u64_le(end.bytes());
        out.put_u64_le(clock);
    });
}

fn put_record(
    out: &mut Vec<u8>,
    epoch: Epoch,
    number: u64,
    synced: u64,
    put: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.put_bytes(0, RECORD_FIXED);
    put(out);
    let length = u32::try_from(out.len() - start - RECORD_FIXED).unwrap_or(u32::MAX);
    let Some((mut fixed, content)) =
        out.get_mut(start..).and_then(|record| record.split_at_mut_checked(RECORD_FIXED))
    else {
        return;
    };
    let checksum = checksum(epoch, length, number, synced, content);
    fixed.put_u32_le(length);
    fixed.put_u32_le(checksum);
    fixed.put_u64_le(number);
    fixed.put_u64_le(synced);
}

fn checksum(epoch: Epoch, length: u32, number: u64, synced: u64, content: &[u8]) -> u32 {
    let mut fixed = [0; 28];
    let mut rest = &mut fixed[..];
    rest.put_u64_le(epoch.number());
    rest.put_u32_le(length);
    rest.put_u64_le(number);
    rest.put_u64_le(synced);
    crc32c::crc32c_append(crc32c::crc32c(&fixed), content)
}

/// The record that begins at `at` in `bytes`.
pub(super) fn record(bytes: &Bytes, at: usize, epoch: Epoch) -> Result<Record, Broken> {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut fixed = rest.get(..RECORD_FIXED).ok_or(Broken::Short(RECORD_FIXED))?;
    let length = fixed.get_u32_le();
    let (told, number, synced) = (fixed.get_u32_le(), fixed.get_u64_le(), fixed.get_u64_le());
    let size = RECORD_FIXED + length as usize;
    let content = rest.get(RECORD_FIXED..size).ok_or(Broken::Short(size))?;
    if checksum(epoch, length, number, synced, content) != told {
        return Err(Broken::Damaged);
    }
    let mut content = bytes.slice(at + RECORD_FIXED..at + size);
    let content = match content.try_get_u8() {
        Ok(PIECE) => {
            let head = Head::take(&mut content.clone()).map_err(|_| Broken::Damaged)?;
            Content::Piece(head, content)
        }
        Ok(MARK) => {
            let mut mark = || content.try_get_u64_le().map_err(|_| Broken::Damaged);
            Content::Mark { end: Lsn::new(mark()?), clock: mark()? }
        }
        _ => return Err(Broken::Damaged),
    };
    Ok(Record { number, synced, content, size })
}

/// Looks for records at or after `at` and answers whether one of them is a witness that number `number` was on disk.
pub(super) fn witness(bytes: &Bytes, at: usize, epoch: Epoch, number: u64) -> bool {
    let mut at = at;
    while at + RECORD_FIXED < bytes.len() {
        // Plausible numbers first: a checksum over megabytes at every byte would take for ever.
        let told = bytes.get(at + 8..at + 16).and_then(|told| told.try_into().ok());
        let told = u64::from_le_bytes(told.unwrap_or_default());
        let farthest = number.saturating_add((bytes.len() / RECORD_FIXED) as u64);
        if (number..=farthest).contains(&told)
            && let Ok(record) = record(bytes, at, epoch)
        {
            if number < record.synced {
                return true;
            }
            at += record.size;
        } else {
            at += 1;
        }
    }
    false
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::changelog::samples;

    pub(in crate::changelog::disk) fn header() -> Header {
        let place = |commit, index| Place { commit_lsn: Lsn::new(commit), index };
        Header {
            first: 7,
            whole: 6,
            after: place(100, 3),
            newest: place(90, 1),
            end: Lsn::new(108),
            clock: 5000,
            relations: 12,
            origin: Origin {
                epoch: Epoch::new(0xabc),
                system: "7000000000000000001".into(),
                timeline: "1".into(),
                database_oid: 16384,
                database: "app".into(),
                slot: "relay".into(),
                generation: 0,
            },
        }
    }

    #[test]
    fn a_header_is_read_back_and_every_changed_byte_is_noticed() {
        let whole = header().encode();
        assert_eq!(Header::decode(&whole), Ok((header(), whole.len())));
        for at in 0..whole.len() {
            assert!(Header::decode(&whole[..at]).is_err(), "cut to {at}");
            let mut bent = whole.clone();
            bent[at] ^= 0x40;
            assert!(Header::decode(&bent).is_err(), "bent at {at}");
        }
    }

    #[test]
    fn a_record_is_read_back_and_every_changed_byte_is_noticed() {
        let (epoch, piece) = (Epoch::new(9), samples::piece(100, 0, 2, true));
        let mut out = Vec::new();
        put_piece(&mut out, epoch, 5, 4, &piece);
        let whole = Bytes::from(out.clone());
        let read = record(&whole, 0, epoch).unwrap();
        assert_eq!((read.number, read.synced, read.size), (5, 4, whole.len()));
        let Content::Piece(_, content) = read.content else { panic!("not a piece") };
        assert_eq!(codec::Decoder::default().decode(content), Ok(piece));
        assert_eq!(record(&whole, 0, Epoch::new(8)), Err(Broken::Damaged));
        for at in 0..out.len() {
            assert!(record(&whole.slice(..at), 0, epoch).is_err(), "cut to {at}");
            let mut bent = out.clone();
            bent[at] ^= 0x40;
            assert!(record(&bent.into(), 0, epoch).is_err(), "bent at {at}");
        }
    }

    #[test]
    fn only_its_own_names_are_taken() {
        assert_eq!(number_of(&name(42)), Some(42));
        assert_eq!(number_of(&name(u64::MAX)), Some(u64::MAX));
        for name in ["lock", "42.log", "+0000000000000000042.log", "00000000000000000042.log.old"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_later_record_bears_witness_only_when_it_says_so() {
        let (epoch, mut out) = (Epoch::new(9), vec![0; 3]);
        put_piece(&mut out, epoch, 6, 5, &samples::piece(100, 0, 1, true));
        let without = Bytes::from(out.clone());
        put_piece(&mut out, epoch, 7, 6, &samples::piece(200, 0, 1, true));
        let with = Bytes::from(out);
        assert!(!witness(&without, 0, epoch, 5));
        assert!(witness(&with, 0, epoch, 5));
        assert!(!witness(&with, 0, Epoch::new(8), 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_of_any_kind_are_no_segment(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Header::decode(&bytes).is_err());
            let bytes = Bytes::from(bytes);
            prop_assert!(record(&bytes, 0, Epoch::new(0)).is_err());
            prop_assert!(!witness(&bytes, 0, Epoch::new(0), 0));
        }
    }
}
