//! What one principal's members are to get of one change, and what must be asked first.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::auth::visibility::{Asked, Question, Trouble, Visibility};
use crate::config::Deletes;
use crate::fanout::render::{OldShown, Problem, Shown};
use crate::fanout::sighting::Sighting;
use crate::hub::Member;
use crate::model::filter::Condition;
use crate::model::table::{Columns, Policy, Rows};
use crate::model::{Event, OldRow, Principal, Row, Subscription, Table};

/// One member that asked for the change.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Who.
    pub(super) member: Arc<Member>,
    /// The id of its binding.
    pub(super) id: u64,
    /// What it asked for.
    pub(super) wish: Arc<Subscription>,
    /// Conditions of the wish that only Postgres can decide.
    pub(super) undecided: SmallVec<[usize; 2]>,
}

/// A change for the members of one principal.
#[derive(Debug)]
pub(super) struct Work {
    /// Order of matching over the whole fan-out.
    pub(super) sequence: u64,
    /// The change.
    pub(super) sighting: Arc<Sighting>,
    /// Who asked.
    pub(super) asks: Vec<Ask>,
}

/// What must be known before a change is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: show it so.
    Show(OldShown),
    /// Nothing: this role never sees it.
    Hide,
    /// Tell that the row cannot be shown.
    Tell(Problem),
    /// The policy on the new row, and on the old one where the WAL has it whole.
    JudgeNew(Arc<Policy>),
    /// The policy on the old row of a DELETE; unreadable, it is cut to its key or hidden.
    JudgeOld(Arc<Policy>, Option<OldShown>),
}

/// What a role needs to see a change, under the rule for deletes.
pub(super) fn need(sighting: &Sighting, role: &str, deletes: Deletes) -> Need {
    let Some(access) = sighting.table().access.get(role) else { return Need::Hide };
    if sighting.event != Event::Delete
        && let Some(problem) = problem(sighting.table(), &access.columns)
    {
        return Need::Tell(problem);
    }
    let key_only = || match deletes {
        Deletes::Authorised | Deletes::Supabase => Need::Show(OldShown::Key),
        Deletes::Strict => Need::Hide,
    };
    match (&access.rows, sighting.event) {
        (Rows::All, _) => Need::Show(OldShown::Whole),
        (Rows::None, Event::Insert | Event::Update) => Need::Hide,
        (Rows::None, Event::Delete) => key_only(),
        (Rows::Policy(policy), Event::Insert | Event::Update) => Need::JudgeNew(Arc::clone(policy)),
        (Rows::Policy(policy), Event::Delete) => match (&sighting.old, deletes) {
            (OldRow::Full(_), Deletes::Authorised) => {
                Need::JudgeOld(Arc::clone(policy), Some(OldShown::Key))
            }
            (OldRow::Full(_), Deletes::Strict) => Need::JudgeOld(Arc::clone(policy), None),
            (OldRow::Full(_), Deletes::Supabase) | (OldRow::Key(_) | OldRow::Absent, _) => {
                key_only()
            }
        },
    }
}

fn problem(table: &Table, columns: &Columns) -> Option<Problem> {
    let mut keys = table.columns.iter().filter(|column| column.is_primary_key).peekable();
    if keys.peek().is_none() {
        return Some(Problem::NoPrimaryKey);
    }
    keys.any(|column| !columns.allow(&column.name)).then_some(Problem::KeyUnreadable)
}

/// The questions of a round of work, and where each answer belongs.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// What to ask.
    pub(super) questions: Vec<Question>,
    /// Transactions that must be visible first.
    pub(super) xids: Vec<u32>,
}

/// A place in the answers: question and row.
type Place = (usize, usize);

/// For each question, an answer per row.
pub(super) type Answers = [Vec<Result<bool, Trouble>>];

/// Where the answers for one piece of work are.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the rows need.
    pub(super) need: Need,
    new: Option<Place>,
    old: Option<Place>,
    /// For each ask, its undecided conditions.
    conditions: Vec<SmallVec<[Place; 1]>>,
}

/// What the answers say of one ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Show the change so.
    Show(OldShown),
    /// Tell the problem.
    Tell(Problem),
    /// It is not for this member.
    Hide,
    /// It could not be judged.
    Withhold(Trouble),
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
        let mut conditions = Vec::with_capacity(work.asks.len());
        for ask in &work.asks {
            let places = ask.undecided.iter().filter_map(|at| ask.wish.filter.get(*at));
            conditions
                .push(places.map(|condition| self.ask_condition(sighting, condition)).collect());
        }
        Plan { need, new, old, conditions }
    }

    /// Asks Postgres. When one row's error fails a whole question, its rows are asked one by one, so that only that
    /// row is withheld.
    pub(super) async fn judge(
        self,
        visibility: &Visibility,
        principal: &Principal,
    ) -> Vec<Vec<Result<bool, Trouble>>> {
        if self.questions.is_empty() {
            return Vec::new();
        }
        let together = visibility.judge(principal, &self.xids, self.questions.clone()).await;
        let mut answers = Vec::with_capacity(together.len());
        for (question, answer) in self.questions.into_iter().zip(together) {
            let count = question.len();
            answers.push(match answer {
                Ok(verdicts) => verdicts.into_iter().map(Ok).collect(),
                Err(Trouble::Failed { .. }) if count > 1 => {
                    let alone = visibility.judge(principal, &self.xids, question.split()).await;
                    alone
                        .into_iter()
                        .map(|answer| answer.map(|verdicts| verdicts == [true]))
                        .collect()
                }
                Err(trouble) => vec![Err(trouble); count],
            });
        }
        answers
    }

    fn ask_row(&mut self, sighting: &Sighting, policy: &Arc<Policy>, row: &Row) -> Place {
        let (image, is_partial) = sighting.layout.image(row);
        let asked = Asked { image, is_partial };
        let same = |question: &Question| {
            matches!(question, Question::Readable { table, policy: held, .. }
                if Arc::ptr_eq(table, sighting.table()) && Arc::ptr_eq(held, policy))
        };
        let at = self.questions.iter().position(same).unwrap_or_else(|| {
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

    fn ask_condition(&mut self, sighting: &Sighting, condition: &Condition) -> Place {
        let relation = &sighting.layout.relation;
        let place = relation.column(&condition.predicate.column);
        let row = sighting.subject();
        let cell = place.and_then(|at| row.and_then(|row| row.cell(at)));
        let value = cell.and_then(|cell| cell.text().map(str::to_owned));
        let oid = place.and_then(|at| relation.columns.get(at)).map_or(0, |column| column.type_oid);
        let same = |question: &Question| {
            matches!(question, Question::Passes { condition: held, type_oid, .. }
                if held == condition && *type_oid == oid)
        };
        let at = self.questions.iter().position(same).unwrap_or_else(|| {
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

impl Plan {
    /// Whether nothing has to be asked of Postgres.
    pub(super) fn is_settled(&self) -> bool {
        self.new.is_none() && self.old.is_none() && self.conditions.iter().all(SmallVec::is_empty)
    }

    /// What the answers say of the ask at `index`.
    pub(super) fn verdict(&self, index: usize, answers: &Answers) -> Verdict {
        for place in self.conditions.get(index).into_iter().flatten() {
            match answer(answers, *place) {
                Ok(true) => {}
                Ok(false) => return Verdict::Hide,
                Err(trouble) => return Verdict::Withhold(trouble),
            }
        }
        let judged = |place: Option<Place>| place.map_or(Ok(false), |place| answer(answers, place));
        match &self.need {
            Need::Show(old) => Verdict::Show(*old),
            Need::Hide => Verdict::Hide,
            Need::Tell(problem) => Verdict::Tell(*problem),
            Need::JudgeNew(_) => match judged(self.new) {
                Ok(false) => Verdict::Hide,
                Err(trouble) => Verdict::Withhold(trouble),
                // An old row that could not be judged is cut to its key.
                Ok(true) if judged(self.old) == Ok(true) => Verdict::Show(OldShown::Whole),
                Ok(true) => Verdict::Show(OldShown::Key),
            },
            Need::JudgeOld(_, otherwise) => match (judged(self.old), otherwise) {
                (Ok(true), _) => Verdict::Show(OldShown::Whole),
                (Ok(false), Some(old)) => Verdict::Show(*old),
                (Ok(false), None) => Verdict::Hide,
                (Err(trouble), _) => Verdict::Withhold(trouble),
            },
        }
    }

    /// What a member sees under a verdict, when it sees anything.
    pub(super) fn shown(work: &Work, ask: &Ask, role: &str, verdict: &Verdict) -> Option<Shown> {
        match verdict {
            Verdict::Show(old) => {
                Some(Shown::Row(work.sighting.layout.mask(role, &ask.wish.select), *old))
            }
            Verdict::Tell(problem) => Some(Shown::Problem(*problem)),
            Verdict::Hide | Verdict::Withhold(_) => None,
        }
    }
}

/// The answer at a place. A place without one is trouble, never a yes.
fn answer(answers: &Answers, (question, row): Place) -> Result<bool, Trouble> {
    let answer = answers.get(question).and_then(|rows| rows.get(row));
    answer.cloned().unwrap_or(Err(Trouble::Unavailable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::sighting::Layout;
    use crate::fanout::sighting::tests::{relation, row, table};
    use crate::model::{Epoch, Lsn, Position, ReplicaIdentity};

    fn deletion(rows: Rows, old: OldRow) -> Sighting {
        let identity =
            if old.full().is_some() { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        Sighting {
            id: Position { epoch: Epoch::new(1), commit_lsn: Lsn::new(1), index: 0 },
            xid: 1,
            committed_at: Default::default(),
            event: Event::Delete,
            new: None,
            old,
            layout: Arc::new(Layout::new(&relation(identity), table(rows, identity))),
            rendered: Default::default(),
        }
    }

    fn policy() -> Arc<Policy> {
        Arc::new(Policy { expression: "true".into(), needs_stored_row: false })
    }

    #[test]
    fn deletes_under_row_security_follow_the_configuration() {
        use Deletes::{Authorised, Strict, Supabase};
        let full = || OldRow::Full(row(["1", "x"]));
        let key = || OldRow::Key(row(["1", ""]));
        let judged = |otherwise| Need::JudgeOld(policy(), otherwise);
        let cases = [
            (Rows::All, full(), Strict, Need::Show(OldShown::Whole)),
            (Rows::Policy(policy()), full(), Authorised, judged(Some(OldShown::Key))),
            (Rows::Policy(policy()), full(), Strict, judged(None)),
            (Rows::Policy(policy()), full(), Supabase, Need::Show(OldShown::Key)),
            (Rows::Policy(policy()), key(), Authorised, Need::Show(OldShown::Key)),
            (Rows::Policy(policy()), key(), Strict, Need::Hide),
            (Rows::None, full(), Authorised, Need::Show(OldShown::Key)),
            (Rows::None, full(), Strict, Need::Hide),
        ];
        for (rows, old, deletes, expected) in cases {
            let sighting = deletion(rows, old);
            assert_eq!(
                need(&sighting, "anon", deletes),
                expected,
                "{sighting:?} under {deletes:?}"
            );
        }
    }

    #[test]
    fn a_role_the_catalog_does_not_know_sees_nothing() {
        let sighting = deletion(Rows::All, OldRow::Full(row(["1", "x"])));
        assert_eq!(need(&sighting, "stranger", Deletes::Authorised), Need::Hide);
    }

    #[test]
    fn an_answer_that_is_missing_is_never_a_yes() {
        let plan = Plan {
            need: Need::JudgeNew(policy()),
            new: Some((0, 5)),
            old: None,
            conditions: Vec::new(),
        };
        assert_eq!(plan.verdict(0, &[vec![Ok(true)]]), Verdict::Withhold(Trouble::Unavailable));
        assert_eq!(plan.verdict(0, &[]), Verdict::Withhold(Trouble::Unavailable));
    }
}
