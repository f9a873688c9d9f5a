//! A round: what a lane has waiting becomes questions to Postgres, and the answers verdicts.
//!
//! Promises: rows are judged by what the catalog says of their table when they are handed out, however long they
//! waited; an error of one row withholds that row only, unless finding it would take too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::visibility::{Asked, Question, Trouble, Visibility};
use crate::config::Deletes;
use crate::fanout::Fanout;
use crate::fanout::held::Held;
use crate::fanout::sighting::{Layout, Sighting};
use crate::fanout::work::{Filtered, Need, Place, Plan, Work, need};
use crate::model::table::{Policy, Rows};
use crate::model::{Principal, Row, Subscription};

/// How long the rows that raise an error are looked for.
const HALVING: Duration = Duration::from_secs(2);

/// Work, and what it takes of the memory while it lasts.
pub(super) type Holding = (Work, [Arc<Held>; 2]);

/// A finished round.
pub(super) struct Judged {
    /// The work and where its answers are.
    pub(super) works: Vec<(Holding, Plan)>,
    /// The answers.
    pub(super) answers: Vec<Vec<Result<bool, Trouble>>>,
}

/// Judges work for a principal. When a table changed meanwhile, its rights may have, too: then again.
pub(super) async fn judge(
    fanout: &Fanout,
    principal: &Principal,
    mut works: Vec<Holding>,
) -> Judged {
    renew(fanout, &mut works).await;
    loop {
        let mut round = Round::default();
        let plans: Vec<Plan> =
            works.iter().map(|(work, _)| round.add(work, principal, fanout.deletes)).collect();
        let answers = round.ask(&fanout.visibility, principal).await;
        let shows = answers.iter().flatten().any(|answer| *answer == Ok(true));
        if !shows || !renew(fanout, &mut works).await {
            return Judged { works: works.into_iter().zip(plans).collect(), answers };
        }
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
                    Some(table) if Arc::ptr_eq(&table, &held.table) => None,
                    Some(table) => Some(Arc::new(Layout::new(&held.relation, table))),
                    None => Some(Arc::new(held.of_nobody())),
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
            Need::JudgeNew(policy) => {
                new = sighting.new.as_ref().map(|row| self.ask_row(sighting, policy, row));
                old = sighting.old.full().map(|row| self.ask_row(sighting, policy, row));
            }
            Need::JudgeOld(policy, _) => {
                old = sighting.old.full().map(|row| self.ask_row(sighting, policy, row));
            }
            Need::Show(_) | Need::Hide | Need::Tell(_) => {}
        }
        let access = sighting.table().access.get(principal.role());
        let Some(access) = access.filter(|_| need != Need::Hide) else {
            return Plan { need: Need::Hide, new, old, filters: Vec::new() };
        };
        // Nobody judges this row, so that it passed a filter must not be told either.
        let is_unjudged = matches!(need, Need::Tell(_)) && access.rows != Rows::All;
        let filters = work.asks.iter().map(|ask| {
            if is_unjudged && !ask.wish.filter.is_empty() {
                return Filtered::Blind;
            }
            let undecided = ask.undecided.iter();
            let places = undecided.map(|which| self.ask_condition(sighting, &ask.wish, *which));
            let places = places.collect();
            Filtered::of(ask, sighting, access, deletes, places)
        });
        let filters = filters.collect();
        Plan { need, new, old, filters }
    }

    /// Asks Postgres. When an error fails a whole question, it is asked in halves until only the rows that raise it are
    /// withheld, or until that took too long.
    async fn ask(
        self,
        visibility: &Visibility,
        principal: &Principal,
    ) -> Vec<Vec<Result<bool, Trouble>>> {
        if self.questions.is_empty() {
            return Vec::new();
        }
        let together = visibility.judge(principal, &self.xids, self.questions.clone()).await;
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
                        let mut answers = visibility.judge(principal, &self.xids, asked).await;
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
        let (image, is_partial) = sighting.layout.image(row, &policy.expression);
        let asked = Asked { image, is_partial };
        let table = Arc::as_ptr(sighting.table()).addr();
        let at = *self.places.entry((table, Arc::as_ptr(policy).addr(), 0)).or_insert_with(|| {
            let (table, policy) = (Arc::clone(sighting.table()), Arc::clone(policy));
            self.questions.push(Question::Readable { table, policy, rows: Vec::new() });
            self.questions.len() - 1
        });
        match self.questions.get_mut(at) {
            Some(Question::Readable { rows, .. }) => {
                rows.push(asked);
                (at, rows.len() - 1)
            }
            _ => (usize::MAX, 0),
        }
    }

    /// Asks about the condition at `which` of a wish.
    fn ask_condition(
        &mut self,
        sighting: &Sighting,
        wish: &Arc<Subscription>,
        which: usize,
    ) -> Place {
        let Some(condition) = wish.filter.get(which) else { return (usize::MAX, 0) };
        let relation = &sighting.layout.relation;
        let place = relation.column(&condition.predicate.column);
        let row = sighting.subject();
        let cell = place.and_then(|at| row.and_then(|row| row.cell(at)));
        let value = cell.and_then(|cell| cell.text().map(str::to_owned));
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
