//! One session's place in one channel, and how its frames are written.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::gate::Passage;
use super::proof::Telling;
use super::{Broadcast, Commit, Frame, Gate, Outbox, Proof, RoomName, Seen, Undelivered};
use crate::changelog::Place;
use crate::model::{CallerIdentity, Epoch, Network, Position, Principal};
use crate::source::Break;

/// All the core knows of any client protocol.
pub trait Dialect: Debug + Send + Sync + 'static {
    /// A short name, unique among dialects: frames are shared between members of one dialect.
    fn name(&self) -> &'static str;
    /// One frame for everyone of this dialect who joined `topic` and has the bindings `ids`. `data` is the
    /// ready-made JSON object of the change.
    fn change(&self, topic: &str, ids: &[u64], data: &str) -> Frame;
    /// A `system` message for one member. `join_ref` is JSON text.
    fn notice(&self, topic: &str, join_ref: &str, notice: &Notice) -> Frame;
    /// Who is present, for one member. `join_ref` and `state` are JSON text.
    fn presence_state(&self, topic: &str, join_ref: &str, state: &str) -> Frame;
    /// Who came and went, one frame for everyone of this dialect in `topic`. `diff` is JSON text.
    fn presence_diff(&self, topic: &str, diff: &str) -> Frame;
    /// One frame for everyone of this dialect in `topic`; `None` when the dialect has no way to write it.
    fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame>;
}

/// Messages remembered of one member while its past is read; later ones may then be given twice.
const MOST_HAD: usize = 20_000;

/// What a member was given of the past, and meanwhile.
#[derive(Debug)]
struct Had {
    ids: HashSet<Box<str>, foldhash::fast::RandomState>,
    is_catching_up: bool,
}

/// Something a channel should know: a `system` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whom it concerns, as Supabase names it: `postgres_changes` or `system`.
    pub extension: &'static str,
    /// Whether it is good news.
    pub is_ok: bool,
    /// The text.
    pub message: String,
    /// What is missing, when it tells of changes that the channel will not get.
    pub hole: Option<Hole>,
    /// What was shown, when it tells that a first read is complete.
    pub shown: Option<FirstShown>,
    /// It tells that no place was kept for a `resume` id.
    pub is_new: bool,
}

/// A first read that a channel was given whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstShown {
    /// How many rows it has.
    pub rows: usize,
    /// The position after which the changes that follow were made.
    pub position: Box<str>,
}

/// Changes that a channel does not get. Positions are ids of changes; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// The last change before it, as the client named it or as the relay knows it.
    pub from: Option<Box<str>>,
    /// The first place after it from which on nothing is missing.
    pub to: Option<Box<str>>,
    /// A word for programs, as in the metric `relay_gaps_total`.
    pub reason: &'static str,
}

impl Notice {
    /// Something about row changes.
    pub const fn of_changes(is_ok: bool, message: String) -> Self {
        Self {
            extension: "postgres_changes",
            is_ok,
            message,
            hole: None,
            shown: None,
            is_new: false,
        }
    }

    /// Something about the channel itself.
    pub fn of_channel(is_ok: bool, message: String) -> Self {
        Self { extension: "system", ..Self::of_changes(is_ok, message) }
    }

    /// Row changes are missing.
    pub fn of_hole(message: String, hole: Hole) -> Self {
        Self { hole: Some(hole), ..Self::of_changes(false, message) }
    }

    /// A first read is complete.
    pub fn of_first_read(message: String, shown: FirstShown) -> Self {
        Self { shown: Some(shown), ..Self::of_changes(true, message) }
    }

    /// No place was kept for a `resume` id.
    pub fn of_newcomer(message: String) -> Self {
        Self { is_new: true, ..Self::of_channel(true, message) }
    }

    /// What must be proven of it, if it must be known.
    fn telling(&self) -> Option<Telling> {
        if self.is_ok {
            return self.is_new.then_some(Telling::Newcomer);
        }
        let Some(hole) = &self.hole else { return Some(Telling::Hole) };
        Some(match self.follows() {
            Some(epoch) => Telling::History(Some(epoch)),
            None if Break::is_named(hole.reason) => Telling::History(None),
            None => Telling::Hole,
        })
    }

    /// Of which history changes are that follow, if it says so.
    fn follows(&self) -> Option<Epoch> {
        let hole = self.hole.as_ref().and_then(|hole| hole.to.as_deref());
        let place = hole.or_else(|| self.shown.as_ref().map(|shown| &*shown.position))?;
        place.parse().ok().map(|position: Position| position.epoch)
    }
}

/// One session's place in one channel.
#[derive(Debug)]
pub struct Member {
    /// Unique for the life of the process.
    pub id: u64,
    /// The topic as the client wrote it (`realtime:room`).
    pub topic: Arc<str>,
    /// The join's reference, as JSON text, echoed in `system` messages.
    pub join_ref: Box<str>,
    /// How its frames are written.
    pub dialect: &'static dyn Dialect,
    /// The socket's queue, shared by all channels of the socket.
    pub outbox: Arc<Outbox>,
    principal: Mutex<Arc<Principal>>,
    network: Network,
    room: OnceLock<RoomName>,
    gone: AtomicBool,
    /// Ids of messages it was given, when it hears of the past as well.
    had: OnceLock<Mutex<Had>>,
    troubled: AtomicBool,
    /// What is live waits here while it is shown the past.
    gate: OnceLock<Gate>,
    /// How far it is known to be, when its client can resume.
    proof: OnceLock<Proof>,
}

impl Member {
    /// A member that is present until [`Member::leave`].
    pub fn new(
        id: u64,
        topic: Arc<str>,
        join_ref: Box<str>,
        dialect: &'static dyn Dialect,
        outbox: Arc<Outbox>,
        principal: Arc<Principal>,
    ) -> Self {
        let principal = Mutex::new(principal);
        Self {
            id,
            topic,
            join_ref,
            dialect,
            outbox,
            principal,
            network: Network::UNKNOWN,
            room: OnceLock::new(),
            gone: AtomicBool::new(false),
            had: OnceLock::new(),
            troubled: AtomicBool::new(false),
            gate: OnceLock::new(),
            proof: OnceLock::new(),
        }
    }

    /// Who it acts for now.
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Acts for somebody else from the next change on (a refreshed token).
    pub fn set_principal(&self, principal: Arc<Principal>) {
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = principal;
    }

    /// The same member, whose client comes from `network`.
    pub fn coming_from(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Whose share it uses of what callers share.
    pub fn caller(&self) -> CallerIdentity {
        CallerIdentity::of(&self.principal(), self.network)
    }

    /// The room it is in, or was; [`super::Rooms`] lets it in and out.
    pub fn room(&self) -> Option<&RoomName> {
        self.room.get()
    }

    /// Remembers the room it enters; the first one is for life.
    pub(super) fn enter(&self, room: &RoomName) -> &RoomName {
        self.room.get_or_init(|| room.clone())
    }

    /// Hears of the past as well as of the present: from now on it is remembered what it was given, so that nothing is
    /// given twice. Once in its life, before it enters a room.
    pub fn remember(&self, ids: impl Iterator<Item = Box<str>>) {
        // Only a join replays, and a member joins once.
        let _ = self.had.set(Mutex::new(Had { ids: ids.collect(), is_catching_up: true }));
    }

    /// Whether it was not given this message yet; it is now.
    pub fn is_news(&self, id: &str) -> bool {
        let Some(had) = self.had.get() else { return true };
        let mut had = had.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = !had.ids.contains(id);
        if is_news && had.is_catching_up && had.ids.len() < MOST_HAD {
            had.ids.insert(id.into());
        }
        is_news
    }

    /// The past has met the present: what comes now is new, but for what is remembered.
    pub fn caught_up(&self) {
        if let Some(had) = self.had.get() {
            had.lock().unwrap_or_else(PoisonError::into_inner).is_catching_up = false;
        }
    }

    /// Nothing more is sent to it.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Whether it left.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether rows are withheld from it as of now and it was not told yet.
    pub fn is_new_trouble(&self) -> bool {
        !self.troubled.swap(true, Ordering::Relaxed)
    }

    /// Rows are judged again: the next trouble is news.
    pub fn trouble_is_over(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.troubled.store(false, Ordering::Relaxed);
        }
    }

    /// Shuts its gate: what is live waits, up to `limit_bytes`, until the gate is opened. Once in its life, before it
    /// is subscribed.
    pub fn shut(&self, limit_bytes: usize) {
        // Only a join is shown the past, and a member joins once.
        let _ = self.gate.set(Gate::new(limit_bytes));
    }

    /// Its gate, if it ever had one.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.get()
    }

    /// From now on it is kept how far it is. Once in its life, before it is subscribed.
    pub fn prove(&self, proof: Proof) {
        // Only a join resumes, and a member joins once.
        let _ = self.proof.set(proof);
    }

    /// How far it is, if that is kept.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.get()
    }

    /// Whether a change for this wish may have been seen in a first read.
    pub fn covers(&self, wish: u64) -> bool {
        self.gate.get().is_some_and(|gate| gate.covers(wish))
    }

    /// Whether it is given what is live, because nothing waits at its gate.
    #[cfg(test)]
    pub fn is_live(&self) -> bool {
        self.gate.get().is_none_or(Gate::is_open)
    }

    /// Queues a change, or leaves it at the gate.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn offer_live(&self, commit: Commit, frame: Frame) -> Result<(), Undelivered> {
        match self.pass(Some(commit), frame) {
            Passage::Free(frame) => self.hand(commit.place, frame),
            Passage::Kept => Ok(()),
        }
    }

    /// Queues a change past the gate.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn offer_change(&self, place: Place, frame: Frame) -> Result<(), Undelivered> {
        match self.proof.get() {
            Some(proof) => proof.deliver(place, || self.offer(frame)),
            None => self.offer(frame),
        }
    }

    /// Queues the last word on a first read, past the gate. Changes after `place` follow.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn finish_first(&self, place: Place, notice: &Notice) -> Result<(), Undelivered> {
        let offer = || self.offer(self.write(notice));
        match self.proof.get() {
            Some(proof) => proof.finish(notice.follows(), place, offer),
            None => offer(),
        }
    }

    /// Queues, instead of what it was to be shown of the past, that this is missing. Changes after `place` follow at best.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn give_up(&self, place: Place, notice: &Notice) -> Result<(), Undelivered> {
        let offer = || self.offer(self.write(notice));
        match self.proof.get() {
            Some(proof) => proof.give_up(place, offer),
            None => offer(),
        }
    }

    fn pass(&self, commit: Option<Commit>, frame: Frame) -> Passage {
        match self.gate.get() {
            Some(gate) => gate.pass(commit, frame),
            None => Passage::Free(frame),
        }
    }

    fn hand(&self, place: Place, frame: Frame) -> Result<(), Undelivered> {
        match self.proof.get() {
            Some(proof) => proof.deliver_live(place, || self.offer(frame)),
            None => self.offer(frame),
        }
    }

    /// Opens its gate: what waited comes now, but for what it has `seen`. False when something had been let go.
    pub fn open(&self, seen: Option<Seen>) -> bool {
        let Some(gate) = self.gate.get() else { return true };
        // What cannot be queued is of a member that is being closed.
        let is_whole = gate.open(seen, |commit, frame| {
            let _ = match (commit, self.proof.get()) {
                (Some(commit), _) => self.hand(commit.place, frame),
                (None, Some(proof)) => proof.tell_waiting(|| self.offer(frame)),
                (None, None) => self.offer(frame),
            };
        });
        if let Some(proof) = self.proof.get() {
            proof.arrive(!is_whole);
        }
        is_whole
    }

    /// Queues a frame unless the member left.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn offer(&self, frame: Frame) -> Result<(), Undelivered> {
        if self.is_gone() { Err(Undelivered::Gone) } else { self.outbox.offer(frame) }
    }

    /// Queues a `system` message at once, past the gate. Bad news is told again to whoever resumes, until it is proven.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn notify(&self, notice: &Notice) -> Result<(), Undelivered> {
        self.tell(notice, self.write(notice))
    }

    /// Queues a `system` message among what is live; else like [`Member::notify`].
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn notify_live(&self, notice: &Notice) -> Result<(), Undelivered> {
        match self.pass(None, self.write(notice)) {
            Passage::Free(frame) => self.tell(notice, frame),
            Passage::Kept => {
                if let (Some(proof), Some(telling)) = (self.proof.get(), notice.telling()) {
                    proof.wait_to_tell(telling);
                }
                Ok(())
            }
        }
    }

    fn tell(&self, notice: &Notice, frame: Frame) -> Result<(), Undelivered> {
        match (self.proof.get(), notice.telling()) {
            (Some(proof), Some(telling)) => proof.tell(telling, || self.offer(frame)),
            _ => self.offer(frame),
        }
    }

    fn write(&self, notice: &Notice) -> Frame {
        self.dialect.notice(&self.topic, &self.join_ref, notice)
    }
}
