//! What composite types are made of, now and earlier, as this process came to know it.
//!
//! Promises: what is learnt of a type through one table is noticed by all that are made of it. Postgres describes no
//! relation anew when a composite type is altered, so this is how it is found out. Bounded: [`EARLIER`] shapes of a type,
//! and [`TYPES`] types, then all are forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::sqltype::{Attributes, Composite, Kind};
use crate::model::{SqlType, Table};

/// Earlier shapes kept of a type.
const EARLIER: usize = 4;

/// Types kept.
const TYPES: usize = 10_000;

/// Composite types by oid.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    types: HashMap<u32, Shape>,
}

#[derive(Debug)]
struct Shape {
    now: Attributes,
    /// The latest first, without what their own attributes were earlier.
    earlier: Arc<[Attributes]>,
}

impl Shapes {
    /// Takes in what a table's types are made of, and completes them with what they were earlier. Returns the types that
    /// are not what they were.
    pub(super) fn learn(&mut self, table: &mut Table) -> Vec<u32> {
        let mut changed = Vec::new();
        for column in &mut table.columns {
            if is_composed(&column.sql_type) {
                column.sql_type = self.complete(&column.sql_type, &mut changed);
            }
        }
        changed
    }

    fn complete(&mut self, sql_type: &SqlType, changed: &mut Vec<u32>) -> SqlType {
        let kind = match &sql_type.kind {
            Kind::Array { element, delimiter } => Kind::Array {
                element: Arc::new(self.complete(element, changed)),
                delimiter: *delimiter,
            },
            Kind::Domain(base) => Kind::Domain(Arc::new(self.complete(base, changed))),
            Kind::Composite(Composite { attributes, .. }) => {
                let earlier = self.note(sql_type.oid, attributes, changed);
                let complete =
                    |(name, of): &(Box<str>, SqlType)| (name.clone(), self.complete(of, changed));
                let attributes = attributes.iter().map(complete).collect();
                Kind::Composite(Composite { attributes, earlier })
            }
            other => other.clone(),
        };
        SqlType { oid: sql_type.oid, name: Arc::clone(&sql_type.name), kind }
    }

    /// Remembers what a type is made of now, and returns what it was earlier.
    fn note(&mut self, oid: u32, now: &Attributes, changed: &mut Vec<u32>) -> Arc<[Attributes]> {
        if TYPES <= self.types.len() && !self.types.contains_key(&oid) {
            self.types.clear();
        }
        let shape = self
            .types
            .entry(oid)
            .or_insert_with(|| Shape { now: Arc::clone(now), earlier: Arc::default() });
        if !is_same(&shape.now, now) {
            changed.push(oid);
            let before = std::mem::replace(&mut shape.now, Arc::clone(now));
            let known = shape
                .earlier
                .iter()
                .filter(|earlier| !is_same(earlier, now) && !is_same(earlier, &before));
            shape.earlier =
                std::iter::once(&before).chain(known).take(EARLIER).map(Arc::clone).collect();
        }
        Arc::clone(&shape.earlier)
    }
}

/// Whether two shapes have the same attributes, whatever those are made of.
fn is_same(one: &Attributes, other: &Attributes) -> bool {
    let bare = |attributes: &Attributes| {
        attributes.iter().map(|(name, of)| (name.clone(), of.oid)).collect::<Vec<_>>()
    };
    bare(one) == bare(other)
}

/// Whether a composite type is part of it.
pub(super) fn is_composed(sql_type: &SqlType) -> bool {
    match &sql_type.kind {
        Kind::Array { element: of, .. } | Kind::Domain(of) => is_composed(of),
        Kind::Composite(_) => true,
        _ => false,
    }
}

/// The composite types that a table is made of.
pub(super) fn composites(table: &Table) -> Vec<u32> {
    fn gather(sql_type: &SqlType, found: &mut Vec<u32>) {
        match &sql_type.kind {
            Kind::Array { element: of, .. } | Kind::Domain(of) => gather(of, found),
            Kind::Composite(Composite { attributes, .. }) => {
                found.push(sql_type.oid);
                attributes.iter().for_each(|(_, of)| gather(of, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    table.columns.iter().for_each(|column| gather(&column.sql_type, &mut found));
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(names: &[&str]) -> SqlType {
        let text = SqlType { oid: 25, name: "text".into(), kind: Kind::Text };
        let attributes = names.iter().map(|&name| (name.into(), text.clone())).collect();
        let kind = Kind::Composite(Composite { attributes, earlier: Arc::default() });
        SqlType { oid: 9001, name: "spot".into(), kind }
    }

    fn earlier(sql_type: &SqlType) -> Vec<Vec<&str>> {
        let Kind::Composite(composite) = &sql_type.kind else { panic!("not composite") };
        let shapes = composite.earlier.iter();
        shapes.map(|shape| shape.iter().map(|(name, _)| &**name).collect()).collect()
    }

    #[test]
    fn earlier_shapes_are_kept_the_latest_first_and_few() {
        let (mut shapes, mut changed) = (Shapes::default(), Vec::new());
        for names in [&["a"][..], &["a", "b"], &["a", "b"], &["c", "b"]] {
            shapes.complete(&spot(names), &mut changed);
        }
        assert_eq!(changed, [9001, 9001]);
        assert_eq!(
            earlier(&shapes.complete(&spot(&["c", "b"]), &mut changed)),
            [vec!["a", "b"], vec!["a"]]
        );
        // What it is again is not what it was.
        let again = shapes.complete(&spot(&["a"]), &mut changed);
        assert_eq!(earlier(&again), [vec!["c", "b"], vec!["a", "b"]]);
        for count in 3..10 {
            shapes.complete(&spot(&vec!["x"; count]), &mut changed);
        }
        let last = shapes.complete(&spot(&["x"; 9]), &mut changed);
        assert_eq!(earlier(&last).len(), EARLIER);
        assert_eq!(earlier(&last)[0].len(), 8);
    }
}
