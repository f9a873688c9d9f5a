//! Our own messages on their way through the WAL: written on one connection, expected back from the stream. Pure.
//!
//! Keepalives say that the walsender lives; only something of ours that comes back says that what is written is also
//! sent. Postgres tells where a beat ends in the WAL, and the stream tells how far it came, so a beat that is not back
//! is one of two things: the stream is *past* it, and it is lost; or the stream is not there yet. The latter is
//! counted when nothing moves, but never ends a session: Postgres may be busy with one large transaction, and would
//! begin it again for the next connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Lsn;

/// What our messages are filed under. Those of other tools, and of other relays, pass by.
pub(super) const PREFIX: &str = "relay";
/// A beat may be missing this many times in a row.
pub(super) const PATIENCE: u32 = 3;
/// More beats than this are never under way at once.
const MOST: usize = 4;

/// The beats of one session. Shared by the stream, which hears them, and the watch, which sends and judges them.
#[derive(Debug)]
pub(super) struct Heartbeat {
    session: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: VecDeque<Beat>,
    /// The stream brought everything before this.
    reached: Lsn,
    /// Since the last judgement something came, or could not come because the log had no room.
    has_moved: bool,
    /// Since the last look something came.
    has_stirred: bool,
    /// How far the log came, when it has less than it was given.
    unlogged: Option<Lsn>,
    /// Since when nothing is read.
    held_since: Option<Instant>,
    missed: u32,
    lost: u32,
}

#[derive(Debug)]
struct Beat {
    number: u64,
    sent_at: Instant,
    /// Where it ends in the WAL, once Postgres said so.
    end: Option<Lsn>,
}

/// What is to be thought of the beats so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All are back.
    Back,
    /// The stream moves towards the oldest, or is held by ourselves.
    OnItsWay,
    /// The oldest should have come; this many times in a row now.
    Missed(u32),
    /// The stream has been past the oldest for long.
    Lost,
}

impl Heartbeat {
    /// `session` is a number that no other session uses.
    pub(super) fn new(session: u64) -> Self {
        Self { session, state: Mutex::default() }
    }

    /// Begins a beat: its number, and what to write. `None` when enough are under way.
    ///
    /// It is expected from now on: it may be back before the statement that writes it has its answer.
    pub(super) fn begin(&self, now: Instant) -> Option<(u64, String)> {
        let mut state = self.state();
        if MOST <= state.under_way.len() {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.under_way.push_back(Beat { number, sent_at: now, end: None });
        Some((number, format!("{:016x}-{number}", self.session)))
    }

    /// Postgres wrote it, up to `end`.
    pub(super) fn written(&self, number: u64, end: Lsn) {
        let mut state = self.state();
        if let Some(beat) = state.under_way.iter_mut().find(|beat| beat.number == number) {
            beat.end = Some(end);
        }
    }

    /// It was not written, or nobody knows.
    pub(super) fn abandon(&self, number: u64) {
        self.state().under_way.retain(|beat| beat.number != number);
    }

    /// One of our messages came through the stream. How long it took, when it is one of this session.
    pub(super) fn hear(&self, content: &[u8], now: Instant) -> Option<Duration> {
        let (session, number) = std::str::from_utf8(content).ok()?.split_once('-')?;
        if u64::from_str_radix(session, 16) != Ok(self.session) {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        let mut state = self.state();
        let beat = state.under_way.iter().find(|beat| beat.number == number)?;
        let took = now.duration_since(beat.sent_at);
        // They come in the order they were written: one before it that is not here was lost, and the stream lives.
        state.under_way.retain(|beat| number < beat.number);
        (state.missed, state.lost) = (0, 0);
        Some(took)
    }

    /// The stream brought everything before `position`.
    pub(super) fn reach(&self, position: Lsn) {
        let mut state = self.state();
        if state.reached < position {
            state.reached = position;
            state.has_moved = true;
        }
    }

    /// The stream brought something.
    pub(super) fn stir(&self) {
        let mut state = self.state();
        (state.has_moved, state.has_stirred) = (true, true);
    }

    /// The log has all it was given, or has come to here.
    pub(super) fn log(&self, unlogged: Option<Lsn>) {
        self.state().unlogged = unlogged;
    }

    /// Whether something came since this was last asked, and how far the log came if it has less than it was given.
    pub(super) fn look(&self) -> (bool, Option<Lsn>) {
        let mut state = self.state();
        (std::mem::take(&mut state.has_stirred), state.unlogged)
    }

    /// Whether nothing is read because the log has no room.
    pub(super) fn hold(&self, is_held: bool) {
        let mut state = self.state();
        state.held_since = is_held.then(Instant::now);
        state.has_moved |= is_held;
    }

    /// For how long nothing was read because the log has no room.
    pub(super) fn held(&self) -> Duration {
        self.state().held_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What to think now, asked once per interval.
    pub(super) fn judge(&self) -> Verdict {
        let mut state = self.state();
        let State { has_moved, held_since, missed, lost, .. } = &mut *state;
        let moved = std::mem::replace(has_moved, held_since.is_some());
        let (missed, lost) = (*missed, *lost);
        let Some(oldest) = state.under_way.front() else { return Verdict::Back };
        let is_passed = oldest.end.is_some_and(|end| end <= state.reached);
        if moved && !is_passed {
            state.missed = 0;
            return Verdict::OnItsWay;
        }
        state.missed = missed + 1;
        state.lost = if is_passed { lost + 1 } else { 0 };
        if PATIENCE <= state.lost { Verdict::Lost } else { Verdict::Missed(state.missed) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Lsn {
        Lsn::new(lsn)
    }

    /// Sends one that ends at `end`.
    fn sent(heartbeat: &Heartbeat, end: u64) -> String {
        let (number, content) = heartbeat.begin(Instant::now()).unwrap();
        heartbeat.written(number, at(end));
        content
    }

    #[test]
    fn a_beat_that_is_back_tells_how_long_it_took() {
        let heartbeat = Heartbeat::new(7);
        assert_eq!(heartbeat.judge(), Verdict::Back);
        let start = Instant::now();
        let (_, content) = heartbeat.begin(start).unwrap();
        let took = Duration::from_millis(30);
        // Before Postgres said where it ends.
        assert_eq!(heartbeat.hear(content.as_bytes(), start + took), Some(took));
        assert_eq!(heartbeat.judge(), Verdict::Back);
        assert_eq!(heartbeat.hear(content.as_bytes(), start), None, "only once");
    }

    #[test]
    fn what_others_write_under_our_name_is_not_ours() {
        let heartbeat = Heartbeat::new(7);
        let content = sent(&heartbeat, 100);
        let other = Heartbeat::new(8);
        sent(&other, 100);
        assert_eq!(other.hear(content.as_bytes(), Instant::now()), None);
        for content in ["", "-", "7", "0000000000000007-9", "0000000000000007-x", "\u{e9}-0"] {
            assert_eq!(heartbeat.hear(content.as_bytes(), Instant::now()), None, "{content}");
        }
        assert_eq!(heartbeat.hear(b"\xff-0", Instant::now()), None);
    }

    #[test]
    fn a_beat_the_stream_has_passed_is_lost_at_the_third_time() {
        let heartbeat = Heartbeat::new(7);
        sent(&heartbeat, 100);
        heartbeat.reach(at(100));
        assert_eq!(heartbeat.judge(), Verdict::Missed(1));
        // That other things come is no excuse.
        heartbeat.stir();
        assert_eq!(heartbeat.judge(), Verdict::Missed(2));
        assert_eq!(heartbeat.judge(), Verdict::Lost);
    }

    #[test]
    fn a_later_beat_makes_up_for_a_lost_one() {
        let heartbeat = Heartbeat::new(7);
        sent(&heartbeat, 100);
        heartbeat.reach(at(150));
        assert_eq!(heartbeat.judge(), Verdict::Missed(1));
        assert_eq!(heartbeat.judge(), Verdict::Missed(2));
        let content = sent(&heartbeat, 200);
        assert!(heartbeat.hear(content.as_bytes(), Instant::now()).is_some());
        assert_eq!(heartbeat.judge(), Verdict::Back);
        sent(&heartbeat, 300);
        heartbeat.reach(at(300));
        assert_eq!(heartbeat.judge(), Verdict::Missed(1), "counted anew");
    }

    #[test]
    fn a_stream_that_moves_towards_a_beat_is_waited_for() {
        let heartbeat = Heartbeat::new(7);
        sent(&heartbeat, 100);
        for position in 90..99 {
            heartbeat.reach(at(position));
            assert_eq!(heartbeat.judge(), Verdict::OnItsWay);
        }
        // One large transaction, piece by piece.
        heartbeat.stir();
        assert_eq!(heartbeat.judge(), Verdict::OnItsWay);
        assert_eq!(heartbeat.judge(), Verdict::Missed(1));
    }

    #[test]
    fn a_log_without_room_is_an_excuse_while_it_lasts() {
        let heartbeat = Heartbeat::new(7);
        sent(&heartbeat, 100);
        heartbeat.hold(true);
        assert_eq!(heartbeat.judge(), Verdict::OnItsWay);
        assert_eq!(heartbeat.judge(), Verdict::OnItsWay);
        heartbeat.hold(false);
        assert_eq!(heartbeat.judge(), Verdict::OnItsWay, "it was held a moment ago");
        assert_eq!(heartbeat.judge(), Verdict::Missed(1));
    }

    #[test]
    fn a_stream_that_stands_before_a_beat_is_counted_and_never_lost() {
        let heartbeat = Heartbeat::new(7);
        sent(&heartbeat, 100);
        heartbeat.reach(at(99));
        assert_eq!(heartbeat.judge(), Verdict::OnItsWay);
        for times in 1..9 {
            // Keepalives that say the same again.
            heartbeat.reach(at(99));
            assert_eq!(heartbeat.judge(), Verdict::Missed(times));
        }
    }

    #[test]
    fn few_are_under_way_at_once_and_one_that_was_not_written_is_not_waited_for() {
        let heartbeat = Heartbeat::new(7);
        let numbers: Vec<u64> =
            std::iter::from_fn(|| heartbeat.begin(Instant::now())).map(|beat| beat.0).collect();
        assert_eq!(numbers.len(), MOST);
        for number in numbers {
            heartbeat.abandon(number);
        }
        assert_eq!(heartbeat.judge(), Verdict::Back);
    }
}
