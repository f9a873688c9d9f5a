//! One lane per principal: its changes in order, judged in rounds, holding up nobody else.
//!
//! What clients wrote themselves and Postgres has to decide waits apart from that (`key`), is judged on another task, and
//! may take [`APART_LIMIT`] of memory: above it the lane that holds the most lets its changes go at once.
//!
//! A lane exists while it has work. A change that needs no judging, for a principal without a lane, is handed out at
//! once. A member that changes principal (a refreshed token) gets the new principal's changes only after the old
//! lane finished what it had for it, so its changes stay in order. A change waits only for earlier ones, so lanes never
//! wait for each other in a circle.
//!
//! Overflow: when the lanes together hold [`HELD_LIMIT`], the fan-out waits for them a moment; then the lane that holds
//! the most lets its changes go, and its members are told of a gap.

mod key;
mod queue;
mod shed;
mod withheld;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::SmallVec;
use tokio::task::JoinSet;

pub(super) use self::key::{LaneKey, LaneScope};
use self::queue::{Lane, Piece, Queued};
use super::Fanout;
use super::audience::Way;
use super::held::Held;
use super::render::Shown;
use super::round::{Judged, judge};
use super::sighting::Sighting;
use super::work::{Answers, Ask, Decision, Plan, Work};
use crate::hub::{Member, Notice};
use crate::model::{Epoch, Position, Principal};

/// Changes judged in one round of a lane.
const ROUND: usize = 512;

/// Bytes of changes judged in one round of a lane, unless one alone has more.
const ROUND_BYTES: usize = 16 << 20;

/// The same of a lane of what clients wrote: what it comes to is handed out in one go.
const APART_ROUND_BYTES: usize = 1 << 20;

/// Bytes that the changes waiting in lanes of what clients wrote may take.
const APART_LIMIT: usize = HELD_LIMIT / 2;

/// Bytes that the changes waiting in all lanes may take.
const HELD_LIMIT: usize = 256 << 20;

/// Members remembered by the lane they last waited in before those that wait no longer are forgotten.
const REMEMBERED: usize = 1024;

/// A place in the order of matching, and the lane it is in.
type Place = (LaneKey, u64);

/// A finished round, and the lane it was of.
type Finished = (LaneKey, Vec<Judged>);

/// All lanes.
pub(super) struct Lanes {
    fanout: Fanout,
    lanes: HashMap<LaneKey, Lane, foldhash::fast::RandomState>,
    rounds: FuturesUnordered<BoxFuture<'static, Finished>>,
    /// Rounds of what clients wrote. However much that is, it takes no time from others.
    apart: JoinSet<Finished>,
    /// Memory of what waits for these.
    apart_bytes: usize,
    /// The last thing that waited for a member.
    last: HashMap<u64, Place, foldhash::fast::RandomState>,
    /// Above this many members, those that wait no longer are forgotten.
    remembered: usize,
    /// Lanes that may have something to start.
    stirred: Vec<LaneKey>,
    /// Lanes whose next piece waits for another lane.
    blocked: Vec<LaneKey>,
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
            apart: JoinSet::new(),
            apart_bytes: 0,
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
        let waiting = |member| self.waiting(member).map(|(key, _)| key);
        for (key, asks) in key::by_lane(&sighting, asks, waiting) {
            let work = Work { sighting: Arc::clone(&sighting), asks };
            let after = self.places_before(&work, &key);
            if after.is_empty() && !self.lanes.contains_key(&key) {
                let plan = Plan::unasked(&work, &key.principal, self.fanout.deletes);
                if let Some(plan) = plan {
                    self.deliver(&key.principal, &work, &plan, [&none, &none]);
                    continue;
                }
            }
            let size = sighting.size();
            let row = held.get_or_insert_with(|| Arc::new(self.held.more(size)));
            let asks = size_of::<Ask>() * work.asks.len();
            let holds = [Arc::clone(row), Arc::new(self.held.more(asks))];
            let members: Vec<u64> = work.asks.iter().map(|ask| ask.member.id).collect();
            let piece = Piece::Change((work, holds));
            self.enqueue(key, after, size + asks, piece, &members);
        }
        // Who is shown the past has time to wait.
        while self.way == Way::Live
            && APART_LIMIT < self.apart_bytes
            && self.shed_heaviest(LaneKey::is_apart)
        {}
    }

    fn enqueue(
        &mut self,
        key: LaneKey,
        after: SmallVec<[Place; 1]>,
        bytes: usize,
        piece: Piece,
        members: &[u64],
    ) {
        self.sequence += 1;
        let sequence = self.sequence;
        for member in members {
            self.last.insert(*member, (key.clone(), sequence));
        }
        if key.is_apart() {
            self.apart_bytes += bytes;
        }
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.judging.is_none() && lane.queue.is_empty() {
            self.stirred.push(key);
        }
        lane.push(Queued { sequence, after, bytes, piece });
        if self.remembered < self.last.len() {
            let lanes = &self.lanes;
            self.last.retain(|_, (key, sequence)| {
                lanes.get(key).is_some_and(|lane| !lane.has_passed(*sequence))
            });
            self.remembered = REMEMBERED.max(2 * self.last.len());
        }
    }

    /// What other lanes still hold for a member of `work`.
    fn places_before(&self, work: &Work, key: &LaneKey) -> SmallVec<[Place; 1]> {
        let mut before: SmallVec<[Place; 1]> = SmallVec::new();
        if self.lanes.is_empty() {
            return before;
        }
        for ask in &work.asks {
            let Some((lane, sequence)) = self.waiting(ask.member.id) else { continue };
            if lane == key {
                continue;
            }
            match before.iter_mut().find(|(held, _)| held == lane) {
                Some((_, held)) => *held = (*held).max(*sequence),
                None => before.push((lane.clone(), *sequence)),
            }
        }
        before
    }

    /// The last thing that still waits for a member.
    fn waiting(&self, member: u64) -> Option<&Place> {
        if self.lanes.is_empty() {
            return None;
        }
        self.last.get(&member).filter(|place| !self.has_passed(place))
    }

    fn has_passed(&self, (lane, sequence): &Place) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.has_passed(*sequence))
    }

    /// Tells everyone who is subscribed, each after what already waits for it; how many they are.
    pub(super) fn announce(&mut self, notice: &Notice) -> usize {
        let everyone: Vec<Arc<Member>> = self.fanout.hub.read().everyone().cloned().collect();
        let count = everyone.len();
        let mut waiting: HashMap<LaneKey, Vec<Arc<Member>>> = HashMap::new();
        for member in everyone {
            match self.waiting(member.id) {
                Some((lane, _)) => waiting.entry(lane.clone()).or_default().push(member),
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
        while let Some(key) = self.stirred.pop() {
            self.start(key);
        }
    }

    fn start(&mut self, key: LaneKey) {
        let most_bytes = if key.is_apart() { APART_ROUND_BYTES } else { ROUND_BYTES };
        let mut works = Vec::new();
        let (mut first, mut bytes) = (None, 0);
        loop {
            let Some(lane) = self.lanes.get(&key) else { return };
            if lane.judging.is_some() {
                return;
            }
            let Some(next) = lane.queue.front() else { break };
            if !next.after.iter().all(|place| self.has_passed(place)) {
                if works.is_empty() {
                    return self.blocked.push(key);
                }
                break;
            }
            let is_notice = matches!(next.piece, Piece::Notice(..));
            bytes += next.bytes;
            let is_full = ROUND <= works.len() || most_bytes < bytes;
            if (is_full || is_notice) && !works.is_empty() {
                break;
            }
            let next = self.lanes.get_mut(&key).and_then(Lane::pop);
            if let Some(next) = next.as_ref().filter(|_| key.is_apart()) {
                self.apart_bytes = self.apart_bytes.saturating_sub(next.bytes);
            }
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
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if works.is_empty() {
            self.lanes.remove(&key);
            self.stirred.append(&mut self.blocked);
            return;
        }
        lane.judging = first;
        lane.judging_from = works.first().map(|(work, _)| work.sighting.id);
        let fanout = self.fanout.clone();
        let is_apart = key.is_apart();
        let judging = async move {
            let judged = judge(&fanout, &key, works).await;
            (key, judged)
        };
        if is_apart {
            self.apart.spawn(judging);
        } else {
            self.rounds.push(Box::pin(judging));
        }
    }

    /// Waits for a round to finish and hands out what it decided. Pending while no round is under way. Cancel-safe.
    pub(super) async fn turn(&mut self) {
        let (key, judged) = tokio::select! {
            Some(finished) = self.rounds.next() => finished,
            Some(finished) = self.apart.join_next() => match finished {
                Ok(finished) => finished,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // It is being stopped, and this task with it.
                    Err(_) => return std::future::pending().await,
                },
            },
            else => return std::future::pending().await,
        };
        for Judged { works, rows, conditions } in judged {
            for ((work, _), plan) in &works {
                self.deliver(&key.principal, work, plan, [&rows, &conditions]);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.judging, lane.judging_from) = (None, None);
        }
        self.stirred.push(key);
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
}

#[cfg(test)]
mod tests;
