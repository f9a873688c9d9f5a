//! One lane per principal: its changes in order, judged in rounds, holding up nobody else.
//!
//! A lane exists while it has work. A change that needs no judging, for a principal without a lane, is handed out at
//! once. A member that changes principal (a refreshed token) gets the new principal's changes only after the old
//! lane finished what it had for it, so its changes stay in order. A change waits only for earlier ones, so lanes never
//! wait for each other in a circle.
//!
//! Overflow: when the lanes together hold [`HELD_LIMIT`], the fan-out waits for them a moment; then the lane that holds
//! the most lets its changes go, and its members are told of a gap.

mod queue;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use self::queue::{Lane, Piece, Queued};
use super::Fanout;
use super::audience::Way;
use super::held::Held;
use super::render::Shown;
use super::round::{Judged, judge};
use super::sighting::Sighting;
use super::work::{Answers, Ask, Decision, Plan, Work, by_principal};
use crate::auth::visibility::Trouble;
use crate::hub::{Hole, Member, Notice};
use crate::metrics::reason;
use crate::model::{Epoch, Position, Principal, Relation};

/// Changes judged in one round of a lane.
const ROUND: usize = 512;

/// Bytes of changes judged in one round of a lane, unless one alone has more.
const ROUND_BYTES: usize = 16 << 20;

/// Bytes that the changes waiting in all lanes may take.
const HELD_LIMIT: usize = 256 << 20;

/// How long the fan-out waits for lanes that hold too much to get down to half of it.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// Members remembered by the lane they last waited in before those that wait no longer are forgotten.
const REMEMBERED: usize = 1024;

type PrincipalRef = Arc<Principal>;

/// A place in the order of matching, and the lane it is in.
type Place = (PrincipalRef, u64);

/// All lanes.
pub(super) struct Lanes {
    fanout: Fanout,
    lanes: HashMap<PrincipalRef, Lane, foldhash::fast::RandomState>,
    rounds: FuturesUnordered<BoxFuture<'static, (PrincipalRef, Vec<Judged>)>>,
    /// The last thing that waited for a member.
    last: HashMap<u64, Place, foldhash::fast::RandomState>,
    /// Above this many members, those that wait no longer are forgotten.
    remembered: usize,
    /// Lanes that may have something to start.
    stirred: Vec<PrincipalRef>,
    /// Lanes whose next piece waits for another lane.
    blocked: Vec<PrincipalRef>,
    held: Held,
    sequence: u64,
    way: Way,
}

impl Lanes {
    pub(super) fn new(fanout: Fanout, way: Way) -> Self {
        Self {
            fanout,
            way,
            lanes: HashMap::default(),
            rounds: FuturesUnordered::new(),
            last: HashMap::default(),
            remembered: REMEMBERED,
            stirred: Vec::new(),
            blocked: Vec::new(),
            held: Held::nothing(),
            sequence: 0,
        }
    }

    /// Takes a change and everyone who asked for it, in commit order.
    pub(super) fn take(&mut self, sighting: Arc<Sighting>, asks: Vec<Ask>) {
        let (mut held, none) = (None, Answers::new());
        let is_waiting = |ask: &Ask| {
            let waiting = self.waiting(ask.member.id);
            waiting.is_some_and(|(lane, _)| **lane != Principal::of_role(lane.role()))
        };
        for (principal, asks) in by_principal(&sighting, asks, is_waiting) {
            let work = Work { sighting: Arc::clone(&sighting), asks };
            let after = self.places_before(&work, &principal);
            if after.is_empty() && !self.lanes.contains_key(&principal) {
                let plan = Plan::unasked(&work, &principal, self.fanout.deletes);
                if let Some(plan) = plan {
                    self.deliver(&principal, &work, &plan, [&none, &none]);
                    continue;
                }
            }
            let size = sighting.size();
            let row = held.get_or_insert_with(|| Arc::new(self.held.more(size)));
            let asks = size_of::<Ask>() * work.asks.len();
            let holds = [Arc::clone(row), Arc::new(self.held.more(asks))];
            let members: Vec<u64> = work.asks.iter().map(|ask| ask.member.id).collect();
            let piece = Piece::Change((work, holds));
            self.enqueue(principal, after, size + asks, piece, &members);
        }
    }

    fn enqueue(
        &mut self,
        principal: PrincipalRef,
        after: SmallVec<[Place; 1]>,
        bytes: usize,
        piece: Piece,
        members: &[u64],
    ) {
        self.sequence += 1;
        let sequence = self.sequence;
        for member in members {
            self.last.insert(*member, (Arc::clone(&principal), sequence));
        }
        let lane = self.lanes.entry(Arc::clone(&principal)).or_default();
        if lane.judging.is_none() && lane.queue.is_empty() {
            self.stirred.push(principal);
        }
        lane.push(Queued { sequence, after, bytes, piece });
        if self.remembered < self.last.len() {
            let lanes = &self.lanes;
            self.last.retain(|_, (principal, sequence)| {
                lanes.get(principal).is_some_and(|lane| !lane.has_passed(*sequence))
            });
            self.remembered = REMEMBERED.max(2 * self.last.len());
        }
    }

    /// What other lanes still hold for a member of `work`.
    fn places_before(&self, work: &Work, principal: &PrincipalRef) -> SmallVec<[Place; 1]> {
        let mut before: SmallVec<[Place; 1]> = SmallVec::new();
        if self.lanes.is_empty() {
            return before;
        }
        for ask in &work.asks {
            let Some((lane, sequence)) = self.waiting(ask.member.id) else { continue };
            if *lane == *principal {
                continue;
            }
            match before.iter_mut().find(|(held, _)| held == lane) {
                Some((_, held)) => *held = (*held).max(*sequence),
                None => before.push((Arc::clone(lane), *sequence)),
            }
        }
        before
    }

    /// The last thing that still waits for a member.
    fn waiting(&self, member: u64) -> Option<&Place> {
        self.last.get(&member).filter(|place| !self.has_passed(place))
    }

    fn has_passed(&self, (lane, sequence): &Place) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.has_passed(*sequence))
    }

    /// Tells everyone who is subscribed, each after what already waits for it; how many they are.
    pub(super) fn announce(&mut self, notice: &Notice) -> usize {
        let everyone: Vec<Arc<Member>> = self.fanout.hub.read().everyone().cloned().collect();
        let count = everyone.len();
        let mut waiting: HashMap<PrincipalRef, Vec<Arc<Member>>> = HashMap::new();
        for member in everyone {
            match self.waiting(member.id) {
                Some((lane, _)) => waiting.entry(Arc::clone(lane)).or_default().push(member),
                None => self.way.tell(&member, notice),
            }
        }
        for (lane, members) in waiting {
            let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
            let piece = Piece::Notice(notice.clone(), members);
            self.enqueue(lane, SmallVec::new(), 0, piece, &ids);
        }
        count
    }

    /// Starts a round for every lane that can.
    pub(super) fn pump(&mut self) {
        while let Some(principal) = self.stirred.pop() {
            self.start(principal);
        }
    }

    fn start(&mut self, principal: PrincipalRef) {
        let mut works = Vec::new();
        let (mut first, mut bytes) = (None, 0);
        loop {
            let Some(lane) = self.lanes.get(&principal) else { return };
            if lane.judging.is_some() {
                return;
            }
            let Some(next) = lane.queue.front() else { break };
            if !next.after.iter().all(|place| self.has_passed(place)) {
                if works.is_empty() {
                    return self.blocked.push(principal);
                }
                break;
            }
            let is_notice = matches!(next.piece, Piece::Notice(..));
            bytes += next.bytes;
            let is_full = ROUND <= works.len() || ROUND_BYTES < bytes;
            if (is_full || is_notice) && !works.is_empty() {
                break;
            }
            let next = self.lanes.get_mut(&principal).and_then(Lane::pop);
            match next.map(|next| (next.sequence, next.piece)) {
                Some((sequence, Piece::Change(work))) => {
                    first.get_or_insert(sequence);
                    works.push(work);
                }
                Some((_, Piece::Notice(notice, members))) => {
                    for member in &members {
                        self.way.tell(member, &notice);
                    }
                }
                None => break,
            }
        }
        let Some(lane) = self.lanes.get_mut(&principal) else { return };
        if works.is_empty() {
            self.lanes.remove(&principal);
            self.stirred.append(&mut self.blocked);
            return;
        }
        lane.judging = first;
        lane.judging_from = works.first().map(|(work, _)| work.sighting.id);
        let fanout = self.fanout.clone();
        self.rounds.push(Box::pin(async move {
            let judged = judge(&fanout, &principal, works).await;
            (principal, judged)
        }));
    }

    /// Waits for a round to finish and hands out what it decided. Pending while no round is under way. Cancel-safe.
    pub(super) async fn turn(&mut self) {
        let next = self.rounds.next().await;
        let Some((principal, judged)) = next else { return std::future::pending().await };
        for Judged { works, rows, conditions } in judged {
            for ((work, _), plan) in &works {
                self.deliver(&principal, work, plan, [&rows, &conditions]);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&principal) {
            (lane.judging, lane.judging_from) = (None, None);
        }
        self.stirred.push(principal);
        self.stirred.append(&mut self.blocked);
        self.pump();
    }

    /// Waits for `task`, and does not let the rounds stand still meanwhile: they hold connections that it may need.
    pub(super) async fn meanwhile<T>(&mut self, task: impl Future<Output = T>) -> T {
        let mut task = std::pin::pin!(task);
        loop {
            tokio::select! {
                done = &mut task => return done,
                () = self.turn() => {}
            }
        }
    }

    /// Hands out everything that waits.
    pub(super) async fn finish(&mut self) {
        self.pump();
        while !self.lanes.is_empty() {
            self.turn().await;
        }
    }

    /// The lowest position that still waits in a lane; those of earlier histories are before those of the `present` one.
    pub(super) fn waiting_from(&self, present: Epoch) -> Option<Position> {
        let begins = self.lanes.values().filter_map(Lane::begins);
        begins.min_by_key(|position| (position.epoch == present, position.commit_lsn))
    }

    /// Returns once the lanes hold little enough.
    pub(super) async fn make_room(&mut self) {
        if self.held.total() <= HELD_LIMIT {
            return;
        }
        self.pump();
        let deadline = Instant::now() + ROOM_PATIENCE;
        while HELD_LIMIT / 2 < self.held.total() {
            if timeout_at(deadline, self.turn()).await.is_err() && !self.shed_heaviest() {
                break;
            }
        }
    }

    /// Lets the changes go that wait in the lane with the most; false when none do.
    fn shed_heaviest(&mut self) -> bool {
        let heaviest = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.bytes);
        let Some((principal, lane)) = heaviest.filter(|(_, lane)| lane.bytes != 0) else {
            return false;
        };
        let principal = Arc::clone(principal);
        lane.bytes = 0;
        let shed = std::mem::take(&mut lane.queue);
        self.fanout.metrics.gaps.get_or_create(&reason("row_checks_behind")).inc();
        let mut told = HashSet::new();
        let mut members = Vec::new();
        for queued in &shed {
            let (asked, noticed): (&[Ask], &[Arc<Member>]) = match &queued.piece {
                Piece::Change((work, _)) => (&work.asks, &[]),
                Piece::Notice(_, members) => (&[], members),
            };
            let concerned = asked.iter().map(|ask| &ask.member).chain(noticed);
            members.extend(concerned.filter(|member| told.insert(member.id)).cloned());
        }
        tracing::error!(
            changes = shed.len(),
            members = members.len(),
            "shed a principal's backlog; its members were told"
        );
        let message =
            "Changes are missing: row checks could not keep up. Please read the table again."
                .to_owned();
        let hole = Hole { reason: "row_checks_behind", ..Hole::default() };
        let notice = Notice::of_hole(message, hole);
        let ids: Vec<u64> = told.into_iter().collect();
        self.enqueue(principal, SmallVec::new(), 0, Piece::Notice(notice, members), &ids);
        self.stirred.append(&mut self.blocked);
        self.pump();
        true
    }

    fn deliver(
        &self,
        principal: &Principal,
        work: &Work,
        plan: &Plan,
        [rows, conditions]: [&Answers; 2],
    ) {
        let mut shown: SmallVec<[(&Ask, Shown); 4]> = SmallVec::new();
        for (index, ask) in work.asks.iter().enumerate() {
            let decision = plan.decision(index, rows, conditions);
            match &decision {
                Decision::Withhold(trouble) => self.withhold(&work.sighting, &ask.member, trouble),
                Decision::Show(_) | Decision::Tell(_) | Decision::Hide => {
                    ask.member.trouble_is_over();
                    if let Some(seen) = Plan::shown(work, ask, principal.role(), &decision) {
                        shown.push((ask, seen));
                    }
                }
            }
        }
        // Each member's own, in their order.
        shown.sort_by_key(|(ask, _)| ask.member.id);
        for own in shown.chunk_by(|(one, _), (other, _)| one.member.id == other.member.id) {
            self.show(&work.sighting, own);
        }
        if self.way == Way::Late {
            return;
        }
        let lag = (self.fanout.now)().unix_micros() - work.sighting.committed_at.unix_micros();
        self.fanout
            .metrics
            .lag_seconds
            .observe(std::time::Duration::from_micros(lag.max(0).unsigned_abs()).as_secs_f64());
    }

    /// Gives a member what its wishes show of a change: one frame for all that see the same of it.
    fn show(&self, sighting: &Sighting, own: &[(&Ask, Shown)]) {
        let mut left: SmallVec<[&(&Ask, Shown); 4]> = own.iter().collect();
        while let Some((ask, seen)) = left.first().copied() {
            let member = &ask.member;
            let is_covered = member.covers(ask.id);
            let mut ids: SmallVec<[u64; 2]> = SmallVec::new();
            left.retain(|(ask, other)| {
                let is_same = other == seen && member.covers(ask.id) == is_covered;
                if is_same {
                    ids.push(ask.id);
                }
                !is_same
            });
            let data = sighting.data(seen, self.fanout.record_limit);
            let frame = data.frame(member.dialect, &member.topic, &ids);
            if !self.way.give(member, sighting, is_covered, frame) {
                // Its outbox is closed: the rest is not for anybody.
                return;
            }
            self.fanout.metrics.deliveries.inc();
        }
    }

    /// Tells members that changes of a table are withheld that cannot be looked at any more.
    pub(super) fn withhold_gone(&self, relation: &Relation, members: &[Arc<Member>]) {
        let Relation { schema, name, .. } = relation;
        self.fanout.metrics.withheld.get_or_create(&reason("table_gone")).inc();
        for member in members.iter().filter(|member| member.is_new_trouble()) {
            let message = format!("Changes of {schema}.{name} are withheld: the table is gone");
            self.way.tell(member, &Notice::of_changes(false, message));
        }
    }

    /// Withholds a change from members of whom it cannot be said whether they asked for it.
    pub(super) fn withhold_of(
        &self,
        sighting: &Sighting,
        members: impl IntoIterator<Item = Arc<Member>>,
        trouble: &Trouble,
    ) {
        for member in members {
            self.withhold(sighting, &member, trouble);
        }
    }

    /// Counts a row that could not be judged and tells the member, once until it is served again.
    fn withhold(&self, sighting: &Sighting, member: &Arc<Member>, trouble: &Trouble) {
        let (word, text) = match trouble {
            Trouble::Failed { code, .. } => {
                ("check_failed", format!("the row check failed with SQLSTATE {code}"))
            }
            Trouble::TimedOut => ("check_timed_out", "the row check took too long".to_owned()),
            Trouble::Unavailable | Trouble::RightsChanged => {
                ("check_unavailable", "the database could not be asked".to_owned())
            }
            Trouble::TableGone => ("table_gone", "the table is gone".to_owned()),
            Trouble::Incomplete => (
                "row_incomplete",
                "the log does not have every value that is needed, and the row has changed since"
                    .to_owned(),
            ),
        };
        self.fanout.metrics.withheld.get_or_create(&reason(word)).inc();
        if member.is_new_trouble() {
            let table = sighting.table();
            tracing::warn!(schema = %table.schema, table = %table.name, reason = word, "withheld a row");
            let message =
                format!("Changes of {}.{} are withheld: {text}", table.schema, table.name);
            self.way.tell(member, &Notice::of_changes(false, message));
        }
    }
}

#[cfg(test)]
mod tests;
