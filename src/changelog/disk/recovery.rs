//! Opening a log that another process left, however that one ended.
//!
//! - A tail that a crash tore is cut back to the last whole transaction; Postgres sends the rest again.
//! - What was on disk and is not whole any more is damage. What is before it is given up and the bound moves, so that
//!   older readers are told; where the log ended is kept, so that nothing is appended twice.
//! - Where even the end is lost, the log ends before what was confirmed to Postgres. The source sees that and begins
//!   a new history, aloud.
//!
//! Only the last segment is read in full here; the others are looked at in the background.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{error, info, warn};

use super::medium::{Medium, Segment};
use super::segment::{Content, Header, LONGEST_HEADER, name, number_of, record, witness};
use super::shelf::{Floor, Shelf, Stone};
use crate::changelog::tail::Kept;
use crate::changelog::{Origin, Place};
use crate::model::Lsn;

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) origin: Option<Origin>,
    pub(super) kept: Kept,
    pub(super) relations: u64,
    pub(super) clock: u64,
    pub(super) shelf: Shelf,
    /// The segment to go on with; `None`: begin another.
    pub(super) active: Option<Active>,
    /// Damage was found.
    pub(super) is_damaged: bool,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Arc<dyn Segment>,
    pub(super) offset: u64,
    /// When it was begun, by the log's clock.
    pub(super) since: u64,
    /// It has more than marks.
    pub(super) has_pieces: bool,
}

/// A segment whose header was read.
#[derive(Debug)]
struct Volume {
    number: u64,
    header: Option<(Header, usize)>,
    length: u64,
}

/// What a segment's records come to.
#[derive(Debug)]
struct Scan {
    /// The number behind the last whole transaction, and where it ends.
    whole: u64,
    cut_at: usize,
    newest: Place,
    end: Lsn,
    clock: u64,
    relations: u64,
    stones: Vec<Stone>,
    is_damaged: bool,
}

/// Reads what is there, and repairs it.
pub(super) fn recover(medium: &dyn Medium) -> io::Result<Recovered> {
    let mut volumes = volumes(medium)?;
    let mut is_damaged = false;
    // A segment whose creation was torn holds nothing yet.
    while volumes.last().is_some_and(|last| last.header.is_none()) {
        let Some(last) = volumes.pop() else { break };
        if last.length > LONGEST_HEADER as u64 {
            is_damaged = true;
            error!(segment = name(last.number), "the change log's newest segment is damaged");
        }
        medium.remove(&name(last.number))?;
    }
    let Some(origin) = newest(&volumes).map(|(header, _)| header.origin.clone()) else {
        let shelf = Shelf::new(None, Floor::default());
        let kept = Kept::default();
        let (origin, active) = (None, None);
        return Ok(Recovered { origin, kept, relations: 0, clock: 0, shelf, active, is_damaged });
    };
    let is_usable = |volume: &Volume| {
        let header = volume.header.as_ref().map(|(header, _)| header);
        header.is_some_and(|header| header.origin.epoch == origin.epoch)
    };
    let unusable = volumes.iter().rposition(|volume| !is_usable(volume)).map_or(0, |at| at + 1);
    for volume in volumes.drain(..unusable) {
        if volume.header.is_none() {
            is_damaged = true;
            error!(
                segment = name(volume.number),
                "a segment of the change log is damaged; it and what is before it were given up"
            );
        }
        medium.remove(&name(volume.number))?;
    }
    loop {
        let Some((header, size)) = newest(&volumes).cloned() else {
            return Err(io::Error::other("the beginning of an unfinished transaction is missing"));
        };
        let file = medium.open(&name(header.first))?;
        let bytes = whole(&*file)?;
        let scan = scan(&bytes, size, &header);
        if scan.whole < header.first && 1 < volumes.len() {
            // All of it belongs to a transaction that never ended.
            torn(&header, bytes.len(), 0);
            medium.remove(&name(header.first))?;
            medium.sync()?;
            volumes.pop();
            continue;
        }
        // What a killed process wrote may be seen and still not be on disk.
        if scan.cut_at < bytes.len() && !scan.is_damaged {
            torn(&header, bytes.len(), scan.cut_at);
            file.truncate(scan.cut_at as u64)?;
        }
        file.sync()?;
        medium.sync()?;
        return Ok(put_together(&volumes, origin, scan, (header, file), is_damaged));
    }
}

fn put_together(
    volumes: &[Volume],
    origin: Origin,
    scan: Scan,
    (last, file): (Header, Arc<dyn Segment>),
    was_damaged: bool,
) -> Recovered {
    let end = Floor { number: scan.whole.max(last.first), place: scan.newest };
    let begin = volumes.iter().find_map(|volume| volume.header.as_ref());
    let begin =
        begin.map_or(end, |(header, _)| Floor { number: header.first, place: header.after });
    let floor = if scan.is_damaged { end } else { begin };
    let mut shelf = Shelf::new(Some(origin.epoch), floor);
    for volume in volumes {
        if let Some((header, _)) = &volume.header {
            shelf.put(header, volume.length);
        }
    }
    let offset = scan.cut_at as u64;
    shelf.grow(offset, end);
    shelf.learn(last.first, scan.stones);
    let has_pieces = last.first < scan.whole;
    let active = Active { file, offset, since: last.clock, has_pieces };
    if scan.is_damaged {
        error!(
            segment = name(last.first),
            from = %end.place.commit_lsn,
            "the change log is damaged; what is before was given up, and whoever asks for it is told"
        );
    } else {
        info!(
            segments = shelf.len(),
            bytes = shelf.bytes(),
            from = %floor.place.commit_lsn,
            to = %scan.newest.commit_lsn,
            "change log opened"
        );
    }
    let epoch = Some(origin.epoch);
    Recovered {
        origin: Some(origin),
        kept: Kept { epoch, next: end.number, newest: scan.newest, end: scan.end },
        relations: scan.relations,
        clock: scan.clock,
        shelf,
        active: (!scan.is_damaged).then_some(active),
        is_damaged: was_damaged || scan.is_damaged,
    }
}

/// The last one's header.
fn newest(volumes: &[Volume]) -> Option<&(Header, usize)> {
    volumes.last().and_then(|volume| volume.header.as_ref())
}

fn torn(header: &Header, from: usize, to: usize) {
    warn!(
        segment = name(header.first),
        from_bytes = from,
        to_bytes = to,
        "the change log's tail was cut back to the last whole transaction; Postgres sends the rest again"
    );
}

/// All segments there are, in order.
fn volumes(medium: &dyn Medium) -> io::Result<Vec<Volume>> {
    let mut numbers: Vec<u64> = medium.list()?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let volume = |number| {
        let file = medium.open(&name(number))?;
        let mut bytes = vec![0; LONGEST_HEADER];
        let count = file.read(&mut bytes, 0)?;
        let header = Header::decode(bytes.get(..count).unwrap_or_default()).ok();
        let header = header.filter(|(header, _)| header.first == number);
        Ok(Volume { number, header, length: file.length()? })
    };
    numbers.into_iter().map(volume).collect()
}

fn whole(file: &dyn Segment) -> io::Result<Bytes> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let count = file.read(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes.into())
}

/// Reads the records behind the header, which takes `size` bytes.
fn scan(bytes: &Bytes, size: usize, header: &Header) -> Scan {
    let epoch = header.origin.epoch;
    let mut scan = Scan {
        whole: header.whole,
        cut_at: size,
        newest: header.newest,
        end: header.end,
        clock: header.clock,
        relations: header.relations,
        stones: Vec::new(),
        is_damaged: false,
    };
    let (mut at, mut number, mut is_open) = (size, header.first, header.whole < header.first);
    while at < bytes.len() {
        let found = record(bytes, at, epoch).ok();
        // Behind damage, numbers may be missing.
        let found = found
            .filter(|found| found.number == number || scan.is_damaged && number < found.number);
        let Some(found) = found else {
            if !scan.is_damaged && !witness(bytes, at + 1, epoch, number) {
                break;
            }
            scan.is_damaged = true;
            at += 1;
            continue;
        };
        let offset = at as u64;
        at += found.size;
        number = found.number;
        match found.content {
            Content::Piece(head, _) => {
                let place = Place { commit_lsn: head.commit_lsn, index: head.first };
                scan.stones.push(Stone { number, place, offset });
                scan.relations = scan.relations.max(head.generation);
                number += 1;
                is_open = !head.is_last;
                if head.is_last {
                    scan.newest = head.last();
                    scan.end = scan.end.max(head.end_lsn);
                    (scan.whole, scan.cut_at) = (number, at);
                }
            }
            Content::Mark { end, clock } => {
                scan.end = scan.end.max(end);
                scan.clock = scan.clock.max(clock);
                if !is_open {
                    (scan.whole, scan.cut_at) = (number, at);
                }
            }
        }
    }
    scan
}
