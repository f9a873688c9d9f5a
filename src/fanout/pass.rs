//! One pass over the past, for members that come along together.
//!
//! Promises: each member is given every change after its place that it asked for and may see now, in commit order,
//! then what is live, without a hole and without a repetition; where that cannot be, it is told what is missing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::audience::{Audience, LateOnes, Way};
use super::catchup::{Arrival, Beginning, CatchUp, Latecomer};
use super::first::{Asked, Job};
use super::lane::Lanes;
use super::lane::NO_EPOCH;
use super::{BATCH_BYTES, Layouts, STRIDE, index, message};
use crate::changelog::{ChangeLog, Gap, Place, Reader};
use crate::hub::{Hole, Member, Notice};
use crate::metrics::reason;
use crate::model::{Epoch, Position, Since, Transaction};
use crate::source::SourceState;

/// A pass is close enough to the present when a look at all that is new takes no longer than this.
const CLOSE: Duration = Duration::from_millis(100);

/// Looks at what is new; then the present is entered however far away it is.
const LOOKS: usize = 10;

/// Bytes that may wait in the outbox of a member before the pass waits for it.
pub(super) const AHEAD: usize = 256 * 1024;

/// How long a pass waits for one member altogether.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a member that is waited for is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// How long a place past the newest change is waited for: after a crash Postgres sends again what was not on disk.
const RETURN: Duration = Duration::from_secs(5);

/// Shows a group of members the past, and lets them into the present. Those whose rows are to be read first stay at their
/// gates until that is done.
pub(super) async fn run<L: ChangeLog>(desk: &CatchUp<L>, group: Vec<Latecomer>) -> Vec<Job> {
    let metrics = &desk.fanout.metrics;
    let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
    metrics.catching_up.inc_by(count);
    let mut pass = Pass {
        desk,
        late: LateOnes::default(),
        layouts: HashMap::new(),
        lanes: Lanes::new(desk.fanout.clone(), Way::Late),
        at: Place::default(),
        epoch: Epoch::new(0),
        waited: HashMap::new(),
        torn: false,
        ahead: VecDeque::new(),
    };
    wait_for_return(&*desk.log, &group).await;
    let mut reader = pass.enter(&group);
    if let Some(reader) = &mut reader {
        for _ in 0..LOOKS {
            let began = Instant::now();
            // Not further than everybody: what comes after their place waits at the gates, and would be given twice.
            pass.read_until(reader, desk.fanout.told.place()).await;
            if began.elapsed() < CLOSE {
                break;
            }
        }
    }
    let mut asked: Vec<Vec<Asked>> = group.iter().map(|one| pass.asked_first(one)).collect();
    for (Latecomer { member, .. }, asked) in group.iter().zip(&asked) {
        if let Some(gate) = member.gate() {
            gate.cover(asked.iter().map(|(id, ..)| *id));
        }
    }
    let members = group.iter().map(|one| (Arc::clone(&one.member), one.wishes.clone())).collect();
    let (begins, begun) = oneshot::channel();
    let _ = desk.arrivals.send(Arrival { members, begins }).await;
    let begun = begun.await.ok();
    if let (Some(Beginning { place, .. }), Some(reader)) = (&begun, &mut reader) {
        pass.read_until(reader, *place).await;
        if desk.log.bounds().epoch != Some(pass.epoch) {
            // Everybody was told before these were there.
            pass.tell_all(pass.words(Gap::OtherEpoch));
        }
    }
    pass.lanes.finish().await;
    let mut jobs = Vec::new();
    for (Latecomer { member, since, .. }, asked) in group.iter().zip(&mut asked) {
        if !asked.is_empty()
            && let Some(Beginning { place, unseen }) = &begun
        {
            let epoch = desk.log.bounds().epoch.unwrap_or(NO_EPOCH);
            let at = Position { epoch, commit_lsn: place.commit_lsn, index: place.index };
            let (member, unseen) = (Arc::clone(member), Arc::clone(unseen));
            jobs.push(Job { member, asked: std::mem::take(asked), at, unseen });
            continue;
        }
        if let Some(proof) = member.proof() {
            let starts = since.iter().filter_map(|(_, since)| since.position());
            proof.begin(starts.map(Place::from).min().unwrap_or_default());
        }
        if !member.open(None) {
            pass.tell_hole(member, None, "catch_up_behind", "too much happened meanwhile");
        }
    }
    metrics.catching_up.dec_by(count);
    metrics.caught_up.inc_by(count.unsigned_abs());
    jobs
}

/// Waits a moment for places that the log has not reached yet.
async fn wait_for_return<L: ChangeLog>(log: &L, group: &[Latecomer]) {
    let deadline = Instant::now() + RETURN;
    let is_ahead = |since: &Since| match since {
        Since::After(position) => matches!(log.bounds().check(*position), Err(Gap::Ahead { .. })),
        Since::Within(_) | Since::Unreadable => false,
    };
    let all = || group.iter().flat_map(|one| &one.since);
    while all().any(|(_, since)| is_ahead(since)) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

/// A pass under way.
struct Pass<'a, L> {
    desk: &'a CatchUp<L>,
    late: LateOnes,
    layouts: Layouts,
    lanes: Lanes,
    /// Everything up to here was handed out.
    at: Place,
    epoch: Epoch,
    /// For how long each member was waited for.
    waited: HashMap<u64, Duration>,
    /// Those who continue were told that something is missing.
    torn: bool,
    /// Read, and not handed out yet.
    ahead: VecDeque<Arc<Transaction>>,
}

impl<L: ChangeLog> Pass<'_, L> {
    /// Enters whoever can continue where it was, tells the others, and opens a reader at the earliest place.
    fn enter(&mut self, group: &[Latecomer]) -> Option<Reader> {
        let mut first: Option<Position> = None;
        for Latecomer { member, wishes, since, .. } in group {
            let mut is_told = false;
            for (id, since) in since {
                let (from, why) = match since {
                    Since::Unreadable => (None, UNREADABLE),
                    Since::Within(position) => (Some(*position), CUT_SHORT),
                    Since::After(position) => match self.desk.log.bounds().check(*position) {
                        Ok(()) => {
                            let place = Place::from(*position);
                            self.late.starts.insert((member.id, *id), place);
                            if first.is_none_or(|first| place < Place::from(first)) {
                                first = Some(*position);
                            }
                            continue;
                        }
                        Err(gap) => (Some(*position), self.words(gap)),
                    },
                };
                if !is_told {
                    self.tell_hole(member, from, why.0, why.1);
                    is_told = true;
                }
            }
            let continued =
                wishes.iter().filter(|(id, _)| self.late.starts.contains_key(&(member.id, *id)));
            let continued: Vec<_> = continued.cloned().collect();
            self.late.membership.subscribe(member, &continued);
        }
        let first = first?;
        (self.at, self.epoch) = (first.into(), first.epoch);
        match self.desk.log.read_from(first) {
            Ok(reader) => Some(reader),
            Err(gap) => {
                self.tell_all(self.words(gap));
                None
            }
        }
    }

    /// What of a member's wishes is to be read first, because it does not continue.
    fn asked_first(&self, one: &Latecomer) -> Vec<Asked> {
        let continues = |id| !self.torn && self.late.starts.contains_key(&(one.member.id, id));
        let asked = one.firsts.iter().filter(|(id, _)| !continues(*id));
        let asked = asked.filter_map(|(id, first)| {
            let (_, wish) = one.wishes.iter().find(|(wish, _)| wish == id)?;
            Some((*id, Arc::clone(wish), first.clone()))
        });
        asked.collect()
    }

    /// Hands out what the log has up to `end`.
    async fn read_until(&mut self, reader: &mut Reader, end: Place) {
        loop {
            while let Some(piece) = self.ahead.pop_front_if(|piece| Place::last_of(piece) <= end) {
                self.hand_out(&piece).await;
            }
            self.lanes.finish().await;
            self.wait_for_readers().await;
            // Where another history began meanwhile, places of the one before may be out of reach.
            let is_there = end.min(self.desk.log.bounds().newest) <= self.at;
            if is_there || !self.ahead.is_empty() {
                return;
            }
            let batch = self.desk.log.read(reader, BATCH_BYTES);
            match self.lanes.meanwhile(batch).await {
                Ok(batch) => self.ahead.extend(batch),
                Err(gap) => {
                    self.tell_all(self.words(gap));
                    match gap {
                        Gap::Forgotten { oldest } => self.at = self.at.max(oldest),
                        Gap::OtherEpoch => {
                            self.at = end;
                            self.epoch = self.desk.log.bounds().epoch.unwrap_or(self.epoch);
                        }
                        Gap::Ahead { .. } => self.at = end,
                    }
                }
            }
        }
    }

    async fn hand_out(&mut self, piece: &Transaction) {
        if piece.oversized {
            self.lanes.finish().await;
            self.tell_all(TOO_LARGE);
        }
        for (place, change) in piece.changes.iter().enumerate() {
            // What the database said in a channel has its own way to the past.
            if !message::is_messages(&change.relation) {
                let (epoch, commit_lsn) = (self.epoch, piece.commit_lsn);
                let id = Position { epoch, commit_lsn, index: index(piece, place) };
                let audience = Audience::Late(&self.late);
                self.desk
                    .fanout
                    .match_change(piece, id, change, audience, &mut self.layouts, &mut self.lanes)
                    .await;
            }
            if place % STRIDE == STRIDE - 1 {
                self.lanes.pump();
                self.lanes.meanwhile(tokio::task::yield_now()).await;
            }
        }
        self.at = Place::last_of(piece);
    }

    /// Waits for members that have much to read: nothing they asked for may push them out.
    async fn wait_for_readers(&mut self) {
        let members: Vec<_> = self.late.membership.everyone().cloned().collect();
        for member in members {
            let waited = self.waited.entry(member.id).or_default();
            while AHEAD < member.outbox.bytes() && !member.is_gone() && *waited < PATIENCE {
                sleep(LOOK).await;
                *waited += LOOK;
            }
        }
    }

    fn tell_all(&mut self, why: (&'static str, &'static str)) {
        self.torn = true;
        for member in self.late.membership.everyone() {
            let at = Position {
                epoch: self.epoch,
                commit_lsn: self.at.commit_lsn,
                index: self.at.index,
            };
            self.tell_hole(member, Some(at), why.0, why.1);
        }
    }

    /// The word for metrics and programs, and those for people.
    fn words(&self, gap: Gap) -> (&'static str, &'static str) {
        match gap {
            Gap::Forgotten { .. } => ("retention", "the log no longer goes back so far"),
            Gap::OtherEpoch => match &*self.desk.fanout.source.borrow() {
                SourceState::Streaming { begun_by: Some(why), .. } => (why.word(), why.words()),
                _ => ("history_lost", "the position is of another history"),
            },
            Gap::Ahead { .. } => ("unknown_position", "the position is past the newest change"),
        }
    }

    /// Tells a member that changes after `from` are missing.
    fn tell_hole(
        &self,
        member: &Arc<Member>,
        from: Option<Position>,
        why: &'static str,
        words: &str,
    ) {
        let bounds = self.desk.log.bounds();
        self.desk.fanout.metrics.gaps.get_or_create(&reason(why)).inc();
        let to = bounds.epoch.map(|epoch| {
            let Place { commit_lsn, index } = bounds.newest;
            Position { epoch, commit_lsn, index }.to_string().into()
        });
        let from = from.map(|from| from.to_string().into());
        let message = format!("Changes may be missing: {words}. Please read the table again.");
        Way::Late.tell(member, &Notice::of_hole(message, Hole { from, to, reason: why }));
    }
}

const UNREADABLE: (&str, &str) = ("unknown_position", "`since` is not the id of a change");
const CUT_SHORT: (&str, &str) = ("snapshot_incomplete", "the snapshot before was cut short");
const TOO_LARGE: (&str, &str) = ("transaction_too_large", "a transaction was too large to hold");
