//! Questions as SQL statements.
//!
//! Promises: names come from the catalog and are quoted, values are parameters, and one question's text is always the
//! same, so that its plan is kept. Large questions are cut into statements of bounded size.

use std::fmt::Write as _;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::quote::{fill, identifier, literal};
use super::visibility::Asked;
use crate::model::filter::{Condition, Parameter as Operand};
use crate::model::{Kind, Principal, Table};

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
    /// The table whose policies it asks.
    pub(super) table: Option<u32>,
    /// Whether its text repeats the text of policies.
    pub(super) is_repeated: bool,
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
pub(super) fn of_images(table: &Table, expression: &str, rows: &[&Asked]) -> Check {
    let name = qualified(table);
    let alias = identifier(&table.name);
    let computed = computed(table, expression);
    let gate = fill(GATE, &[]);
    let places = |row| {
        [
            ("gate", &*gate),
            ("expression", expression),
            ("table", &name),
            ("alias", &alias),
            ("row", row),
        ]
    };
    let (sql, json) = match (rows, computed) {
        ([row], computed) => {
            let source = made_of("$2::json", &name, &alias, computed.as_deref());
            let template = include_str!("../../sql/queries/visibility_row.sql");
            (fill(template, &places(&source)), row.image.clone())
        }
        (rows, None) => {
            let template = include_str!("../../sql/queries/visibility_rows.sql");
            (fill(template, &places("")), array(rows))
        }
        (rows, computed) => {
            let image = r#""relay asked"."image""#;
            let source = made_of(image, &name, &alias, computed.as_deref());
            let template = include_str!("../../sql/queries/visibility_rows_computed.sql");
            (fill(template, &places(&source)), array(rows))
        }
    };
    Check {
        sql,
        parameters: vec![Parameter::Json(json)],
        count: rows.len(),
        table: Some(table.oid),
        is_repeated: true,
    }
}

/// Does the principal see these rows in the table, as they are in the images? `None`: the table has no primary key.
pub(super) fn of_stored(table: &Table, principal: &Principal, rows: &[&Asked]) -> Option<Check> {
    if !table.has_primary_key() {
        return None;
    }
    let alias = identifier(&table.name);
    let access = table.access.get(principal.role());
    let mut same = Vec::new();
    for column in &table.columns {
        let name = identifier(&column.name);
        let (stored, asked) = (format!("{alias}.{name}"), format!("\"relay image\".{name}"));
        if column.is_primary_key {
            same.push(format!("{stored} = {asked}"));
        } else if column.generated.is_none()
            && access.is_some_and(|access| access.columns.allow(&column.name))
        {
            // A JSON null and a null look the same in an image.
            let text = |value: &str| match column.sql_type.base().kind {
                Kind::Json | Kind::Jsonb => format!("coalesce({value}::text, 'null')"),
                _ => format!("{value}::text"),
            };
            same.push(format!(
                "(not \"relay asked\".\"given\" ? {} or {} collate pg_catalog.\"C\" is not distinct from {} collate pg_catalog.\"C\")",
                literal(&column.name),
                text(&stored),
                text(&asked),
            ));
        }
    }
    let template = include_str!("../../sql/queries/visibility_stored.sql");
    let places = [
        ("gate", &*fill(GATE, &[])),
        ("table", &qualified(table)),
        ("alias", &alias),
        ("same", &same.join(" and ")),
    ];
    Some(Check {
        sql: fill(template, &places),
        parameters: vec![Parameter::Json(array(rows))],
        count: rows.len(),
        table: Some(table.oid),
        is_repeated: false,
    })
}

/// Do these values pass the condition, read as `type_name`?
pub(super) fn of_values(
    condition: &Condition,
    type_name: &str,
    values: &[Option<String>],
) -> Check {
    let text = condition.sql(type_name, r#""relay asked"."value""#, "$3");
    let template = include_str!("../../sql/queries/visibility_values.sql");
    let mut parameters = vec![Parameter::Texts(values.to_vec())];
    match condition.parameter() {
        Operand::None => {}
        Operand::Text(text) => parameters.push(Parameter::Text(text.to_owned())),
        Operand::List(texts) => parameters.push(Parameter::Texts(
            texts.into_iter().map(|text| text.map(str::to_owned)).collect(),
        )),
    }
    let sql = fill(template, &[("gate", &fill(GATE, &[])), ("condition", &text)]);
    Check { sql, parameters, count: values.len(), table: None, is_repeated: false }
}

/// The statement that computes `expressions` for images given as `$1`.
pub(super) fn computing(table: &Table, expressions: &[&str]) -> String {
    let values: Vec<String> = expressions.iter().map(|expression| as_text(expression)).collect();
    fill(
        include_str!("../../sql/queries/visibility_computed.sql"),
        &[
            ("values", &values.join(", ")),
            ("table", &qualified(table)),
            ("alias", &identifier(&table.name)),
        ],
    )
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

/// A row source made of an image, with generated columns laid over it when the policy reads them.
fn made_of(image: &str, table: &str, alias: &str, computed: Option<&str>) -> String {
    let plain = format!("pg_catalog.json_populate_record(null::{table}, {image})");
    match computed {
        None => plain,
        Some(computed) => format!(
            "pg_catalog.json_populate_record((select pg_catalog.json_populate_record({alias}.*, pg_catalog.json_build_object({computed})) from {plain} as {alias}), '{{}}')"
        ),
    }
}

/// Names and values of the generated columns, when `expression` may read one of them.
fn computed(table: &Table, expression: &str) -> Option<String> {
    let reads = |name: &str| expression.contains(&name.replace('"', "\"\""));
    let is_read = expression.contains(".*")
        || table.columns.iter().any(|column| column.generated.is_some() && reads(&column.name));
    let mut list = String::new();
    for column in table.columns.iter().filter(|_| is_read) {
        let Some(generated) = &column.generated else { continue };
        let value = match column.sql_type.base().kind {
            Kind::Json | Kind::Jsonb => format!("pg_catalog.to_json({generated})"),
            _ => as_text(generated),
        };
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(list, "{separator}{}, {value}", literal(&column.name));
    }
    (!list.is_empty()).then_some(list)
}

/// The text the type's own output gives, which a cast to text does not always (bool, bpchar, inet).
pub(super) fn as_text(expression: &str) -> String {
    format!(
        "case when pg_catalog.num_nulls({expression}) = 0 then pg_catalog.format('%s', {expression}) end"
    )
}

pub(super) fn qualified(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
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
