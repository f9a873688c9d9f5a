//! Questions as SQL statements.
//!
//! Promises: names come from the catalog and are quoted, values are parameters, and one question's text is always the
//! same, so that its plan is kept. Large questions are cut into statements of bounded size.

use std::sync::Arc;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::image::{of_columns, qualified, source};
use super::visibility::Asked;
use crate::model::filter::{Condition, Parameter as Operand};
use crate::model::table::{Names, Policy};
use crate::model::{Principal, Table};
use crate::postgres::quote::{fill, identifier, literal};

/// Rows in one statement.
pub(super) const MOST_ROWS: usize = 500;
/// Bytes of images in one statement, unless one row alone has more.
const MOST_BYTES: usize = 1 << 20;

const GATE: &str = include_str!("../../sql/queries/visibility_gate.sql");

/// One statement whose first parameter is the transactions that must be visible.
#[derive(Debug)]
pub(super) struct Check {
    /// The text.
    pub(super) sql: String,
    /// The parameters from `$2` on.
    pub(super) parameters: Vec<Parameter>,
    /// How many verdicts it gives.
    pub(super) count: usize,
    /// What the answer rests on, when it is about rows of a table.
    pub(super) basis: Option<Basis>,
}

/// What a verdict on rows rests on.
#[derive(Clone, Debug)]
pub(super) struct Basis {
    /// The table whose policies it asks.
    pub(super) table: u32,
    /// The fingerprint of the rights it was made from.
    pub(super) rights: i64,
    /// Whether its text repeats the text of policies.
    pub(super) is_repeated: bool,
    /// Who can name what its text names.
    pub(super) names: Names,
}

/// A parameter's value.
#[derive(Debug)]
pub(super) enum Parameter {
    /// JSON text.
    Json(String),
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<Option<String>>),
}

/// Cuts rows into pieces of bounded size, keeping their order.
pub(super) fn pieces<'a>(rows: &[&'a Asked]) -> Vec<Vec<&'a Asked>> {
    let mut pieces: Vec<Vec<&Asked>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        match pieces.last_mut() {
            Some(piece) if piece.len() < MOST_ROWS && bytes + row.image.len() < MOST_BYTES => {
                bytes += row.image.len();
                piece.push(row);
            }
            _ => {
                bytes = row.image.len();
                pieces.push(vec![row]);
            }
        }
    }
    pieces
}

/// Do these row images pass the policy?
pub(super) fn of_images(table: &Table, role: &str, policy: &Policy, rows: &[&Asked]) -> Check {
    let (template, json) = match rows {
        [row] => (include_str!("../../sql/queries/visibility_row.sql"), row.image.clone()),
        rows => (include_str!("../../sql/queries/visibility_rows.sql"), array(rows)),
    };
    let places = [
        ("gate", &*fill(GATE, &[])),
        ("expression", &policy.expression),
        ("source", &source(table, &policy.reads, "$2::json", rows.len() != 1)),
        ("made_for", &made_for(table, role)),
    ];
    Check {
        sql: fill(template, &places),
        parameters: vec![Parameter::Json(json)],
        count: rows.len(),
        basis: Some(basis(table, role, !policy.is_constant(), policy.names.clone())),
    }
}

/// Does the principal see these rows in the table, as they are in the images? `None`: the table has no primary key.
pub(super) fn of_stored(table: &Table, principal: &Principal, rows: &[&Asked]) -> Option<Check> {
    if !table.has_primary_key() {
        return None;
    }
    let alias = "\"relay stored\"";
    let access = table.access.get(principal.role());
    let is_compared = |name: &str| access.is_some_and(|access| access.columns.allow(name));
    let columns = table.columns.iter().filter(|column| {
        column.is_primary_key || (column.generated.is_none() && is_compared(&column.name))
    });
    let columns: Vec<_> = columns.collect();
    let same = columns.iter().map(|column| {
        let name = identifier(&column.name);
        let (stored, asked) = (format!("{alias}.{name}"), format!("\"relay image\".{name}"));
        if column.is_primary_key {
            return format!("{stored} = {asked}");
        }
        format!(
            "(not \"relay asked\".\"given\" ? {} or {stored}::text collate pg_catalog.\"C\" is not distinct from {asked}::text collate pg_catalog.\"C\")",
            literal(&column.name),
        )
    });
    let same: Vec<String> = same.collect();
    let image = of_columns("\"relay image\"", &columns, false, "\"relay asked\".\"image\"", false);
    let places = [
        ("gate", &*fill(GATE, &[])),
        ("table", &qualified(table)),
        ("alias", alias),
        ("source", &image),
        ("same", &same.join(" and ")),
        ("made_for", &made_for(table, principal.role())),
    ];
    Some(Check {
        sql: fill(include_str!("../../sql/queries/visibility_stored.sql"), &places),
        parameters: vec![Parameter::Json(array(rows))],
        count: rows.len(),
        basis: Some(basis(table, principal.role(), false, Names::Own)),
    })
}

/// The table and the rights that a statement is made for, as a part of its text: a prepared one keeps what row security was
/// when it was parsed, and the table that had the name then.
fn made_for(table: &Table, role: &str) -> String {
    format!("{} {}", table.oid, rights_of(table, role))
}

fn basis(table: &Table, role: &str, is_repeated: bool, names: Names) -> Basis {
    Basis { table: table.oid, rights: rights_of(table, role), is_repeated, names }
}

/// The fingerprint of what a role may read of a table.
fn rights_of(table: &Table, role: &str) -> i64 {
    table.access.get(role).map_or(0, |access| access.fingerprint)
}

/// Do these values pass the condition, read as `type_name`?
pub(super) fn of_values(
    condition: &Condition,
    type_name: &str,
    values: &[Option<Arc<str>>],
) -> Check {
    let text = condition.sql(type_name, r#""relay asked"."value""#, "$3");
    let template = include_str!("../../sql/queries/visibility_values.sql");
    let texts = values.iter().map(|value| value.as_deref().map(str::to_owned)).collect();
    let mut parameters = vec![Parameter::Texts(texts)];
    match condition.parameter() {
        Operand::None => {}
        Operand::Text(text) => parameters.push(Parameter::Text(text.to_owned())),
        Operand::List(texts) => parameters.push(Parameter::Texts(
            texts.into_iter().map(|text| text.map(str::to_owned)).collect(),
        )),
    }
    let sql = fill(template, &[("gate", &fill(GATE, &[])), ("condition", &text)]);
    Check { sql, parameters, count: values.len(), basis: None }
}

/// Images as one JSON array.
pub(super) fn array<'a>(
    rows: impl IntoIterator<Item = &'a (impl AsRef<str> + 'a + ?Sized)>,
) -> String {
    let mut json = String::from("[");
    for row in rows {
        if 1 < json.len() {
            json.push(',');
        }
        json.push_str(row.as_ref());
    }
    json.push(']');
    json
}

impl AsRef<str> for Asked {
    fn as_ref(&self) -> &str {
        &self.image
    }
}

impl Parameter {
    /// The parameter as the driver takes it.
    pub(super) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Json(_) => self,
            Self::Text(text) => text,
            Self::Texts(texts) => texts,
        }
    }
}

/// Sends JSON as the text it already is.
impl ToSql for Parameter {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if let Self::Json(text) = self {
            out.extend_from_slice(text.as_bytes());
            return Ok(IsNull::No);
        }
        Ok(IsNull::Yes)
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::JSON
    }

    to_sql_checked!();
}
