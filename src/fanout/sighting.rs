//! One change as seen through one table: its own, or a partitioned table it belongs to.
//!
//! A large value that an UPDATE left alone, and that the log therefore does not repeat, is taken from the whole old row
//! where there is one and is absent otherwise, as clients are used to: what it was at that moment cannot be read later.

use std::sync::{Arc, Mutex, PoisonError};

use crate::fanout::render::Rendered;
use crate::model::table::Reads;
use crate::model::time::PgTime;
use crate::model::{
    Cell, Change, ChangeKind, Column, Event, OldRow, Position, Relation, ReplicaIdentity, Row,
    SqlType, Table,
};
use crate::rowjson;

/// Which columns somebody sees, by place in the table.
pub(super) type Mask = Arc<[bool]>;

/// Columns asked for by a subscription; `None` is all.
pub(super) type Select = Option<Arc<[Box<str>]>>;

/// Masks kept per layout: clients choose the lists of columns, so there may be any number.
const MASKS_KEPT: usize = 256;

/// How the cells of a relation's rows map to the columns of a table.
#[derive(Debug)]
pub(super) struct Layout {
    /// The table whose name, columns and policies apply.
    pub(super) table: Arc<Table>,
    /// What the row's cells are called: the relation, with computed generated columns appended.
    pub(super) relation: Arc<Relation>,
    /// For each table column, where its cell is.
    pub(super) places: Box<[Option<usize>]>,
    /// Table columns that must be computed, in the order their cells are appended.
    pub(super) computed: Box<[usize]>,
    /// What is needed to compute them.
    pub(super) sources: Reads,
    /// Whether the table is gone, so that nobody can say who may read it.
    pub(super) is_gone: bool,
    generation: u64,
    masks: Mutex<Vec<(Box<str>, Select, Mask)>>,
}

impl Layout {
    /// Lays `table` over the rows of `relation`.
    pub(super) fn new(relation: &Arc<Relation>, table: Arc<Table>) -> Self {
        let mut columns = relation.columns.to_vec();
        let mut computed = Vec::new();
        let mut places = Vec::with_capacity(table.columns.len());
        for (index, column) in table.columns.iter().enumerate() {
            let mut place = relation.column(&column.name);
            if place.is_none() && column.generated.is_some() {
                place = Some(columns.len());
                computed.push(index);
                columns.push(Column {
                    name: Arc::clone(&column.name),
                    type_oid: column.sql_type.oid,
                    typmod: -1,
                    is_key: false,
                });
            }
            places.push(place);
        }
        let extended = if computed.is_empty() {
            Arc::clone(relation)
        } else {
            Arc::new(Relation { columns: columns.into(), ..Relation::clone(relation) })
        };
        Self {
            relation: extended,
            places: places.into(),
            sources: Reads::of_columns(
                computed.iter().filter_map(|at| Some(Arc::clone(&table.columns.get(*at)?.name))),
                &table.columns,
            ),
            computed: computed.into(),
            table,
            is_gone: false,
            generation: relation.generation,
            masks: Mutex::default(),
        }
    }

    /// Whether it still fits the relation and the catalog's newest word on the table.
    pub(super) fn fits(&self, relation: &Relation, table: &Arc<Table>) -> bool {
        self.generation == relation.generation && Arc::ptr_eq(&self.table, table)
    }

    /// The columns `role` sees of those in `select`; primary-key columns always come along.
    pub(super) fn mask(&self, role: &str, select: &Select) -> Mask {
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., mask)) =
            masks.iter().find(|(of, chosen, _)| **of == *role && chosen == select)
        {
            return Arc::clone(mask);
        }
        let access = self.table.access.get(role);
        let sees = |name: &str, is_key: bool| {
            let chosen =
                select.as_ref().is_none_or(|names| is_key || names.iter().any(|n| **n == *name));
            chosen && access.is_some_and(|access| access.columns.allow(name))
        };
        let columns = self.table.columns.iter();
        let mask: Mask = columns.map(|column| sees(&column.name, column.is_primary_key)).collect();
        if masks.len() == MASKS_KEPT {
            masks.clear();
        }
        masks.push((role.into(), select.clone(), Arc::clone(&mask)));
        mask
    }

    /// The cell of table column `index` in `row`.
    pub(super) fn cell<'a>(&self, row: &'a Row, index: usize) -> Option<&'a Cell> {
        row.cell((*self.places.get(index)?)?)
    }

    /// The cells of `row` for the columns that `is_shown` lets through, in table order.
    pub(super) fn cells<'a>(
        &'a self,
        row: &'a Row,
        is_shown: impl Fn(usize) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)> {
        let columns = self.table.columns.iter().enumerate().filter(move |(at, _)| is_shown(*at));
        columns.filter_map(move |(at, column)| {
            Some((&*column.name, &column.sql_type, self.cell(row, at)?))
        })
    }

    /// The image of `row` that Postgres judges by something that reads `reads`, and whether values that this needs are
    /// missing: then everything that is known is in it, and otherwise the key and what is needed.
    pub(super) fn image(&self, row: &Row, reads: &Reads) -> (String, bool) {
        let mut image = String::with_capacity(256);
        let is_partial = !self.knows(row, reads);
        let is_key = |at: &usize| self.table.columns.get(*at).is_some_and(|c| c.is_primary_key);
        let is_shown = |at: usize| is_partial || is_key(&at) || reads.needed.contains(&at);
        rowjson::push_image(&mut image, self.cells(row, is_shown));
        if reads.table_oid {
            image.pop();
            let separator = if image.len() == 1 { "" } else { "," };
            image.push_str(&format!("{separator}\"tableoid\":\"{}\"}}", self.relation.oid));
        }
        (image, is_partial)
    }

    /// Whether `row` has every value that the generated column at `place` is made of.
    pub(super) fn can_compute(&self, row: &Row, place: usize) -> bool {
        if self.knows(row, &self.sources) {
            return true;
        }
        let column = self.table.columns.get(place);
        let names = column.map(|column| Arc::clone(&column.name));
        self.knows(row, &Reads::of_columns(names, &self.table.columns))
    }

    /// Whether `row` has every value that is needed for `reads`.
    pub(super) fn knows(&self, row: &Row, reads: &Reads) -> bool {
        // Changes published as those of a partitioned table do not say in which partition the row is.
        let is_root = self.table.is_partitioned && self.relation.oid == self.table.oid;
        let is_known =
            |at: &usize| self.cell(row, *at).is_some_and(|cell| *cell != Cell::Unchanged);
        !(reads.table_oid && is_root) && reads.needed.iter().all(is_known)
    }

    /// Whether the table is not the one that was written to, but one that it is a partition of.
    pub(super) fn is_of_ancestor(&self) -> bool {
        self.table.oid != self.relation.oid
    }

    /// The same when the table is gone.
    pub(super) fn of_gone(&self) -> Self {
        Self { is_gone: true, ..Self::new(&self.relation, Arc::clone(&self.table)) }
    }

    /// Whether the column called `name` is part of what a key-only old row shows.
    pub(super) fn is_key_named(&self, name: &str) -> bool {
        let at = self.table.columns.iter().position(|column| *column.name == *name);
        at.is_some_and(|at| self.is_key(at))
    }

    /// Whether table column `index` is part of what a key-only old row shows.
    pub(super) fn is_key(&self, index: usize) -> bool {
        let Some(column) = self.table.columns.get(index) else { return false };
        if self.relation.identity == ReplicaIdentity::Full {
            return column.is_primary_key;
        }
        let place = self.places.get(index).copied().flatten();
        let in_identity =
            place.and_then(|place| self.relation.columns.get(place)).is_some_and(|c| c.is_key);
        in_identity && (column.is_primary_key || !self.table.has_row_security)
    }
}

/// One change, seen through one table.
#[derive(Debug)]
pub(super) struct Sighting {
    /// Its id.
    pub(super) id: Position,
    /// It is no change but a row of a first read, which so many more follow; its id is where it was read.
    pub(super) first: Option<usize>,
    /// The transaction that made it.
    pub(super) xid: u32,
    /// When it committed.
    pub(super) committed_at: PgTime,
    /// What happened.
    pub(super) event: Event,
    /// The row after, with what the WAL left out filled in as far as the old row knows it.
    pub(super) new: Option<Row>,
    /// The row before.
    pub(super) old: OldRow,
    /// The table it is seen through.
    pub(super) layout: Arc<Layout>,
    /// What was rendered so far.
    pub(super) rendered: Rendered,
}

/// A row change with its unchanged cells resolved; `None` for changes nobody can ask for.
pub(super) fn resolve(change: &Change) -> Option<(Event, Option<Row>, OldRow)> {
    let event = change.event()?;
    let (new, old) = match &change.kind {
        ChangeKind::Insert { new } => (Some(new.clone()), OldRow::Absent),
        ChangeKind::Update { old, new } => {
            (Some(fill(new, old, &change.relation)), only_key(old, &change.relation))
        }
        ChangeKind::Delete { old } => (None, only_key(old, &change.relation)),
        ChangeKind::Truncate => return None,
    };
    Some((event, new, old))
}

/// The new row, its unchanged cells taken from the old one as far as that is known: a key that is stored out of line is
/// written as an old key when it did not change, too.
fn fill(new: &Row, old: &OldRow, relation: &Relation) -> Row {
    if !new.cells.contains(&Cell::Unchanged) {
        return new.clone();
    }
    let known = |at: usize| match old {
        OldRow::Full(old) => old.cell(at),
        OldRow::Key(old) if relation.columns.get(at).is_some_and(|c| c.is_key) => old.cell(at),
        OldRow::Key(_) | OldRow::Absent => None,
    };
    let cells = new.cells.iter().enumerate();
    Row { cells: cells.map(|(at, cell)| cell.clone().or_old(known(at))).collect() }
}

/// A key-only row says nothing of its other columns: they become absent rather than null.
fn only_key(old: &OldRow, relation: &Relation) -> OldRow {
    let OldRow::Key(row) = old else { return old.clone() };
    let cells = row.cells.iter().zip(&relation.columns);
    let known = |(cell, column): (&Cell, &Column)| {
        if column.is_key { cell.clone() } else { Cell::Unchanged }
    };
    OldRow::Key(Row { cells: cells.map(known).collect() })
}

impl Sighting {
    /// The row filters look at: the new one, or the old one of a DELETE.
    pub(super) const fn subject(&self) -> Option<&Row> {
        match (&self.new, &self.old) {
            (Some(row), _) | (None, OldRow::Key(row) | OldRow::Full(row)) => Some(row),
            (None, OldRow::Absent) => None,
        }
    }

    /// Whether the primary key of an updated row is another than it was.
    pub(super) fn has_key_changed(&self) -> bool {
        let (Some(new), OldRow::Full(old) | OldRow::Key(old)) = (&self.new, &self.old) else {
            return false;
        };
        let columns = self.layout.table.columns.iter().enumerate();
        let mut keys = columns.filter(|(_, column)| column.is_primary_key);
        keys.any(|(at, _)| self.layout.cell(new, at) != self.layout.cell(old, at))
    }

    /// Memory its values take, in bytes, roughly.
    pub(super) fn size(&self) -> usize {
        let row = |row: &Row| row.size() + row.cells.len() * size_of::<Cell>();
        let old = match &self.old {
            OldRow::Absent => 0,
            OldRow::Key(old) | OldRow::Full(old) => row(old),
        };
        size_of::<Self>() + old + self.new.as_ref().map_or(0, row)
    }

    /// The same change with another word of the catalog on its table.
    pub(super) fn through(&self, layout: Arc<Layout>) -> Self {
        let (new, old, rendered) = (self.new.clone(), self.old.clone(), Rendered::default());
        Self { new, old, layout, rendered, ..*self }
    }

    /// The table it is seen through.
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.layout.table
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::model::table::{Access, Columns, Rows, TableColumn};

    /// `t(id primary key, body)`, readable in full by `anon` under `rows`.
    pub(in crate::fanout) fn table(rows: Rows, identity: ReplicaIdentity) -> Arc<Table> {
        let column = |name: &str, is_primary_key| TableColumn {
            name: name.into(),
            sql_type: SqlType { oid: 25, name: "text".into(), kind: Kind::Text },
            is_primary_key,
            cast: "text".into(),
            generated: None,
        };
        Arc::new(Table {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            is_published: true,
            has_row_security: rows != Rows::All,
            is_partitioned: false,
            identity,
            columns: [column("id", true), column("body", false)].into(),
            ancestors: [].into(),
            access: [("anon".into(), Access { columns: Columns::All, rows, fingerprint: 0 })]
                .into(),
        })
    }

    pub(in crate::fanout) fn relation(identity: ReplicaIdentity) -> Arc<Relation> {
        let column =
            |name: &str, is_key| Column { name: name.into(), type_oid: 25, typmod: -1, is_key };
        let is_full = identity == ReplicaIdentity::Full;
        Arc::new(Relation {
            oid: 1,
            generation: 1,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: [column("id", true), column("body", is_full)].into(),
        })
    }

    pub(in crate::fanout) fn row<const N: usize>(cells: [&'static str; N]) -> Row {
        Row { cells: cells.into_iter().map(|text| Cell::Text(text.into())).collect() }
    }

    #[test]
    fn the_columns_a_key_only_row_lacks_are_absent_not_null() {
        let key = Row { cells: [Cell::Text("1".into()), Cell::Null].into() };
        let kind = ChangeKind::Delete { old: OldRow::Key(key) };
        let change = Change { relation: relation(ReplicaIdentity::Default), kind };
        let Some((Event::Delete, None, OldRow::Key(row))) = resolve(&change) else {
            panic!("not a delete")
        };
        assert_eq!(*row.cells, [Cell::Text("1".into()), Cell::Unchanged]);
    }

    #[test]
    fn an_image_without_a_column_that_the_policy_reads_is_partial() {
        let identity = ReplicaIdentity::Default;
        let full = relation(identity);
        let columns = full.columns.iter().take(1).cloned().collect();
        let older = Arc::new(Relation { columns, ..Relation::clone(&full) });
        let image = |relation: &Arc<Relation>, row: &Row, reads: Reads| {
            let layout = Layout::new(relation, table(Rows::All, identity));
            layout.image(row, &reads.resolved(&layout.table.columns))
        };
        let reads = |name: &str| Reads { columns: [name.into()].into(), ..Reads::default() };
        let whole_row = || Reads { whole_row: true, ..Reads::default() };
        let both = r#"{"id":"1","body":"x"}"#.to_owned();
        assert_eq!(image(&full, &row(["1", "x"]), reads("body")), (both.clone(), false));
        assert_eq!(image(&full, &row(["1", "x"]), whole_row()), (both, false));
        let key = r#"{"id":"1"}"#.to_owned();
        assert_eq!(image(&full, &row(["1", "x"]), reads("id")), (key.clone(), false));
        assert_eq!(image(&older, &row(["1"]), reads("body")), (key.clone(), true));
        assert_eq!(image(&older, &row(["1"]), whole_row()), (key.clone(), true));
        assert_eq!(image(&older, &row(["1"]), reads("id")), (key, false));
        let table_oid = Reads { table_oid: true, ..Reads::default() };
        let with_oid = r#"{"id":"1","tableoid":"1"}"#.to_owned();
        assert_eq!(image(&full, &row(["1", "x"]), table_oid), (with_oid, false));

        // What is not read may be missing.
        let unchanged = Row { cells: [Cell::Text("1".into()), Cell::Unchanged].into() };
        assert!(!image(&full, &unchanged, reads("id")).1);
        assert!(image(&full, &unchanged, reads("body")).1);
    }

    #[test]
    fn an_unchanged_key_takes_the_old_keys_value() {
        let new = Row { cells: [Cell::Unchanged, Cell::Text("x".into())].into() };
        let old = Row { cells: [Cell::Text("long".into()), Cell::Null].into() };
        let kind = ChangeKind::Update { old: OldRow::Key(old), new };
        let change = Change { relation: relation(ReplicaIdentity::Default), kind };
        let Some((_, Some(new), _)) = resolve(&change) else { panic!("no new row") };
        assert_eq!(new, row(["long", "x"]));
    }

    #[test]
    fn an_unchanged_cell_takes_the_whole_old_rows_value() {
        let new = Row { cells: [Cell::Text("1".into()), Cell::Unchanged].into() };
        let kind = ChangeKind::Update { old: OldRow::Full(row(["1", "long"])), new };
        let change = Change { relation: relation(ReplicaIdentity::Full), kind };
        let Some((_, Some(new), _)) = resolve(&change) else { panic!("no new row") };
        assert_eq!(new, row(["1", "long"]));
    }

    #[test]
    fn a_mask_keeps_the_key_and_the_chosen_columns_the_role_may_read() {
        let identity = ReplicaIdentity::Default;
        let layout = Layout::new(&relation(identity), table(Rows::All, identity));
        let none: Select = Some([].into());
        assert_eq!(*layout.mask("anon", &None), [true, true]);
        assert_eq!(*layout.mask("anon", &none), [true, false]);
        assert_eq!(*layout.mask("stranger", &None), [false, false]);
    }
}
