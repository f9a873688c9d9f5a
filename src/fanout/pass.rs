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
use super::{BATCH_BYTES, Layouts, STRIDE, message, position};
use crate::changelog::{ChangeLog, Gap, NO_EPOCH, Place, Read, Reader};
use crate::hub::{Hole, Member, Notice};
use crate::metrics::reason;
use crate::model::{Position, Since, Transaction};
use crate::source::SourceState;

/// A pass is close enough to the present when a look at all that is new takes no longer than this.
const CLOSE: Duration = Duration::from_millis(100);

/// Looks at what is new; then the present is entered however far away it is.
const LOOKS: usize = 10;

/// Bytes that may wait in the outbox of a member before the pass waits for it.
pub(super) const AHEAD: usize = 256 * 1024;

/// How long one member is waited for altogether.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long members that read fast wait at a time for those that do not.
const TOGETHER: Duration = Duration::from_secs(1);

/// How often a member that is waited for is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// With whom members go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// With everybody: who reads too slowly is left behind.
    Together,
    /// With others that were left behind.
    Slow,
}

/// What came of a pass.
#[derive(Debug)]
pub(super) struct Passed {
    /// Members that have arrived, and whose rows are to be read.
    pub(super) jobs: Vec<Job>,
    /// Members that were left behind, and go on from there.
    pub(super) slow: Vec<Latecomer>,
}

/// Shows a group of members the past, and lets them into the present. Those whose rows are to be read first stay at their
/// gates until that is done.
pub(super) async fn run<L: ChangeLog>(
    desk: &CatchUp<L>,
    mut group: Vec<Latecomer>,
    pace: Pace,
) -> Passed {
    let metrics = &desk.fanout.metrics;
    let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
    metrics.catching_up.inc_by(count);
    let mut pass = Pass {
        desk,
        late: LateOnes { membership: desk.fanout.hub.nobody(), ..LateOnes::default() },
        layouts: HashMap::new(),
        lanes: Lanes::new(desk.fanout.clone(), Way::Late),
        at: Place::default().of(NO_EPOCH),
        pace,
        has_arrived: false,
        waited: HashMap::new(),
        left: HashMap::new(),
        torn: false,
        ahead: VecDeque::new(),
    };
    let mut reader = pass.enter(&group);
    if let Some(reader) = &mut reader {
        for _ in 0..LOOKS {
            let began = Instant::now();
            // Not further than everybody: what comes after their place waits at the gates, and would be given twice.
            let Some(told) = desk.fanout.told.position() else { break };
            pass.read_until(reader, told).await;
            if began.elapsed() < CLOSE {
                break;
            }
        }
    }
    let slow = pass.leave_behind(&mut group);
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
    pass.has_arrived = true;
    if let (Some(Beginning { at, .. }), Some(reader)) = (&begun, &mut reader) {
        pass.read_until(reader, *at).await;
    }
    pass.lanes.finish().await;
    let mut jobs = Vec::new();
    for (Latecomer { member, since, .. }, asked) in group.iter().zip(&mut asked) {
        if !asked.is_empty()
            && let Some(Beginning { at, unseen }) = &begun
        {
            let (member, unseen) = (Arc::clone(member), Arc::clone(unseen));
            jobs.push(Job { member, asked: std::mem::take(asked), at: *at, unseen });
            continue;
        }
        begin_proof(member, since);
        if !member.open(None) {
            pass.tell_hole(member, None, "catch_up_behind", "too much happened meanwhile");
        }
    }
    metrics.catching_up.dec_by(count);
    metrics.caught_up.inc_by(u64::try_from(group.len()).unwrap_or(u64::MAX));
    Passed { jobs, slow }
}

/// A member continues everywhere: no first read comes before what it is proven to have.
fn begin_proof(member: &Member, since: &[(u64, Since)]) {
    if let Some(proof) = member.proof() {
        let starts = since.iter().filter_map(|(_, since)| since.position());
        proof.begin(starts.map(Place::from).min().unwrap_or_default());
    }
}

/// A pass under way.
struct Pass<'a, L> {
    desk: &'a CatchUp<L>,
    late: LateOnes,
    layouts: Layouts,
    lanes: Lanes,
    /// Everything up to here was handed out.
    at: Position,
    pace: Pace,
    /// The members are in the present: what comes after waits at their gates.
    has_arrived: bool,
    /// For how long each member was waited for.
    waited: HashMap<u64, Duration>,
    /// Where members were left behind, and whether they had been told that something is missing.
    left: HashMap<u64, (Position, bool)>,
    /// Those who continue were told that something is missing.
    torn: bool,
    /// Read, and not handed out yet.
    ahead: VecDeque<Arc<Transaction>>,
}

impl<L: ChangeLog> Pass<'_, L> {
    /// Enters whoever can continue where it was, tells the others, and opens a reader at the earliest place.
    fn enter(&mut self, group: &[Latecomer]) -> Option<Reader> {
        let mut first: Option<Position> = None;
        // Whoever is told that something is missing may read the table at once, and is given what comes after that.
        let now = self.present();
        for Latecomer { member, wishes, since, firsts } in group {
            let mut is_told = false;
            let is_read = |id: u64| firsts.iter().any(|(first, _)| *first == id);
            for (id, since) in since {
                let (from, why) = match since {
                    Since::Unreadable => (None, UNREADABLE),
                    Since::Within(position) => (Some(*position), CUT_SHORT),
                    Since::After(position) => match self.desk.reach().check(*position) {
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
                if let Some(now) = now.filter(|_| !is_read(*id)) {
                    self.late.starts.insert((member.id, *id), now.into());
                    if first.is_none_or(|first| Place::from(now) < Place::from(first)) {
                        first = Some(now);
                    }
                }
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
        self.at = first;
        match self.desk.log.read_from(first) {
            Ok(reader) => Some(reader),
            Err(gap) => {
                self.tell_all(self.words(gap));
                self.at = now?;
                self.late.starts.values_mut().for_each(|start| *start = self.at.into());
                self.desk.log.read_from(self.at).ok()
            }
        }
    }

    /// How far everything was handed out, in the history that the log has.
    fn present(&self) -> Option<Position> {
        let epoch = self.desk.log.bounds().epoch;
        self.desk.fanout.told.position().filter(|told| epoch == Some(told.epoch))
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

    /// Hands out what the log has up to `end`, where the fan-out is or was.
    async fn read_until(&mut self, reader: &mut Reader, end: Position) {
        loop {
            let is_here = self.at.epoch == end.epoch;
            let is_within =
                |piece: &mut Arc<Transaction>| is_here && Place::last_of(piece) <= end.into();
            while let Some(piece) = self.ahead.pop_front_if(is_within) {
                self.hand_out(&piece).await;
            }
            self.lanes.finish().await;
            self.wait_for_readers().await;
            if self.is_at(end) || !self.ahead.is_empty() || self.is_deserted() {
                return;
            }
            let reading = self.desk.log.read(reader, BATCH_BYTES);
            match self.lanes.meanwhile(reading).await {
                Ok(Read::Pieces(batch)) => self.ahead.extend(batch),
                Ok(Read::Begun(at)) => {
                    self.tell_all(self.words(Gap::OtherEpoch));
                    self.at = at;
                    // Nobody has anything of it.
                    self.late.starts.values_mut().for_each(|start| *start = Place::default());
                }
                Err(gap) => {
                    self.tell_all(self.words(gap));
                    if let Gap::Forgotten { oldest } = gap {
                        self.at = oldest.max(self.at.into()).of(self.at.epoch);
                    }
                }
            }
        }
    }

    /// Whether everything up to `end` was handed out, as far as it can be.
    fn is_at(&self, end: Position) -> bool {
        if self.at.epoch == end.epoch {
            return Place::from(end) <= self.at.into();
        }
        // In the present history it is ahead of the fan-out; in an earlier one, the reader is told of the next.
        self.desk.log.bounds().epoch == Some(self.at.epoch)
    }

    /// Whether nobody is there any more.
    fn is_deserted(&self) -> bool {
        self.late.membership.everyone().all(|member| member.is_gone())
    }

    async fn hand_out(&mut self, piece: &Transaction) {
        if piece.oversized {
            self.lanes.finish().await;
            self.tell_all(TOO_LARGE);
        }
        for (place, change) in piece.changes.iter().enumerate() {
            // What the database said in a channel has its own way to the past.
            if !message::is_messages(&change.relation) {
                let id = position(self.at.epoch, piece, place);
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
        self.at = Place::last_of(piece).of(self.at.epoch);
    }

    /// Waits for members that have much to read: nothing they asked for may push them out. Those that take longer than
    /// the others wait are left behind; when it is too late for that, they are not waited for any more.
    async fn wait_for_readers(&mut self) {
        let mut behind: Vec<_> = self.late.membership.everyone().cloned().collect();
        let mut waited = Duration::ZERO;
        loop {
            behind.retain(|member| {
                let patience = PATIENCE.saturating_sub(self.waited_for(member));
                AHEAD < member.outbox.bytes() && !member.is_gone() && !patience.is_zero()
            });
            if behind.is_empty() {
                return;
            }
            if self.pace == Pace::Together && TOGETHER <= waited {
                break;
            }
            sleep(LOOK).await;
            waited += LOOK;
            for member in &behind {
                *self.waited.entry(member.id).or_default() += LOOK;
            }
        }
        for member in behind {
            if self.has_arrived {
                self.waited.insert(member.id, PATIENCE);
            } else {
                self.late.membership.remove(member.id);
                self.left.insert(member.id, (self.at, self.torn));
            }
        }
    }

    fn waited_for(&self, member: &Member) -> Duration {
        self.waited.get(&member.id).copied().unwrap_or_default()
    }

    /// Takes those out of the group that were left behind.
    fn leave_behind(&self, group: &mut Vec<Latecomer>) -> Vec<Latecomer> {
        let left = group.extract_if(.., |one| self.left.contains_key(&one.member.id));
        let go_on = left.map(|Latecomer { member, wishes, since, firsts }| {
            let (at, torn) = self.left.get(&member.id).copied().unwrap_or((self.at, self.torn));
            let is_first = |id: u64| firsts.iter().any(|(first, _)| *first == id);
            let continues = |id: u64| {
                self.late.starts.contains_key(&(member.id, id)) && !(torn && is_first(id))
            };
            if firsts.iter().all(|(id, _)| continues(*id)) {
                begin_proof(&member, &since);
            }
            let goes_on = |id: u64| {
                let start = self.late.starts.get(&(member.id, id)).copied().unwrap_or_default();
                (id, Since::After(start.max(at.into()).of(at.epoch)))
            };
            let since = since.iter().filter(|(id, _)| continues(*id));
            let since = since.map(|(id, _)| goes_on(*id)).collect();
            Latecomer { member, wishes, since, firsts }
        });
        go_on.collect()
    }

    fn tell_all(&mut self, why: (&'static str, &'static str)) {
        self.torn = true;
        for member in self.late.membership.everyone() {
            self.tell_hole(member, Some(self.at), why.0, why.1);
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
        let to = bounds.epoch.map(|epoch| bounds.newest.of(epoch).to_string().into());
        let from = from.map(|from| from.to_string().into());
        let message = format!("Changes may be missing: {words}. Please read the table again.");
        Way::Late.tell(member, &Notice::of_hole(message, Hole { from, to, reason: why }));
    }
}

const UNREADABLE: (&str, &str) = ("unknown_position", "`since` is not the id of a change");
const CUT_SHORT: (&str, &str) = ("snapshot_incomplete", "the snapshot before was cut short");
const TOO_LARGE: (&str, &str) = ("transaction_too_large", "a transaction was too large to hold");
