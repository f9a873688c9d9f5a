//! The one thread that writes: what was appended, in order, made to last, then told.
//!
//! One write and one fsync for all that came during the last fsync. When the disk says no, nothing of it counts: the
//! segment is left as it is and, once the disk lets us, everything that was not on disk is written again into a new
//! one. A failed fsync is never repeated on the same file, because the system may have thrown away what it should have
//! written. What is not on disk stays in memory meanwhile, and is served from there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::recovery::Active;
use super::segment::{Header, name, put_mark, put_piece};
use super::shelf::{Floor, Limits, Stone};
use super::{Anew, Shared, State, forget};
use crate::backoff::Backoff;
use crate::changelog::{Origin, Place};
use crate::model::{Lsn, Transaction};

/// Written and synced together at most, in bytes of memory.
const BATCH: usize = 8 << 20;
/// Between two fsyncs, at least, while there is room: nobody waits for them, and Postgres is told ten times a second.
const REST: Duration = Duration::from_millis(10);
/// A mark that comes alone waits this long for company: it only keeps Postgres from holding WAL.
const MARK_PATIENCE: Duration = Duration::from_millis(50);
/// Waits after the disk said no.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A segment is begun this many times in the span that retention keeps.
const SPANS: u64 = 8;

/// The state of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    pub(super) origin: Option<Origin>,
    pub(super) clock: Clock,
    pub(super) relations: u64,
    /// The last change, and the end of the last whole transaction on disk.
    pub(super) synced: Floor,
    pub(super) whole: u64,
    pub(super) newest: Place,
    pub(super) end: Lsn,
    pub(super) buffer: Vec<u8>,
    pub(super) backoff: Backoff,
    pub(super) rested_at: Instant,
}

/// The log's own clock: how long it has been in use, by relays one after the other. Nobody can set it.
#[derive(Debug)]
pub(super) struct Clock {
    before: u64,
    since: Instant,
}

impl Clock {
    pub(super) fn new(before: u64) -> Self {
        Self { before, since: Instant::now() }
    }

    fn millis(&self) -> u64 {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.before.saturating_add(elapsed)
    }
}

/// What is to be done next.
#[derive(Debug)]
struct Job {
    anew: Option<Anew>,
    from: u64,
    pieces: Vec<Arc<Transaction>>,
    /// Behind all pieces, or before the first that commits after it.
    mark: Option<Lsn>,
    /// Nothing was appended behind the pieces.
    is_all: bool,
    /// What was before the pieces is to be forgotten.
    forgets: bool,
    /// What the fan-out reads next, and from where on a transaction is not whole.
    limits: (u64, u64),
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        recovered: (Option<Active>, Option<Origin>),
        clock: u64,
        relations: u64,
        kept: crate::changelog::tail::Kept,
    ) -> Self {
        let (active, origin) = recovered;
        Self {
            shared,
            active,
            origin,
            clock: Clock::new(clock),
            relations,
            synced: Floor { number: kept.next, place: kept.newest },
            whole: kept.next,
            newest: kept.newest,
            end: kept.end,
            buffer: Vec::new(),
            backoff: Backoff::new(WAITS.0, WAITS.1),
            rested_at: Instant::now(),
        }
    }

    /// Writes until the log is closed and everything is on disk, or the disk says no after that.
    pub(super) fn run(mut self) {
        while let Some(job) = self.wait() {
            match self.perform(&job) {
                Ok(()) => self.tell(),
                Err(error) if self.shared.is_closing() => {
                    warn!(%error, "the change log was closed before all of it was on disk; Postgres sends the rest again");
                    return;
                }
                Err(error) => self.suffer(&error),
            }
        }
    }

    /// Waits for something to do; `None` when there is nothing and the log is closed.
    fn wait(&self) -> Option<Job> {
        let shared = &*self.shared;
        let mut state = shared.state();
        loop {
            let now = Instant::now();
            match self.due(&state, now) {
                Some(due) if due <= now => break,
                Some(due) => {
                    state.is_resting = state.synced < state.tail.next();
                    (state, _) = shared.wait(state, due - now);
                    state.is_resting = false;
                }
                None if state.is_closing => return None,
                None => {
                    let rest = shared.settings.rest();
                    let span = if state.forget.is_some() { forget::LOOK } else { rest };
                    let (back, waited) = shared.wait(state, span);
                    state = back;
                    if waited.timed_out() {
                        // Time alone makes things old.
                        let limits = (state.tail.live(), state.tail.visible());
                        drop(state);
                        self.retain(limits);
                        state = shared.state();
                    }
                }
            }
        }
        let (anew, forgets) = (state.anew.take(), state.may_forget());
        state.cut = None;
        let from = state.synced;
        let pieces = state.tail.unseen(from, BATCH);
        let end = from + pieces.len() as u64;
        let is_all = end == state.tail.next();
        let mark = state.mark;
        state.in_flight = end;
        let limits = (state.tail.live(), state.tail.visible());
        Some(Job { anew, from, pieces, mark, is_all, forgets, limits })
    }

    /// When there is something to do.
    fn due(&self, state: &State, now: Instant) -> Option<Instant> {
        if state.anew.is_none() && self.origin.is_none() {
            return None;
        }
        let is_urgent = state.cut.is_some() || state.may_forget() && self.is_whole();
        if state.anew.is_some() || is_urgent || self.active.is_none() {
            return Some(now);
        }
        let may_rest = !state.is_closing;
        let pieces = (state.synced < state.tail.next())
            .then_some(if may_rest && !state.tail.is_crowded() { self.rested_at } else { now });
        let mark = state.marked_at.map(|at| if may_rest { at + MARK_PATIENCE } else { now });
        pieces.into_iter().chain(mark).min()
    }

    fn perform(&mut self, job: &Job) -> io::Result<()> {
        if let Some(anew) = &job.anew {
            self.active = None;
            self.origin = Some(anew.origin.clone());
            let floor = Floor { number: job.from, place: anew.before };
            (self.synced, self.whole, self.newest) = (floor, floor.number, floor.place);
            self.end = anew.from;
            self.shared.shelf().clear(anew.origin.epoch, floor);
        }
        if job.from < self.synced.number {
            // A transaction begins again: the pieces of its first attempt are none.
            self.active = None;
            self.synced = Floor { number: job.from, place: self.newest };
            self.whole = job.from;
        }
        // Whose log this is, and where it stands, must be known before anything is put into it.
        if self.active.is_none() {
            self.begin_segment()?;
        }
        if job.forgets && self.is_whole() {
            self.forget()?;
        }
        self.write(job)?;
        self.retain(job.limits);
        Ok(())
    }

    /// Writes a job's records and makes them last.
    fn write(&mut self, job: &Job) -> io::Result<()> {
        let Some(epoch) = self.origin.as_ref().map(|origin| origin.epoch) else { return Ok(()) };
        let now = self.clock.millis();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut places = Vec::with_capacity(job.pieces.len());
        let mut mark = job.mark;
        let (mut synced, mut whole, mut newest, mut end) =
            (self.synced, self.whole, self.newest, self.end);
        let known = self.synced.number;
        for piece in &job.pieces {
            let ahead = mark.filter(|mark| *mark <= piece.commit_lsn && piece.first == 0);
            if let Some(lsn) = ahead {
                put_mark(&mut buffer, epoch, synced.number, known, lsn, now);
                (mark, end) = (None, end.max(lsn));
            }
            let place = Place { commit_lsn: piece.commit_lsn, index: piece.first };
            places.push((synced.number, place, buffer.len() as u64));
            put_piece(&mut buffer, epoch, synced.number, known, piece);
            synced = Floor { number: synced.number + 1, place: Place::last_of(piece) };
            let generations = piece.changes.iter().map(|change| change.relation.generation);
            self.relations = self.relations.max(generations.max().unwrap_or(0));
            if piece.is_last {
                (whole, newest, end) = (synced.number, synced.place, end.max(piece.end_lsn));
            }
        }
        let is_open = whole < synced.number;
        if let Some(lsn) = mark.filter(|_| job.is_all && !is_open) {
            if end < lsn {
                put_mark(&mut buffer, epoch, synced.number, known, lsn, now);
                end = lsn;
            }
            mark = None;
        }
        if !buffer.is_empty() {
            let stones = self.append(&buffer, &places)?;
            let mut shelf = self.shared.shelf();
            if let Some(active) = &self.active {
                shelf.grow(active.offset, synced);
            }
            if let Some(last) = shelf.names().last() {
                shelf.learn(last, stones);
            }
        }
        self.buffer = buffer;
        self.buffer.shrink_to(BATCH / 8);
        (self.synced, self.whole, self.newest, self.end) = (synced, whole, newest, end);
        if mark.is_none() {
            let mut state = self.shared.state();
            if state.mark == job.mark {
                (state.mark, state.marked_at) = (None, None);
            }
        }
        Ok(())
    }

    /// Puts bytes at the end and waits until they are on disk.
    fn append(&mut self, bytes: &[u8], places: &[(u64, Place, u64)]) -> io::Result<Vec<Stone>> {
        let settings = &self.shared.settings;
        let span = u64::try_from(settings.retain_age.as_millis()).unwrap_or(u64::MAX);
        let is_done = |active: &Active| {
            let age = self.clock.millis().saturating_sub(active.since);
            settings.segment_bytes <= active.offset || active.has_pieces && span / SPANS < age
        };
        if self.active.as_ref().is_none_or(is_done) {
            self.begin_segment()?;
        }
        let Some(active) = &mut self.active else { return Ok(Vec::new()) };
        let began = Instant::now();
        let offset = active.offset;
        let written = active.file.write(bytes, offset).and_then(|()| active.file.sync());
        if let Err(error) = written {
            self.active = None;
            return Err(error);
        }
        self.shared.metrics.log_sync_seconds.observe(began.elapsed().as_secs_f64());
        self.rested_at = Instant::now() + REST;
        active.offset += bytes.len() as u64;
        active.has_pieces |= !places.is_empty();
        let stone = |(number, place, at): &(u64, Place, u64)| Stone {
            number: *number,
            place: *place,
            offset: offset + at,
        };
        Ok(places.iter().map(stone).collect())
    }

    /// Begins a segment behind what is on disk. What holds numbers from there on is removed first: it is written anew.
    pub(super) fn begin_segment(&mut self) -> io::Result<()> {
        self.active = None;
        let Some(origin) = self.origin.clone() else { return Ok(()) };
        let header = Header {
            first: self.synced.number,
            whole: self.whole,
            after: self.synced.place,
            newest: self.newest,
            end: self.end,
            clock: self.clock.millis(),
            relations: self.relations,
            origin,
        };
        let medium = &self.shared.medium;
        let later = {
            let mut shelf = self.shared.shelf();
            shelf.cut(header.first);
            shelf.doomed()
        };
        // Of two segments with the same numbers, the later one must not win, so it goes first. One of the same name is
        // replaced in one step: marks in it may have been confirmed. Of two histories, the newer one must be whole
        // before the older one goes.
        let (now, after): (Vec<u64>, Vec<u64>) = later
            .into_iter()
            .filter(|number| *number != header.first)
            .partition(|number| header.first < *number);
        let made = self.remove(now).and_then(|()| {
            let bytes = header.encode();
            let file = medium.create(&name(header.first), &bytes)?;
            medium.sync()?;
            Ok((file, bytes.len() as u64))
        });
        if made.is_err() {
            let mut shelf = self.shared.shelf();
            after.into_iter().for_each(|number| shelf.doom(number));
        } else if let Err(error) = self.remove(after) {
            warn!(%error, "could not remove an old segment of the change log; it is tried again");
        }
        let (file, offset) = made?;
        self.shared.shelf().put(&header, offset);
        self.active = Some(Active { file, offset, since: header.clock, has_pieces: false });
        Ok(())
    }

    /// Removes files; those that stay are tried again.
    pub(super) fn remove(&self, segments: Vec<u64>) -> io::Result<()> {
        let mut result = Ok(());
        let is_any = !segments.is_empty();
        for segment in segments {
            if let Err(error) = self.shared.medium.remove(&name(segment)) {
                self.shared.shelf().doom(segment);
                result = Err(error);
            }
        }
        if is_any { result.and_then(|()| self.shared.medium.sync()) } else { result }
    }

    /// Removes what is over the limits.
    fn retain(&self, (live, visible): (u64, u64)) {
        let settings = &self.shared.settings;
        let limits = Limits {
            bytes: settings.retain_bytes,
            age: settings.retain_age,
            now: self.clock.millis(),
            live,
            visible,
        };
        let doomed = {
            let mut shelf = self.shared.shelf();
            shelf.retain(limits);
            shelf.doomed()
        };
        if let Err(error) = self.remove(doomed) {
            warn!(%error, "could not remove an old segment of the change log; it is tried again");
        }
        let metrics = &self.shared.metrics;
        let shelf = self.shared.shelf();
        metrics.log_bytes.set(i64::try_from(shelf.bytes()).unwrap_or(i64::MAX));
        metrics.log_segments.set(i64::try_from(shelf.len()).unwrap_or(i64::MAX));
    }

    /// Says what is on disk now.
    fn tell(&mut self) {
        let shared = &*self.shared;
        let mut state = shared.state();
        let is_new_history = state.anew.is_some();
        if !is_new_history {
            // What was cut meanwhile is written again.
            state.synced = self.synced.number.min(state.cut.unwrap_or(u64::MAX));
            let synced = state.synced;
            state.tail.tidy(synced);
        }
        state.in_flight = state.synced;
        let lag = state.tail.end().bytes_since(self.end);
        if !is_new_history {
            shared.durable.send_if_modified(|durable| {
                let is_news = *durable < self.end;
                *durable = self.end.max(*durable);
                is_news
            });
        }
        drop(state);
        shared.metrics.log_durable_lag_bytes.set(i64::try_from(lag).unwrap_or(i64::MAX));
        shared.metrics.log_writable.set(1);
        self.backoff.reset();
        shared.room.notify_one();
        if shared.trouble.send_replace(None).is_some() {
            info!(path = %shared.place, "the change log can be written again");
        }
    }

    /// The disk said no: says so, and waits before the next attempt.
    fn suffer(&mut self, error: &io::Error) {
        let shared = &*self.shared;
        let text = format!(
            "the change log in {} cannot be written: {error}; nothing is confirmed to Postgres until it can",
            shared.place
        );
        let is_news = shared.trouble.send_if_modified(|trouble| {
            let is_news = trouble.as_deref() != Some(&*text);
            *trouble = Some(text.as_str().into());
            is_news
        });
        if is_news {
            error!(path = %shared.place, %error, "the change log cannot be written; serving from memory, confirming nothing");
        }
        shared.metrics.log_failures.inc();
        shared.metrics.log_writable.set(0);
        let limits = {
            let state = shared.state();
            let lag = state.tail.end().bytes_since(self.end);
            shared.metrics.log_durable_lag_bytes.set(i64::try_from(lag).unwrap_or(i64::MAX));
            (state.tail.live(), state.tail.visible())
        };
        self.retain(limits);
        let until = Instant::now() + self.backoff.wait(0);
        let mut state = shared.state();
        while !state.is_closing && Instant::now() < until {
            (state, _) = shared.wait(state, until - Instant::now());
        }
    }
}
