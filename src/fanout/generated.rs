//! Generated columns, which the WAL does not carry: Postgres computes them again from the row.
//!
//! A change whose columns cannot be computed is shown without them. Whether a filter on one of them holds is then
//! unknown, so whoever has such a filter is told that changes are withheld.

use std::collections::HashSet;
use std::sync::Arc;

use super::Fanout;
use super::audience::Audience;
use super::sighting::{Layout, Sighting};
use crate::auth::visibility::Trouble;
use crate::changelog::Place;
use crate::hub::{Member, Membership};
use crate::log_rate::admit;
use crate::metrics::reason;
use crate::model::{Cell, Change, Event, OldRow, Row, Subscription, Target};

impl Fanout {
    /// Appends the generated columns that the WAL does not carry. What cannot be computed stays absent, and why is said.
    pub(super) async fn compute(
        &self,
        layout: &Layout,
        new: Option<Row>,
        old: OldRow,
    ) -> (Option<Row>, OldRow, Option<Trouble>) {
        if layout.computed.is_empty() {
            return (new, old, None);
        }
        let rows: Vec<&Row> = new.iter().chain(old.full()).collect();
        let images = rows.iter().map(|row| layout.image(row, &layout.sources).0).collect();
        let generating =
            Box::pin(self.visibility.generate(&layout.table, &layout.computed, images));
        let (values, mut trouble) = match generating.await {
            Ok(values) => (values, None),
            Err(trouble) => {
                let (schema, table) = (&*layout.table.schema, &*layout.table.name);
                if let Some(left_out) =
                    admit(&["generated", schema, table, &format!("{trouble:?}")])
                {
                    tracing::warn!(
                        schema,
                        table,
                        ?trouble,
                        left_out,
                        "could not compute generated columns"
                    );
                }
                self.metrics.withheld.get_or_create(&reason("generated_column")).inc();
                (Vec::new(), Some(trouble))
            }
        };
        let mut values = values.into_iter();
        let mut extend = |row: Row| {
            let known = values.next().unwrap_or_default();
            let cells = layout.computed.iter().enumerate().map(|(at, place)| match known.get(at) {
                // It cannot be computed from a value that the log does not repeat.
                Some(_) if !layout.can_compute(&row, *place) => {
                    trouble = Some(Trouble::Incomplete);
                    Cell::Unchanged
                }
                Some(Some(text)) => Cell::Text(text.clone().into()),
                Some(None) => Cell::Null,
                None => Cell::Unchanged,
            });
            let cells: Vec<Cell> = cells.collect();
            Row { cells: row.cells.into_iter().chain(cells).collect() }
        };
        let new = new.map(&mut extend);
        let old = match old {
            OldRow::Full(row) => OldRow::Full(extend(row)),
            OldRow::Key(_) | OldRow::Absent => old,
        };
        (new, old, trouble)
    }
}

/// The members whose filters need a column of the change that could not be computed, and that their roles may read.
pub(super) fn in_the_dark(
    sighting: &Sighting,
    is_own: bool,
    audience: Audience<'_>,
) -> Vec<Arc<Member>> {
    audience.with(|members| {
        let table = sighting.table();
        let name = (&*table.schema, &*table.name);
        let all = asking(members, name, sighting.event, is_own);
        let concerned = all.filter(|(wish, member, id)| {
            audience.wants(member.id, *id, sighting.id.into())
                && needs_computed(sighting, wish, member)
        });
        let mut known = HashSet::new();
        let members = concerned.map(|(_, member, _)| member);
        members.filter(|member| known.insert(member.id)).cloned().collect()
    })
}

/// The members who ask for a change at `place` by the name of the table that it was made in, whatever their filters say.
pub(super) fn asking_for(
    change: &Change,
    place: Place,
    audience: Audience<'_>,
) -> Vec<Arc<Member>> {
    let Some(event) = change.event() else { return Vec::new() };
    let name = (&*change.relation.schema, &*change.relation.name);
    audience.with(|members| {
        let all = asking(members, name, event, true);
        let mut known = HashSet::new();
        let concerned = all.filter(|(_, member, id)| audience.wants(member.id, *id, place));
        let members = concerned.map(|(_, member, _)| member);
        members.filter(|member| known.insert(member.id)).cloned().collect()
    })
}

/// Who asks for such changes of a table, whatever the filter says.
fn asking<'a>(
    members: &'a Membership,
    (schema, name): (&'a str, &'a str),
    event: Event,
    is_own: bool,
) -> impl Iterator<Item = (&'a Subscription, &'a Arc<Member>, u64)> {
    let wishes = members.wishes().filter(move |(wish, _)| {
        let is_target = match &wish.target {
            Target::Table { schema: of, table } => **of == *schema && **table == *name,
            Target::Schema(of) => is_own && **of == *schema,
            Target::All => is_own,
        };
        is_target && wish.event.is_none_or(|asked| asked == event)
    });
    wishes
        .flat_map(|(wish, members)| members.iter().map(move |(member, id)| (&**wish, member, *id)))
}

fn needs_computed(sighting: &Sighting, wish: &Subscription, member: &Member) -> bool {
    let table = sighting.table();
    let principal = member.principal();
    let Some(access) = table.access.get(principal.role()) else { return false };
    let computed = sighting.layout.computed.iter();
    let computed = computed.filter_map(|at| Some((*at, table.columns.get(*at)?)));
    let mut computed = computed.filter(|(_, column)| access.columns.allow(&column.name));
    computed.any(|(at, column)| {
        let is_unknown = sighting.subject().is_none_or(|row| {
            sighting.layout.cell(row, at).is_none_or(|cell| *cell == Cell::Unchanged)
        });
        let mut filter = wish.filter.iter();
        is_unknown && filter.any(|condition| *condition.predicate.column == *column.name)
    })
}
