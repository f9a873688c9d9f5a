//! From rows of `pg_type` to a tree of [`SqlType`].
//!
//! Promises an answer for every oid it is asked about: what it does not know is [`Kind::Other`], a string of
//! Postgres' own text. Values are not its business.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, Row};

use crate::model::sqltype::{Composite, Kind};
use crate::model::{Snapshot, SqlType};

/// Deeper nesting than this is shown as text; Postgres itself forbids a type that contains itself.
const DEEPEST: usize = 32;

/// Types by oid, as the catalog described them at one moment.
#[derive(Debug, Default)]
pub(super) struct Types {
    described: HashMap<u32, Described>,
    seen: Option<Snapshot>,
}

/// One row of `catalog_types.sql`.
#[derive(Debug)]
struct Described {
    name: Arc<str>,
    kind: char,
    inner: u32,
    /// What stands between its values in an array.
    delimiter: char,
    is_hstore: bool,
    labels: Vec<String>,
    attributes: Vec<(String, u32)>,
}

impl Types {
    /// Asks for these types and all they are made of.
    pub(super) async fn fetch(
        client: &Client,
        oids: &[u32],
    ) -> Result<Self, tokio_postgres::Error> {
        let rows =
            client.query(include_str!("../../sql/queries/catalog_types.sql"), &[&oids]).await?;
        let mut described = HashMap::with_capacity(rows.len());
        let seen = rows.first().map(|row| row.try_get::<_, String>("seen")).transpose()?;
        for row in rows {
            described.insert(row.try_get("oid")?, Described::read(&row)?);
        }
        Ok(Self { described, seen: seen.and_then(|seen| seen.parse().ok()) })
    }

    /// In which snapshot they are so; `None` when there are none.
    pub(super) fn seen(&self) -> Option<&Snapshot> {
        self.seen.as_ref()
    }

    /// The type with this oid, resolved down to what it is made of.
    pub(super) fn resolve(&self, oid: u32) -> SqlType {
        self.resolve_at(oid, 0)
    }

    fn resolve_at(&self, oid: u32, depth: usize) -> SqlType {
        let Some(described) = self.described.get(&oid).filter(|_| depth < DEEPEST) else {
            let name = self.described.get(&oid).map(|known| Arc::clone(&known.name));
            return SqlType {
                oid,
                name: name.unwrap_or_else(|| "unknown".into()),
                kind: Kind::Other,
            };
        };
        let inner = |of| Arc::new(self.resolve_at(of, depth + 1));
        let kind = match described.kind {
            'e' => Kind::Enum(described.labels.iter().map(|label| label.as_str().into()).collect()),
            'd' => Kind::Domain(inner(described.inner)),
            'c' => {
                let resolve = |(name, of): &(String, u32)| {
                    (name.as_str().into(), self.resolve_at(*of, depth + 1))
                };
                let attributes = described.attributes.iter().map(resolve).collect();
                Kind::Composite(Composite { attributes, earlier: Arc::default() })
            }
            _ if described.is_hstore => Kind::Hstore,
            _ if described.inner != 0 => Kind::Array {
                element: inner(described.inner),
                delimiter: self.described.get(&described.inner).map_or(',', |of| of.delimiter),
            },
            _ => built_in(oid),
        };
        SqlType { oid, name: Arc::clone(&described.name), kind }
    }
}

impl Described {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let names: Vec<String> = row.try_get("attribute_names")?;
        let types: Vec<u32> = row.try_get("attribute_types")?;
        Ok(Self {
            name: row.try_get::<_, String>("name")?.into(),
            kind: row.try_get::<_, String>("kind")?.chars().next().unwrap_or('b'),
            inner: row.try_get("inner_type")?,
            delimiter: row.try_get::<_, String>("delimiter")?.chars().next().unwrap_or(','),
            is_hstore: row.try_get("is_hstore")?,
            labels: row.try_get("labels")?,
            attributes: names.into_iter().zip(types).collect(),
        })
    }
}

/// How the text of a type that comes with Postgres is read. Their oids never change.
const fn built_in(oid: u32) -> Kind {
    match oid {
        16 => Kind::Bool,
        20 | 21 | 23 => Kind::Integer,
        1700 => Kind::Numeric,
        700 | 701 => Kind::Float,
        114 => Kind::Json,
        3802 => Kind::Jsonb,
        17 => Kind::Bytea,
        1082 => Kind::Date,
        1114 => Kind::Timestamp,
        1184 => Kind::TimestampTz,
        2950 => Kind::Uuid,
        19 | 25 | 1043 => Kind::Text,
        1042 => Kind::BlankPadded,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, kind: char, inner: u32) -> Described {
        Described {
            name: name.into(),
            kind,
            inner,
            delimiter: if name == "box" { ';' } else { ',' },
            is_hstore: name == "hstore",
            labels: vec!["low".into(), "high".into()],
            attributes: vec![("a".into(), 23)],
        }
    }

    fn types(rows: Vec<(u32, Described)>) -> Types {
        Types { described: rows.into_iter().collect(), seen: None }
    }

    #[test]
    fn a_domain_over_an_array_of_enums_is_resolved_to_its_labels() {
        let types = types(vec![
            (9001, described("moods", 'd', 9002)),
            (9002, described("_mood", 'b', 9003)),
            (9003, described("mood", 'e', 0)),
        ]);
        let moods = types.resolve(9001);
        assert_eq!(&*moods.name, "moods");
        let Kind::Array { element, .. } = &moods.base().kind else { panic!("not an array") };
        let Kind::Enum(labels) = &element.kind else { panic!("not an enum") };
        assert_eq!(labels.iter().map(|label| &**label).collect::<Vec<_>>(), ["low", "high"]);
    }

    #[test]
    fn a_composite_keeps_its_attributes_in_order() {
        let types = types(vec![(9001, described("pair", 'c', 0)), (23, described("int4", 'b', 0))]);
        let Kind::Composite(pair) = types.resolve(9001).kind else { panic!("not composite") };
        assert_eq!(&*pair.attributes[0].0, "a");
        assert_eq!(pair.attributes[0].1.kind, Kind::Integer);
    }

    #[test]
    fn an_array_is_delimited_as_its_element_says() {
        let types = types(vec![
            (1020, described("_box", 'b', 603)),
            (603, described("box", 'b', 0)),
            (1009, described("_text", 'b', 25)),
        ]);
        for (oid, expected) in [(1020, ';'), (1009, ',')] {
            let Kind::Array { delimiter, .. } = types.resolve(oid).kind else { panic!("no array") };
            assert_eq!(delimiter, expected, "{oid}");
        }
    }

    #[test]
    fn what_is_unknown_or_too_deep_is_text() {
        assert_eq!(types(Vec::new()).resolve(9001).kind, Kind::Other);
        let mut endless = types(vec![(9001, described("loop", 'd', 9001))]).resolve(9001);
        for _ in 0..DEEPEST {
            let Kind::Domain(inner) = endless.kind else { panic!("ended early") };
            endless = (*inner).clone();
        }
        assert_eq!(endless.kind, Kind::Other);
    }
}
