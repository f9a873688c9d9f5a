//! What one principal's members are to get of one change, and what must be asked first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use crate::auth::visibility::{Trouble, Verdict};
use crate::config::Deletes;
use crate::fanout::lane::LaneScope;
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
    /// Conditions of the wish that Postgres has to decide.
    pub(super) undecided: SmallVec<[usize; 2]>,
    /// LaneKey these are, when there are any.
    pub(super) apart: Option<LaneScope>,
}

/// A change for the members of one principal.
#[derive(Debug)]
pub(super) struct Work {
    /// The change.
    pub(super) sighting: Arc<Sighting>,
    /// Who asked.
    pub(super) asks: Vec<Ask>,
}

/// Groups who asked by what `of` says of them.
pub(super) fn group<K: Clone + Eq + Hash>(
    asks: Vec<Ask>,
    mut of: impl FnMut(&Ask) -> K,
) -> Vec<(K, Vec<Ask>)> {
    let mut places: HashMap<K, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut groups: Vec<(K, Vec<Ask>)> = Vec::new();
    for ask in asks {
        let key = of(&ask);
        match groups.last_mut() {
            Some((last, asks)) if *last == key => asks.push(ask),
            _ => {
                let next = groups.len();
                let at = *places.entry(key.clone()).or_insert(next);
                match groups.get_mut(at) {
                    Some((_, asks)) => asks.push(ask),
                    None => groups.push((key, vec![ask])),
                }
            }
        }
    }
    groups
}

/// Whether Postgres is asked, and the answer is the same for everybody with the role.
pub(super) fn is_decided_by_role(sighting: &Sighting, role: &str) -> bool {
    let access = sighting.table().access.get(role);
    let deciding = access.and_then(|access| deciding(sighting, &access.rows));
    deciding.is_some_and(|policy| policy.is_constant())
}

/// What must be known before a change is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: show it so.
    Show(OldShown),
    /// Nothing: this role never sees it.
    Hide,
    /// Nothing can be asked: the table is gone.
    TableGone,
    /// Nothing: tell that the row cannot be shown.
    Tell(Problem),
    /// The policy on the new row, and on the old one where the WAL has it whole. With a problem, that is told of a readable
    /// row.
    JudgeNew(Arc<Policy>, Option<Problem>),
    /// The policy on what the WAL has of the row that a DELETE removed: shown so if it is readable, and hidden if not.
    JudgeOld(Arc<Policy>, OldShown),
    /// Whether it is still so that the role may read no column, and hears nothing: a select is refused to it.
    Confirm(Arc<Policy>),
}

/// What is judged of a table for a role that sees every row of it, or none: that this is still so.
fn constant(is_visible: bool) -> Arc<Policy> {
    static EVERY: LazyLock<[Arc<Policy>; 2]> =
        LazyLock::new(|| [false, true].map(|is_visible| Arc::new(Policy::constant(is_visible))));
    let [none, every] = &*EVERY;
    Arc::clone(if is_visible { every } else { none })
}

/// The policy that decides for a role; `None` when nothing has to be asked.
///
/// The WAL tells of changed rights when they are those of the table that is written to, and tells it with the next change.
/// It tells nothing of an attribute that a role has, nor of the rights on a table that the written one is a partition of.
/// So where row security decides, or another table's rights do, the judgement itself looks at them, even where every row
/// would be shown, or none.
fn deciding(sighting: &Sighting, rows: &Rows) -> Option<Arc<Policy>> {
    let table = sighting.table();
    match rows {
        Rows::Policy(policy) => Some(Arc::clone(policy)),
        Rows::All if !table.has_row_security && !sighting.layout.is_of_ancestor() => None,
        Rows::All => Some(constant(true)),
        Rows::None => Some(constant(false)),
    }
}

/// What a role needs to see a change, under the rule for deletes.
pub(super) fn need(sighting: &Sighting, role: &str, deletes: Deletes) -> Need {
    let Some(access) = sighting.table().access.get(role) else { return Need::Hide };
    if sighting.layout.is_gone {
        return Need::TableGone;
    }
    let deciding = deciding(sighting, &access.rows);
    if access.columns == Columns::Only([].into()) {
        // Whatever its policies say.
        return deciding.map_or(Need::Hide, |_| Need::Confirm(constant(false)));
    }
    if sighting.event == Event::Delete {
        return need_of_delete(sighting, &access.rows, deciding, deletes);
    }
    let problem = problem(sighting.table(), &access.columns);
    match (deciding, &access.rows, problem) {
        (Some(policy), _, problem) => Need::JudgeNew(policy, problem),
        (None, Rows::None, _) => Need::Hide,
        (None, _, Some(problem)) => Need::Tell(problem),
        (None, _, None) => Need::Show(OldShown::Whole),
    }
}

/// Who may read a deleted row is judged on what the WAL has of it. Where that is not enough, the key alone is shown,
/// unless the configuration is strict.
fn need_of_delete(
    sighting: &Sighting,
    rows: &Rows,
    deciding: Option<Arc<Policy>>,
    deletes: Deletes,
) -> Need {
    let Some(policy) = deciding else {
        return match (rows, deletes) {
            (Rows::None, Deletes::Supabase) => Need::Show(OldShown::Key),
            (Rows::None, Deletes::Authorised | Deletes::Strict) => Need::Hide,
            _ => Need::Show(OldShown::Whole),
        };
    };
    match (&sighting.old, rows, deletes) {
        (_, Rows::Policy(_) | Rows::None, Deletes::Supabase) => Need::Show(OldShown::Key),
        (OldRow::Full(_), ..) => Need::JudgeOld(policy, OldShown::Whole),
        (OldRow::Key(row), Rows::All, _) if sighting.layout.knows(row, &policy.reads) => {
            Need::JudgeOld(policy, OldShown::Whole)
        }
        (OldRow::Key(row), ..)
            if !policy.reads.stored && sighting.layout.knows(row, &policy.reads) =>
        {
            Need::JudgeOld(policy, OldShown::Key)
        }
        (OldRow::Key(_) | OldRow::Absent, _, Deletes::Strict) => Need::Hide,
        (OldRow::Key(_) | OldRow::Absent, ..) => Need::Show(OldShown::Key),
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

/// For each question, an answer per row or value.
pub(super) type Answers = Vec<Vec<Result<Verdict, Trouble>>>;

/// Where the answers for one piece of work are.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the rows need.
    pub(super) need: Need,
    /// The verdict on the new row.
    pub(super) new: Option<Place>,
    /// The verdict on what is known of the old row.
    pub(super) old: Option<Place>,
    /// Whether the key is another than it was.
    pub(super) has_key_changed: bool,
    /// For each ask, what its filter still needs.
    pub(super) filters: Vec<Filtered>,
    /// For each ask, where the answers to its undecided conditions are: they are asked about readable rows only.
    pub(super) conditions: Vec<SmallVec<[Place; 1]>>,
}

/// What the filter of an ask still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtered {
    /// The answer to its undecided conditions, if there are any.
    Undecided,
    /// The row itself must be readable as well, because the filter looks at more than the key.
    Readable,
    /// It looks at what the role may not read, so nothing may tell whether it holds.
    Blind,
}

impl Filtered {
    /// What the filter of `ask` needs besides its undecided conditions.
    pub(super) fn of(ask: &Ask, sighting: &Sighting, access: &Access, deletes: Deletes) -> Self {
        let mut columns = ask.wish.filter.iter().map(|condition| &condition.predicate.column);
        if !columns.clone().all(|column| access.columns.allow(column)) {
            return Self::Blind;
        }
        let is_cut = sighting.event == Event::Delete
            && access.rows != Rows::All
            && deletes != Deletes::Supabase;
        if is_cut && columns.any(|column| !sighting.layout.is_key_named(column)) {
            return Self::Readable;
        }
        Self::Undecided
    }
}

/// What becomes of a change for one ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
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
        let has_asks = work
            .asks
            .iter()
            .zip(&plan.filters)
            .any(|(ask, filtered)| !ask.undecided.is_empty() && *filtered != Filtered::Blind);
        (plan.new.is_none() && plan.old.is_none() && !has_asks).then_some(plan)
    }

    /// What becomes of the ask at `index`. Whoever may not see the row learns nothing of the filter on it.
    pub(super) fn decision(&self, index: usize, rows: &Answers, conditions: &Answers) -> Decision {
        let Some(filter) = self.filters.get(index) else { return Decision::Hide };
        let row = self.row_decision(rows);
        match (filter, &row) {
            (_, Decision::Hide)
            | (Filtered::Blind, _)
            | (Filtered::Readable, Decision::Show(OldShown::Key)) => return Decision::Hide,
            (Filtered::Readable | Filtered::Undecided, Decision::Withhold(_)) => return row,
            (Filtered::Readable | Filtered::Undecided, _) => {}
        }
        for place in self.conditions.get(index).into_iter().flatten() {
            match answer(conditions, *place) {
                Ok(Verdict::Yes) => {}
                Ok(Verdict::No | Verdict::RowChanged) => return Decision::Hide,
                Err(trouble) => return Decision::Withhold(trouble),
            }
        }
        row
    }

    /// Whether the answers let the row, or its key, be shown, so that conditions on it may be asked about.
    pub(super) fn is_shown(&self, rows: &Answers) -> bool {
        matches!(self.row_decision(rows), Decision::Show(_) | Decision::Tell(_))
    }

    fn row_decision(&self, rows: &Answers) -> Decision {
        let judged =
            |place: Option<Place>| place.map_or(Ok(Verdict::No), |place| answer(rows, place));
        let (place, shown) = match &self.need {
            Need::Show(old) => return Decision::Show(*old),
            // What is asked to confirm it can only say that it is not so any more.
            Need::Hide | Need::Confirm(_) => return Decision::Hide,
            Need::TableGone => return Decision::Withhold(Trouble::TableGone),
            Need::Tell(problem) => return Decision::Tell(*problem),
            Need::JudgeNew(_, Some(problem)) => (self.new, Decision::Tell(*problem)),
            Need::JudgeNew(_, None) => (self.new, Decision::Show(self.old_shown(judged(self.old)))),
            Need::JudgeOld(_, old) => (self.old, Decision::Show(*old)),
        };
        match judged(place) {
            Ok(Verdict::Yes) => shown,
            Ok(Verdict::No) => Decision::Hide,
            Ok(Verdict::RowChanged) => Decision::Withhold(Trouble::Incomplete),
            Err(trouble) => Decision::Withhold(trouble),
        }
    }

    /// What is shown of an old row, by its own verdict. One that is not readable is cut to its key, which is the new row's.
    fn old_shown(&self, judged: Result<Verdict, Trouble>) -> OldShown {
        match judged {
            Ok(Verdict::Yes) => OldShown::Whole,
            _ if self.has_key_changed && self.old.is_some() => OldShown::Nothing,
            _ => OldShown::Key,
        }
    }

    /// What a member sees, when it sees anything.
    pub(super) fn shown(work: &Work, ask: &Ask, role: &str, decision: &Decision) -> Option<Shown> {
        match decision {
            Decision::Show(old) => {
                Some(Shown::Row(work.sighting.layout.mask(role, &ask.wish.select), *old))
            }
            Decision::Tell(problem) => Some(Shown::Problem(*problem)),
            Decision::Hide | Decision::Withhold(_) => None,
        }
    }
}

/// The answer at a place. A place without one is trouble, never a yes.
fn answer(answers: &Answers, (question, row): Place) -> Result<Verdict, Trouble> {
    let answer = answers.get(question).and_then(|rows| rows.get(row));
    answer.cloned().unwrap_or(Err(Trouble::Unavailable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::sighting::Layout;
    use crate::fanout::sighting::tests::{relation, row, table};
    use crate::model::table::{Names, Reads};
    use crate::model::{Cell, Epoch, Lsn, Position, ReplicaIdentity, Row};

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
        let reads =
            Reads { columns: ["body".into()].into(), needed: [1].into(), ..Reads::default() };
        Arc::new(Policy { expression: "body = 'x'".into(), reads, names: Names::Own })
    }

    #[test]
    fn deletes_under_row_security_follow_the_configuration() {
        use Deletes::{Authorised, Strict, Supabase};
        let full = || OldRow::Full(row(["1", "x"]));
        let key = || {
            let cells = [Cell::Text("1".into()), Cell::Unchanged];
            OldRow::Key(Row { cells: cells.into() })
        };
        let judged = || Need::JudgeOld(policy(), OldShown::Whole);
        // That it still has no policy is asked.
        let none = |shown| Need::JudgeOld(constant(false), shown);
        let cases = [
            (Rows::All, full(), Strict, Need::Show(OldShown::Whole)),
            (Rows::Policy(policy()), full(), Authorised, judged()),
            (Rows::Policy(policy()), full(), Strict, judged()),
            (Rows::Policy(policy()), full(), Supabase, Need::Show(OldShown::Key)),
            (Rows::Policy(policy()), key(), Authorised, Need::Show(OldShown::Key)),
            (Rows::Policy(policy()), key(), Strict, Need::Hide),
            (Rows::None, full(), Authorised, none(OldShown::Whole)),
            (Rows::None, key(), Authorised, none(OldShown::Key)),
            (Rows::None, key(), Supabase, Need::Show(OldShown::Key)),
            (Rows::None, full(), Strict, none(OldShown::Whole)),
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
            need: Need::JudgeNew(policy(), None),
            new: Some((0, 5)),
            old: None,
            has_key_changed: false,
            filters: vec![Filtered::Undecided],
            conditions: Vec::new(),
        };
        let answers = vec![vec![Ok(Verdict::Yes)]];
        for answers in [answers, Vec::new()] {
            let decision = plan.decision(0, &answers, &Vec::new());
            assert_eq!(decision, Decision::Withhold(Trouble::Unavailable));
        }
    }
}
