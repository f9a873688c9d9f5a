//! The presence of every room, told to those in it who want to know.
//!
//! A member attends to be told; what it is given first is the state as told so far, and every diff after that. A
//! room's presence is kept while somebody is tracked in it. Diffs are told in the turn that makes them when it is
//! time, and by [`Presences::run`] when they gather or a grace time ends. Telling never waits for anybody.
//!
//! Lock order: a room's presence, then who is in the room, then the alarms.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

use super::presence::{Diff, Payload, Presence, Tracked};
use super::{Frame, Member, Receives, RoomName, Rooms};
use crate::metrics::Metrics;
use crate::shutdown::Stage;

/// Diffs of one room are this far apart: a crowd that comes at once is told together.
const GATHER: Duration = Duration::from_millis(50);

/// Somebody who may be present.
#[derive(Clone, Debug)]
pub struct Attendee {
    /// Who is told.
    pub member: Arc<Member>,
    /// Where.
    pub room: RoomName,
    /// As whom it tracks.
    pub key: Arc<str>,
    /// The client chose the key, so that somebody who comes back can be known by it.
    pub is_named: bool,
}

/// The presence of all rooms.
#[derive(Debug)]
pub struct Presences {
    rooms: Arc<Rooms>,
    kept: Mutex<HashMap<RoomName, Arc<Kept>, foldhash::fast::RandomState>>,
    alarms: Mutex<BTreeMap<Alarm, RoomName>>,
    earlier: Notify,
    grace: Duration,
    seed: u64,
    references: AtomicU64,
    metrics: Metrics,
}

/// When a room is to be looked at; a number tells equal times apart.
type Alarm = (Instant, u64);

#[derive(Debug)]
struct Kept(Mutex<State>);

#[derive(Debug)]
struct State {
    presence: Presence,
    /// Its one alarm, if it is set.
    alarm: Option<Alarm>,
    /// Nobody is tracked any more: whoever comes next starts a new presence of the same room.
    is_over: bool,
}

impl Presences {
    /// Nobody is present. A lost member stays for `grace`; `seed` makes references differ from those of other lives
    /// of the relay.
    pub fn new(rooms: Arc<Rooms>, grace: Duration, seed: u64, metrics: Metrics) -> Self {
        Self {
            rooms,
            kept: Mutex::default(),
            alarms: Mutex::default(),
            earlier: Notify::new(),
            grace,
            seed,
            references: AtomicU64::new(1),
            metrics,
        }
    }

    /// From now on the member is told who comes and goes, and `receives` what it says; first it is given who is here.
    pub fn attend(&self, now: Instant, attendee: &Attendee, receives: Receives) {
        self.with(now, &attendee.room, |presence| {
            let member = &attendee.member;
            self.rooms.enter(&attendee.room, member, Receives { presence: true, ..receives });
            let state = presence.state();
            self.give(
                member,
                member.dialect.presence_state(&member.topic, &member.join_ref, &state),
            );
        });
    }

    /// The attendee tracks this payload from now on. One who is not told of presence is not told of its own either.
    pub fn track(&self, now: Instant, attendee: &Attendee, payload: Payload, is_told: bool) {
        let (member, reference) = (&attendee.member, self.reference());
        self.with(now, &attendee.room, |presence| {
            let tracked = presence.track(member.id, &attendee.key, payload, reference);
            if let Tracked::Resumed(own) = tracked
                && is_told
            {
                self.give(member, member.dialect.presence_diff(&member.topic, &own.to_json()));
            }
        });
    }

    /// The attendee tracks nothing any more, or left.
    pub fn untrack(&self, now: Instant, attendee: &Attendee) {
        self.with(now, &attendee.room, |presence| {
            presence.untrack(attendee.member.id, &attendee.key);
        });
    }

    /// The attendee's socket broke. One whose key was made for it cannot come back: it is gone at once.
    pub fn lose(&self, now: Instant, attendee: &Attendee) {
        self.with(now, &attendee.room, |presence| match attendee.is_named {
            true => presence.lose(now, attendee.member.id, &attendee.key),
            false => drop(presence.untrack(attendee.member.id, &attendee.key)),
        });
    }

    /// Tells what gathered and ends grace times, until the stage stops.
    pub async fn run(&self, stage: Stage) {
        loop {
            while let Some((alarm, room)) = self.due(Instant::now()) {
                self.look(Instant::now(), alarm, &room);
            }
            let next = self.alarms().keys().next().map(|(at, _)| (*at).into());
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stage.stopping() => return,
                () = self.earlier.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// The next room whose alarm has gone off.
    fn due(&self, now: Instant) -> Option<(Alarm, RoomName)> {
        let mut alarms = self.alarms();
        let first = alarms.first_entry()?;
        (first.key().0 <= now).then(|| first.remove_entry())
    }

    /// Looks at a room whose alarm went off, if anybody is still tracked there.
    fn look(&self, now: Instant, alarm: Alarm, room: &RoomName) {
        let Some(kept) = self.kept().get(room).map(Arc::clone) else { return };
        let mut state = kept.lock();
        if state.alarm == Some(alarm) {
            state.alarm = None;
            self.settle(now, room, &kept, state);
        }
    }

    /// Does something to a room's presence, and tells what is to be told.
    fn with(&self, now: Instant, room: &RoomName, act: impl FnOnce(&mut Presence)) {
        loop {
            let kept = Arc::clone(self.kept().entry(room.clone()).or_insert_with(|| {
                let presence = Presence::new(now, self.grace, GATHER);
                Arc::new(Kept(Mutex::new(State { presence, alarm: None, is_over: false })))
            }));
            let mut state = kept.lock();
            if !state.is_over {
                let before = state.presence.tracked();
                act(&mut state.presence);
                self.count(before, state.presence.tracked());
                return self.settle(now, room, &kept, state);
            }
            drop(state);
            self.forget(room, &kept);
        }
    }

    /// Tells what is to be told now and sets an alarm for the rest.
    fn settle(
        &self,
        now: Instant,
        room: &RoomName,
        kept: &Arc<Kept>,
        mut state: MutexGuard<'_, State>,
    ) {
        let before = state.presence.tracked();
        state.presence.expire(now);
        self.count(before, state.presence.tracked());
        if let Some(diff) = state.presence.take_diff(now) {
            self.tell(room, &diff);
        }
        if state.presence.is_empty() {
            state.is_over = true;
            self.set_alarm(&mut state, None, room);
            drop(state);
            return self.forget(room, kept);
        }
        let deadline = state.presence.deadline();
        if deadline != state.alarm.map(|(at, _)| at) {
            self.set_alarm(&mut state, deadline, room);
        }
    }

    /// Gives a frame to one member. A closed outbox is noticed by whoever drains it.
    fn give(&self, member: &Member, frame: Frame) {
        if member.offer(frame).is_ok() {
            self.metrics.deliveries.inc();
        }
    }

    fn tell(&self, room: &RoomName, diff: &Diff) {
        let json = diff.to_json();
        self.rooms.give(
            room,
            |_, receives| receives.presence,
            |dialect, topic| Some(dialect.presence_diff(topic, &json)),
        );
    }

    /// Sets the room's alarm to another time, or none.
    fn set_alarm(&self, state: &mut State, at: Option<Instant>, room: &RoomName) {
        let alarm = at.map(|at| (at, self.references.fetch_add(1, Ordering::Relaxed)));
        let before = std::mem::replace(&mut state.alarm, alarm);
        let mut alarms = self.alarms();
        before.map(|before| alarms.remove(&before));
        let Some(alarm) = alarm else { return };
        let is_first = alarms.keys().next().is_none_or(|first| alarm < *first);
        alarms.insert(alarm, room.clone());
        drop(alarms);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Forgets a presence that is over, unless somebody did, and perhaps started another since.
    fn forget(&self, room: &RoomName, over: &Arc<Kept>) {
        let mut kept = self.kept();
        if kept.get(room).is_some_and(|kept| Arc::ptr_eq(kept, over)) {
            kept.remove(room);
        }
    }

    /// A reference nobody has: 16 characters.
    fn reference(&self) -> Box<str> {
        let number = self.references.fetch_add(1, Ordering::Relaxed);
        let ([a, b, c, d, e, f, ..], [.., g, h, i, j, k, l]) =
            (self.seed.to_be_bytes(), number.to_be_bytes());
        URL_SAFE_NO_PAD.encode([a, b, c, d, e, f, g, h, i, j, k, l]).into()
    }

    fn count(&self, before: usize, after: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.presences.inc_by(number(after) - number(before));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Kept>, foldhash::fast::RandomState>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alarms(&self) -> MutexGuard<'_, BTreeMap<Alarm, RoomName>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock leaves at worst something untold.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
