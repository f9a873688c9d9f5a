//! A round: what a lane has waiting becomes questions to Postgres, and the answers verdicts.
//!
//! Promises: rows are judged by what the catalog says of their table when they are handed out, however long they
//! waited; an error of one row withholds that row only, unless finding it would take too long.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::auth::requester::Requester;
use crate::auth::visibility::{Asked, Question, Trouble, Verdict, Visibility};
use crate::config::Deletes;
use crate::fanout::Fanout;
use crate::fanout::held::Held;
use crate::fanout::lane::LaneKey;
use crate::fanout::sighting::{Layout, Sighting};
use crate::fanout::work::{
    Answers, Filtered, Need, Place, Plan, Work, group, is_decided_by_role, need,
};
use crate::hub::Member;
use crate::model::table::Policy;
use crate::model::{Cell, Principal, Row, Subscription};

/// How long the rows that raise an error are looked for.
const HALVING: Duration = Duration::from_secs(2);

/// Work, and what it takes of the memory while it lasts.
pub(super) type Holding = (Work, [Arc<Held>; 2]);

/// How often a round is judged anew because rights changed under it.
const RENEWALS: usize = 5;

/// A finished round.
pub(super) struct Judged {
    /// The work and where its answers are.
    pub(super) works: Vec<(Holding, Plan)>,
    /// What was said of rows.
    pub(super) rows: Answers,
    /// What was said of undecided conditions on readable rows.
    pub(super) conditions: Answers,
}

/// Judges the work of a lane, in the order of each member's changes.
///
/// What was to be asked once for all who have a role is judged for each of them when it turns out to depend on who they are.
pub(super) async fn judge(fanout: &Fanout, key: &LaneKey, works: Vec<Holding>) -> Vec<Judged> {
    let principal = &key.principal;
    let is_shared = key.is_of_role();
    let requester = key.requester(member_in_turn(&works));
    let works = match judge_for(fanout, (&requester, principal), works, is_shared).await {
        Ok(judged) => return vec![judged],
        Err(works) => works,
    };
    let mut by_principal: Vec<(Arc<Principal>, Vec<Holding>)> = Vec::new();
    for (Work { sighting, asks }, held) in works {
        for (principal, asks) in group(asks, |ask| ask.member.principal()) {
            let work = (Work { sighting: Arc::clone(&sighting), asks }, held.clone());
            match by_principal.iter_mut().find(|(known, _)| *known == principal) {
                Some((_, works)) => works.push(work),
                None => by_principal.push((principal, vec![work])),
            }
        }
    }
    let mut all = Vec::with_capacity(by_principal.len());
    for (principal, works) in by_principal {
        let requester = if key.is_apart() { requester.clone() } else { Requester::of(&principal) };
        all.extend(judge_for(fanout, (&requester, &principal), works, false).await.ok());
    }
    all
}

/// The member whose turn at the connections a round uses: one of those who share the lane, drawn by the change, so that
/// none of them holds up the others for good by what else it asks for.
fn member_in_turn(works: &[Holding]) -> Option<&Member> {
    let (work, _) = works.first()?;
    let drawn = FixedState::default().hash_one(work.sighting.id);
    let count = u64::try_from(work.asks.len()).ok()?;
    let place = usize::try_from(drawn.checked_rem(count)?).ok()?;
    work.asks.get(place).map(|ask| &*ask.member)
}

/// Judges work for a principal. When a table changed meanwhile, its rights may have, too: then again. The work comes back
/// when it is shared by all who have the principal's role and does depend on who they are.
async fn judge_for(
    fanout: &Fanout,
    (requester, principal): (&Requester, &Principal),
    mut works: Vec<Holding>,
    is_shared: bool,
) -> Result<Judged, Vec<Holding>> {
    renew(fanout, &mut works).await;
    let mut renewals = 0;
    loop {
        let is_of_role = |(work, _): &Holding| {
            is_decided_by_role(&work.sighting, principal.role())
                || Plan::unasked(work, principal, fanout.deletes).is_some()
        };
        if is_shared && !works.iter().all(is_of_role) {
            return Err(works);
        }
        let mut round = Round::default();
        let mut plans: Vec<Plan> =
            works.iter().map(|(work, _)| round.add(work, principal, fanout.deletes)).collect();
        let rows = round.ask(&fanout.visibility, requester, principal).await;
        if rows.iter().flatten().any(|answer| *answer == Err(Trouble::RightsChanged))
            && renewals < RENEWALS
        {
            renewals += 1;
            look_again(fanout, &works).await;
            renew(fanout, &mut works).await;
            continue;
        }
        // A condition is asked about readable rows only: how long that takes would tell of a hidden one.
        let mut round = Round::default();
        for ((work, _), plan) in works.iter().zip(&mut plans) {
            if plan.is_shown(&rows) {
                plan.conditions = round.add_conditions(work, &plan.filters);
            }
        }
        let conditions = round.ask(&fanout.visibility, requester, principal).await;
        let shows = rows.iter().flatten().any(|answer| *answer == Ok(Verdict::Yes));
        let shows = shows || conditions.iter().flatten().any(|it| *it == Ok(Verdict::Yes));
        if !shows || !renew(fanout, &mut works).await {
            let works = works.into_iter().zip(plans).collect();
            return Ok(Judged { works, rows, conditions });
        }
    }
}

/// Has the catalog asked about the tables of changes.
async fn look_again(fanout: &Fanout, works: &[Holding]) {
    let mut tables: Vec<u32> = works.iter().map(|(work, _)| work.sighting.table().oid).collect();
    tables.sort_unstable();
    tables.dedup();
    for oid in tables {
        fanout.insist(|| fanout.catalog.look_again(oid)).await;
    }
}

/// Looks at the changes through their tables as the catalog knows them now. True when one is not what it was.
async fn renew(fanout: &Fanout, works: &mut [Holding]) -> bool {
    let mut known: Vec<(Arc<Layout>, Option<Arc<Layout>>)> = Vec::new();
    let mut is_news = false;
    for (work, _) in works {
        let held = &work.sighting.layout;
        let newer = match known.iter().find(|(layout, _)| Arc::ptr_eq(layout, held)) {
            Some((_, newer)) => newer.clone(),
            None => {
                let table = fanout.insist(|| fanout.catalog.table_by_oid(held.table.oid)).await;
                let newer = match table {
                    Some(table) if Arc::ptr_eq(&table, &held.table) && !held.is_gone => None,
                    None if held.is_gone => None,
                    Some(table) => Some(Arc::new(Layout::new(&held.relation, table))),
                    None => Some(Arc::new(held.of_gone())),
                };
                known.push((Arc::clone(held), newer.clone()));
                newer
            }
        };
        if let Some(layout) = newer {
            work.sighting = Arc::new(work.sighting.through(layout));
            is_news = true;
        }
    }
    is_news
}

/// The questions of a round of work, and where each answer belongs.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// What to ask.
    pub(super) questions: Vec<Question>,
    /// Transactions that must be visible first.
    pub(super) xids: Vec<u32>,
    /// Which question is whose: clients may ask for any number of different things.
    places: HashMap<(usize, usize, u32), usize>,
    /// Texts that conditions are asked about, by sighting and column.
    texts: HashMap<(usize, usize), Option<Arc<str>>>,
}

impl Round {
    /// Adds what `work` needs to the questions.
    pub(super) fn add(&mut self, work: &Work, principal: &Principal, deletes: Deletes) -> Plan {
        let sighting = &work.sighting;
        if !self.xids.contains(&sighting.xid) {
            self.xids.push(sighting.xid);
        }
        let need = need(sighting, principal.role(), deletes);
        let (mut new, mut old) = (None, None);
        match &need {
            Need::JudgeNew(policy, problem) => {
                new = sighting.new.as_ref().map(|row| self.ask_row(sighting, policy, row));
                let old_row = sighting.old.full().filter(|_| problem.is_none());
                old = old_row.map(|row| self.ask_row(sighting, policy, row));
            }
            Need::JudgeOld(policy, _) => {
                old = sighting.subject().map(|row| self.ask_row(sighting, policy, row));
            }
            Need::Confirm(policy) => {
                new = sighting.subject().map(|row| self.ask_row(sighting, policy, row));
            }
            Need::Show(_) | Need::Hide | Need::TableGone | Need::Tell(_) => {}
        }
        let has_key_changed = sighting.has_key_changed();
        let access = sighting.table().access.get(principal.role());
        let (filters, need) = match access.filter(|_| need != Need::Hide) {
            Some(access) => {
                let asks = work.asks.iter();
                let filters = asks.map(|ask| Filtered::of(ask, sighting, access, deletes));
                (filters.collect(), need)
            }
            None => (Vec::new(), Need::Hide),
        };
        Plan { need, new, old, has_key_changed, filters, conditions: Vec::new() }
    }

    /// Adds the undecided conditions of `work`; where their answers will be, for each ask.
    fn add_conditions(&mut self, work: &Work, filters: &[Filtered]) -> Vec<SmallVec<[Place; 1]>> {
        let sighting = &work.sighting;
        if !self.xids.contains(&sighting.xid) {
            self.xids.push(sighting.xid);
        }
        let asks = work.asks.iter().zip(filters);
        let places = asks.map(|(ask, filtered)| {
            let undecided = ask.undecided.iter().filter(|_| *filtered != Filtered::Blind);
            undecided.map(|which| self.ask_condition(sighting, &ask.wish, *which)).collect()
        });
        places.collect()
    }

    /// Asks Postgres. When an error fails a whole question, it is asked in halves until only the rows that raise it are
    /// withheld, or until that took too long.
    async fn ask(
        self,
        visibility: &Visibility,
        requester: &Requester,
        principal: &Principal,
    ) -> Answers {
        if self.questions.is_empty() {
            return Vec::new();
        }
        let together =
            visibility.judge(requester, principal, &self.xids, self.questions.clone()).await;
        let give_up_at = Instant::now() + HALVING;
        let mut answers = Vec::with_capacity(together.len());
        for (question, answer) in self.questions.into_iter().zip(together) {
            let mut verdicts = Vec::with_capacity(question.len());
            let mut left = vec![(question, Some(answer))];
            while let Some((question, answer)) = left.pop() {
                let count = question.len();
                let answer = match answer {
                    Some(answer) => answer,
                    None => {
                        let asked = vec![question.clone()];
                        let mut answers =
                            visibility.judge(requester, principal, &self.xids, asked).await;
                        answers.pop().unwrap_or(Err(Trouble::Unavailable))
                    }
                };
                match answer {
                    Ok(told) => verdicts.extend(told.into_iter().map(Ok)),
                    Err(Trouble::Failed { .. }) if count > 1 && Instant::now() < give_up_at => {
                        let (first, second) = question.halve();
                        left.extend([(second, None), (first, None)]);
                    }
                    Err(trouble) => verdicts.extend(vec![Err(trouble); count]),
                }
            }
            answers.push(verdicts);
        }
        answers
    }

    fn ask_row(&mut self, sighting: &Sighting, policy: &Arc<Policy>, row: &Row) -> Place {
        // One row stands for all where the verdict does not depend on it.
        let is_constant = policy.is_constant();
        let (image, is_partial) = if is_constant {
            ("{}".to_owned(), false)
        } else {
            sighting.layout.image(row, &policy.reads)
        };
        let asked = Asked { image, is_partial };
        let table = Arc::as_ptr(sighting.table()).addr();
        let at = *self.places.entry((table, Arc::as_ptr(policy).addr(), 0)).or_insert_with(|| {
            let (table, policy) = (Arc::clone(sighting.table()), Arc::clone(policy));
            self.questions.push(Question::Readable { table, policy, rows: Vec::new() });
            self.questions.len() - 1
        });
        match self.questions.get_mut(at) {
            Some(Question::Readable { rows, .. }) => {
                if !is_constant || rows.is_empty() {
                    rows.push(asked);
                }
                (at, rows.len() - 1)
            }
            _ => (usize::MAX, 0),
        }
    }

    /// Asks about the condition at `which` of a wish.
    fn ask_condition(
        &mut self,
        sighting: &Arc<Sighting>,
        wish: &Arc<Subscription>,
        which: usize,
    ) -> Place {
        let Some(condition) = wish.filter.get(which) else { return (usize::MAX, 0) };
        let relation = &sighting.layout.relation;
        let place = relation.column(&condition.predicate.column);
        let row = sighting.subject();
        let cell = place.and_then(|at| row.and_then(|row| row.cell(at)));
        // The same text for all conditions on it: there may be many, and it may be long.
        let seen = (Arc::as_ptr(sighting).addr(), place.unwrap_or(usize::MAX));
        let value =
            self.texts.entry(seen).or_insert_with(|| cell.and_then(Cell::text).map(Arc::from));
        let value = value.clone();
        let oid = place.and_then(|at| relation.columns.get(at)).map_or(0, |column| column.type_oid);
        let at = *self.places.entry((Arc::as_ptr(wish).addr(), which, oid)).or_insert_with(|| {
            let condition = condition.clone();
            self.questions.push(Question::Passes { condition, type_oid: oid, values: Vec::new() });
            self.questions.len() - 1
        });
        match self.questions.get_mut(at) {
            Some(Question::Passes { values, .. }) => {
                values.push(value);
                (at, values.len() - 1)
            }
            _ => (usize::MAX, 0),
        }
    }
}
