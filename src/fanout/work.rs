//! What one principal's members are to get of one change, and what must be asked first.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::auth::visibility::Trouble;
use crate::config::Deletes;
use crate::fanout::render::{OldShown, Problem, Shown};
use crate::fanout::round::Round;
use crate::fanout::sighting::Sighting;
use crate::hub::Member;
use crate::model::table::{Access, Columns, Policy, Rows};
use crate::model::{Event, OldRow, Principal, Subscription, Table};

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
    /// The change.
    pub(super) sighting: Arc<Sighting>,
    /// Who asked.
    pub(super) asks: Vec<Ask>,
}

/// Groups who asked by whom they act for.
pub(super) fn by_principal(asks: Vec<Ask>) -> Vec<(Arc<Principal>, Vec<Ask>)> {
    let mut places: HashMap<Arc<Principal>, usize, foldhash::fast::RandomState> =
        HashMap::default();
    let mut groups: Vec<(Arc<Principal>, Vec<Ask>)> = Vec::new();
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

/// A place in the answers: question and row.
pub(super) type Place = (usize, usize);

/// For each question, an answer per row.
pub(super) type Answers = [Vec<Result<bool, Trouble>>];

/// Where the answers for one piece of work are.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the rows need.
    pub(super) need: Need,
    /// The verdict on the new row.
    pub(super) new: Option<Place>,
    /// The verdict on the whole old row.
    pub(super) old: Option<Place>,
    /// For each ask, what its filter still needs.
    pub(super) filters: Vec<Filtered>,
}

/// What the filter of an ask still needs.
#[derive(Debug)]
pub(super) enum Filtered {
    /// The answer to its undecided conditions, if there are any.
    Undecided(SmallVec<[Place; 1]>),
    /// The row itself must be readable as well, because the filter looks at more than the key.
    Readable(SmallVec<[Place; 1]>),
    /// It looks at what the role may not read, or at a row that nobody can judge, so nothing may tell whether it holds.
    Blind,
}

impl Filtered {
    /// Where the answers to undecided conditions are.
    fn places(&self) -> &[Place] {
        match self {
            Self::Undecided(places) | Self::Readable(places) => places,
            Self::Blind => &[],
        }
    }

    /// What the filter of `ask` needs besides its undecided conditions, whose answers are at `places`.
    pub(super) fn of(
        ask: &Ask,
        sighting: &Sighting,
        access: &Access,
        deletes: Deletes,
        places: SmallVec<[Place; 1]>,
    ) -> Self {
        let mut columns = ask.wish.filter.iter().map(|condition| &condition.predicate.column);
        if !columns.clone().all(|column| access.columns.allow(column)) {
            return Self::Blind;
        }
        let is_cut = sighting.event == Event::Delete
            && access.rows != Rows::All
            && deletes != Deletes::Supabase;
        if is_cut && columns.any(|column| !sighting.layout.is_key_named(column)) {
            return Self::Readable(places);
        }
        Self::Undecided(places)
    }
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

impl Plan {
    /// The plan for work that needs nothing from Postgres; `None` when it does.
    pub(super) fn unasked(work: &Work, principal: &Principal, deletes: Deletes) -> Option<Self> {
        let plan = Round::default().add(work, principal, deletes);
        plan.is_settled().then_some(plan)
    }

    /// Whether nothing has to be asked of Postgres.
    pub(super) fn is_settled(&self) -> bool {
        self.new.is_none()
            && self.old.is_none()
            && self.filters.iter().all(|filter| filter.places().is_empty())
    }

    /// What the answers say of the ask at `index`. Whoever may not see the row learns nothing of the filter on it.
    pub(super) fn verdict(&self, index: usize, answers: &Answers) -> Verdict {
        let Some(filter) = self.filters.get(index) else { return Verdict::Hide };
        let row = self.row_verdict(answers);
        match (filter, &row) {
            (_, Verdict::Hide)
            | (Filtered::Blind, _)
            | (Filtered::Readable(_), Verdict::Show(OldShown::Key)) => return Verdict::Hide,
            (Filtered::Readable(_) | Filtered::Undecided(_), _) => {}
        }
        for place in filter.places() {
            match answer(answers, *place) {
                Ok(true) => {}
                Ok(false) => return Verdict::Hide,
                Err(trouble) => return Verdict::Withhold(trouble),
            }
        }
        row
    }

    fn row_verdict(&self, answers: &Answers) -> Verdict {
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
            first: None,
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
            filters: vec![Filtered::Undecided(SmallVec::new())],
        };
        assert_eq!(plan.verdict(0, &[vec![Ok(true)]]), Verdict::Withhold(Trouble::Unavailable));
        assert_eq!(plan.verdict(0, &[]), Verdict::Withhold(Trouble::Unavailable));
    }
}
