//! Reading pieces from disk, off the runtime: from where a reader stands, a bounded amount at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tracing::error;

use super::Shared;
use super::medium::Segment;
use super::segment::{Broken, Content, Header, LONGEST_HEADER, name, record};
use super::shelf::Stone;
use crate::changelog::Place;
use crate::changelog::codec::Decoder;
use crate::changelog::place::after;
use crate::model::{Epoch, Transaction};

/// Read at once, when less was asked for.
const LEAST: usize = 64 << 10;

/// Where a reader stands on disk.
#[derive(Debug)]
pub(crate) struct Fetch {
    file: Arc<dyn Segment>,
    epoch: Epoch,
    segment: u64,
    /// The segment has only numbers below this.
    end: u64,
    /// The number of the piece at `offset`.
    number: u64,
    offset: u64,
    decoder: Decoder,
}

/// What came of reading.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Where to go on; `None` when what comes next cannot be read.
    pub(crate) fetch: Option<Fetch>,
    /// The number of the next piece.
    pub(crate) next: u64,
    pub(crate) pieces: Vec<Arc<Transaction>>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) next: u64,
    /// Only pieces below this number.
    pub(super) limit: u64,
    /// About so many bytes of memory.
    pub(super) bytes: usize,
    /// Only changes after this.
    pub(super) seen: Option<Place>,
}

impl Fetch {
    /// Opens the segment of the piece with this number. `None` when it is not there any more.
    fn open(shared: &Shared, number: u64) -> io::Result<Option<Self>> {
        let (spot, epoch) = {
            let shelf = shared.shelf();
            (shelf.spot(number), shelf.epoch)
        };
        let (Some(spot), Some(epoch)) = (spot, epoch) else { return Ok(None) };
        let file = match shared.medium.open(&name(spot.segment)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                damaged(shared, spot.segment, number, 0);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (number, offset) = match spot.stone {
            Some(stone) => stone,
            None => {
                let mut bytes = vec![0; LONGEST_HEADER];
                let count = file.read(&mut bytes, 0).unwrap_or_default();
                match Header::decode(bytes.get(..count).unwrap_or_default()) {
                    Ok((header, size)) if header.origin.epoch == epoch => {
                        (spot.segment, size as u64)
                    }
                    _ => {
                        damaged(shared, spot.segment, number, 0);
                        return Ok(None);
                    }
                }
            }
        };
        let (segment, end, decoder) = (spot.segment, spot.end, Decoder::default());
        Ok(Some(Self { file, epoch, segment, end, number, offset, decoder }))
    }

    /// Reads one stretch. False when what comes next is damaged.
    fn stretch(
        &mut self,
        shared: &Shared,
        wanted: Wanted,
        pieces: &mut Vec<Arc<Transaction>>,
    ) -> bool {
        let mut least = LEAST.max(wanted.bytes);
        let mut stones = Vec::new();
        let mut taken = 0;
        let is_whole = 'again: loop {
            let mut bytes = vec![0; least];
            let Ok(count) = self.file.read(&mut bytes, self.offset) else { break false };
            bytes.truncate(count);
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            while self.number < wanted.limit.min(self.end) && taken < wanted.bytes {
                let record = match record(&bytes, at, self.epoch) {
                    Ok(record) => record,
                    Err(Broken::Short(_)) if at != 0 && count == least => break,
                    Err(Broken::Short(needed)) if self.has(needed) => {
                        least = needed;
                        continue 'again;
                    }
                    Err(_) => break 'again false,
                };
                if record.number != self.number {
                    break 'again false;
                }
                if let Content::Piece(head, content) = record.content {
                    let place = Place { commit_lsn: head.commit_lsn, index: head.first };
                    let (number, offset) = (self.number, self.offset);
                    stones.push(Stone { number, place, offset });
                    let is_new = wanted.seen.is_none_or(|seen| seen < head.last());
                    if self.number >= wanted.next && is_new {
                        let Ok(piece) = self.decoder.decode(content) else { break 'again false };
                        let piece = Arc::new(piece);
                        let rest = wanted
                            .seen
                            .map_or(Some(Arc::clone(&piece)), |seen| after(&piece, seen));
                        pieces.extend(rest);
                        taken += piece.footprint();
                    }
                    self.number += 1;
                }
                at += record.size;
                self.offset += record.size as u64;
            }
            break true;
        };
        shared.shelf().learn(self.segment, stones);
        is_whole
    }

    /// Whether the file has so many bytes more.
    fn has(&self, bytes: usize) -> bool {
        let end = self.offset.saturating_add(bytes as u64);
        self.file.length().is_ok_and(|length| end <= length)
    }
}

/// Reads from where `fetch` stands, or from where the shelf says.
pub(super) fn fetch(shared: &Shared, fetch: Option<Fetch>, wanted: Wanted) -> io::Result<Fetched> {
    let mut fetch = fetch.filter(|fetch| fetch.number <= wanted.next);
    let mut pieces = Vec::new();
    loop {
        let next = fetch.as_ref().map_or(wanted.next, |fetch| fetch.number.max(wanted.next));
        if !pieces.is_empty() || wanted.limit <= next || shared.is_closing() {
            return Ok(Fetched { fetch, next, pieces });
        }
        // A segment that was the last one may have got a successor meanwhile.
        let spot = shared.shelf().spot(next);
        let stays = |fetch: &Fetch| spot.is_some_and(|spot| spot.segment == fetch.segment);
        let mut here = match (fetch.take().filter(stays), spot) {
            (Some(here), Some(spot)) => Fetch { end: spot.end, ..here },
            _ => match Fetch::open(shared, next)? {
                Some(here) => here,
                None => return Ok(Fetched { fetch: None, next, pieces }),
            },
        };
        if !here.stretch(shared, wanted, &mut pieces) {
            damaged(shared, here.segment, here.number, here.offset);
            let next = here.number.max(wanted.next);
            return Ok(Fetched { fetch: None, next, pieces });
        }
        fetch = Some(here);
    }
}

/// Gives up what cannot be read.
fn damaged(shared: &Shared, segment: u64, number: u64, offset: u64) {
    let floor = shared.shelf().give_up(number);
    if let Some(floor) = floor {
        shared.metrics.log_damages.inc();
        error!(
            segment = name(segment),
            offset,
            from = %floor.place.commit_lsn,
            "the change log is damaged; what is before was given up, and whoever asks for it is told"
        );
        shared.work.notify_one();
    }
}

/// Looks at everything below `limit` once, so that damage is known before somebody needs what is damaged.
pub(super) fn check(shared: &Shared, limit: u64) {
    let mut next = shared.shelf().floor().number;
    let mut place = None;
    while next < limit && !shared.is_closing() {
        let seen = Some(Place { commit_lsn: crate::model::Lsn::new(u64::MAX), index: u32::MAX });
        let wanted = Wanted { next, limit, bytes: 1 << 20, seen };
        match fetch(shared, place.take(), wanted) {
            Ok(fetched) => {
                next = match fetched.fetch {
                    Some(_) => fetched.next,
                    None => shared.shelf().floor().number.max(fetched.next + 1),
                };
                place = fetched.fetch;
            }
            // Whoever reads it is told.
            Err(_) => return,
        }
    }
}
