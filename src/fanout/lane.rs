//! One lane per principal: its changes in order, judged in rounds, holding up nobody else.
//!
//! A lane exists while it has work. A change that needs no judging, for a principal without a lane, is handed out at
//! once. A member that changes principal (a refreshed token) gets the new principal's changes only after the old
//! lane finished what it had for it, so its changes stay in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::SmallVec;

use super::Fanout;
use super::render::Shown;
use super::sighting::Sighting;
use super::work::{Answers, Ask, Plan, Round, Verdict, Work};
use crate::auth::visibility::Trouble;
use crate::hub::{Member, Notice};
use crate::metrics::reason;
use crate::model::{Epoch, Principal};

/// The epoch of ids made while the source is between two connections; readers of ids treat it as foreign.
pub(super) const NO_EPOCH: Epoch = Epoch::new(0);

/// Changes judged in one round of a lane.
const ROUND: usize = 512;

/// Changes a lane may hold; beyond that its members are told of a gap.
const LANE_LIMIT: usize = 100_000;

type PrincipalRef = Arc<Principal>;

/// All lanes.
pub(super) struct Lanes {
    fanout: Fanout,
    lanes: HashMap<PrincipalRef, Lane, foldhash::fast::RandomState>,
    rounds: FuturesUnordered<BoxFuture<'static, Judged>>,
    /// Which lane last held work for a member.
    last_lane: HashMap<u64, PrincipalRef, foldhash::fast::RandomState>,
    sequence: u64,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Work>,
    /// Sequence of the first work of the round under way.
    judging: Option<u64>,
    /// Lanes that must have passed a sequence first.
    after: Vec<(PrincipalRef, u64)>,
}

/// A finished round.
struct Judged {
    principal: PrincipalRef,
    works: Vec<(Work, Plan)>,
    answers: Vec<Vec<Result<bool, Trouble>>>,
}

impl Lane {
    /// Whether everything up to `sequence` has left the lane.
    fn has_passed(&self, sequence: u64) -> bool {
        let first = self.judging.or_else(|| self.queue.front().map(|work| work.sequence));
        first.is_none_or(|first| first > sequence)
    }
}

impl Lanes {
    pub(super) fn new(fanout: Fanout) -> Self {
        Self {
            fanout,
            lanes: HashMap::default(),
            rounds: FuturesUnordered::new(),
            last_lane: HashMap::default(),
            sequence: 0,
        }
    }

    /// Takes a change and everyone who asked for it, in commit order.
    pub(super) fn take(&mut self, sighting: Arc<Sighting>, asks: Vec<Ask>) {
        for (principal, asks) in by_principal(asks) {
            self.sequence += 1;
            let work = Work { sequence: self.sequence, sighting: Arc::clone(&sighting), asks };
            let after = self.lanes_before(&work, &principal);
            if after.is_empty() && !self.lanes.contains_key(&principal) {
                let plan = Round::default().add(&work, &principal, self.fanout.deletes);
                if plan.is_settled() {
                    self.deliver(&principal, &work, &plan, &[]);
                    continue;
                }
            }
            for ask in &work.asks {
                self.last_lane.insert(ask.member.id, Arc::clone(&principal));
            }
            let lane = self.lanes.entry(Arc::clone(&principal)).or_default();
            lane.after.extend(after);
            lane.queue.push_back(work);
            if lane.queue.len() > LANE_LIMIT {
                let shed = std::mem::take(&mut lane.queue);
                self.shed(shed);
            }
        }
    }

    /// Other lanes that still hold something for a member of `work`.
    fn lanes_before(&self, work: &Work, principal: &PrincipalRef) -> Vec<(PrincipalRef, u64)> {
        if self.lanes.is_empty() {
            return Vec::new();
        }
        let last = work.asks.iter().filter_map(|ask| self.last_lane.get(&ask.member.id));
        let other = last.filter(|last| *last != principal && self.lanes.contains_key(*last));
        other.map(|last| (Arc::clone(last), work.sequence)).collect()
    }

    /// Starts a round for every lane that can.
    pub(super) fn pump(&mut self) {
        let idle: Vec<_> = self.lanes.iter().filter(|(_, lane)| lane.judging.is_none()).collect();
        let ready: Vec<PrincipalRef> = idle
            .into_iter()
            .filter(|(_, lane)| lane.after.iter().all(|(before, at)| self.has_passed(before, *at)))
            .map(|(principal, _)| Arc::clone(principal))
            .collect();
        for principal in ready {
            self.start(principal);
        }
    }

    fn has_passed(&self, lane: &PrincipalRef, sequence: u64) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.has_passed(sequence))
    }

    fn start(&mut self, principal: PrincipalRef) {
        let Some(lane) = self.lanes.get_mut(&principal) else { return };
        lane.after.clear();
        let count = lane.queue.len().min(ROUND);
        let works: Vec<Work> = lane.queue.drain(..count).collect();
        let Some(first) = works.first() else {
            self.close(&principal);
            return;
        };
        lane.judging = Some(first.sequence);
        let mut round = Round::default();
        let deletes = self.fanout.deletes;
        let works = works.into_iter().map(|work| {
            let plan = round.add(&work, &principal, deletes);
            (work, plan)
        });
        let works: Vec<_> = works.collect();
        let visibility = Arc::clone(&self.fanout.visibility);
        self.rounds.push(Box::pin(async move {
            let answers = round.judge(&visibility, &principal).await;
            Judged { principal, works, answers }
        }));
    }

    /// Waits for a round to finish and hands out what it decided. Pending while no round is under way.
    pub(super) async fn turn(&mut self) {
        let Some(judged) = self.rounds.next().await else { return std::future::pending().await };
        for (work, plan) in &judged.works {
            self.deliver(&judged.principal, work, plan, &judged.answers);
        }
        if let Some(lane) = self.lanes.get_mut(&judged.principal) {
            lane.judging = None;
            if lane.queue.is_empty() {
                self.close(&judged.principal);
            }
        }
        self.pump();
    }

    fn close(&mut self, principal: &PrincipalRef) {
        self.lanes.remove(principal);
        if self.lanes.is_empty() {
            self.last_lane.clear();
        }
    }

    fn deliver(&self, principal: &Principal, work: &Work, plan: &Plan, answers: &Answers) {
        let mut shown: SmallVec<[(&Ask, Shown); 4]> = SmallVec::new();
        for (index, ask) in work.asks.iter().enumerate() {
            let verdict = plan.verdict(index, answers);
            match &verdict {
                Verdict::Withhold(trouble) => self.withhold(&work.sighting, &ask.member, trouble),
                Verdict::Show(_) | Verdict::Tell(_) | Verdict::Hide => {
                    ask.member.trouble_is_over();
                    if let Some(seen) = Plan::shown(work, ask, principal.role(), &verdict) {
                        shown.push((ask, seen));
                    }
                }
            }
        }
        let limit = self.fanout.record_limit;
        while let Some((ask, seen)) = shown.first() {
            let (member, seen) = (Arc::clone(&ask.member), seen.clone());
            let mut ids: SmallVec<[u64; 2]> = SmallVec::new();
            if shown.len() == 1 {
                ids.push(ask.id);
                shown.clear();
            } else {
                shown.retain(|(ask, other)| {
                    let is_same = ask.member.id == member.id && *other == seen;
                    if is_same {
                        ids.push(ask.id);
                    }
                    !is_same
                });
            }
            let frame = work.sighting.data(&seen, limit).frame(member.dialect, &member.topic, &ids);
            if member.offer(frame).is_ok() {
                self.fanout.metrics.deliveries.inc();
            }
        }
        let lag = (self.fanout.now)().unix_micros() - work.sighting.committed_at.unix_micros();
        self.fanout
            .metrics
            .lag_seconds
            .observe(std::time::Duration::from_micros(lag.max(0).unsigned_abs()).as_secs_f64());
    }

    /// Counts a row that could not be judged and tells the member, once until it is served again.
    fn withhold(&self, sighting: &Sighting, member: &Member, trouble: &Trouble) {
        let (word, text) = match trouble {
            Trouble::Failed { code, .. } => {
                ("check_failed", format!("the row check failed with SQLSTATE {code}"))
            }
            Trouble::TimedOut => ("check_timed_out", "the row check took too long".to_owned()),
            Trouble::Unavailable => {
                ("check_unavailable", "the database could not be asked".to_owned())
            }
        };
        self.fanout.metrics.withheld.get_or_create(&reason(word)).inc();
        if member.is_new_trouble() {
            let table = sighting.table();
            tracing::warn!(schema = %table.schema, table = %table.name, reason = word, "withheld a row");
            let message =
                format!("Changes of {}.{} are withheld: {text}", table.schema, table.name);
            // A member that cannot be told is being closed.
            let _ = member.notify(&Notice { extension: "postgres_changes", is_ok: false, message });
        }
    }

    /// Lets a lane's backlog go and says so to its members.
    fn shed(&self, works: VecDeque<Work>) {
        self.fanout.metrics.gaps.get_or_create(&reason("row_checks_behind")).inc();
        let message =
            "Changes are missing: row checks could not keep up. Please read the table again."
                .to_owned();
        let notice = Notice { extension: "postgres_changes", is_ok: false, message };
        let mut told = HashSet::new();
        for ask in works.iter().flat_map(|work| &work.asks) {
            if told.insert(ask.member.id) {
                let _ = ask.member.notify(&notice);
            }
        }
        tracing::error!(
            changes = works.len(),
            members = told.len(),
            "shed a principal's backlog; its members were told"
        );
    }
}

/// Groups who asked by whom they act for.
fn by_principal(asks: Vec<Ask>) -> Vec<(PrincipalRef, Vec<Ask>)> {
    let mut places: HashMap<PrincipalRef, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<(PrincipalRef, Vec<Ask>)> = Vec::new();
    for ask in asks {
        let principal = ask.member.principal();
        match groups.last_mut() {
            Some((last, asks)) if Arc::ptr_eq(last, &principal) => asks.push(ask),
            _ => {
                let next = groups.len();
                let at = *places.entry(Arc::clone(&principal)).or_insert(next);
                match groups.get_mut(at) {
                    Some((_, asks)) => asks.push(ask),
                    None => groups.push((principal, vec![ask])),
                }
            }
        }
    }
    groups
}
