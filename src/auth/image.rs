//! Row images as SQL: what judges or computes over a row that is no longer, or not only, in its table.
//!
//! An image is a JSON object of texts, in the form the log has them (see `rowjson::push_image`). Postgres reads back the
//! columns that are needed and no others, each as its type with domains looked through: so a value that is missing and not
//! needed does not matter, a domain's checks do not run again on what passed them when it was written, and neither the
//! table nor its row type needs to exist any more. JSON is read from its text, because JSON null and SQL null differ.
//!
//! Only a policy that takes the row as a whole needs the row type, and then every column.

use std::sync::Arc;

use crate::model::table::{Generated, Reads, TableColumn};
use crate::model::{Kind, Table};
use crate::postgres::quote::{fill, identifier};

/// The name of the system column that an image may have a value for.
const TABLE_OID: &str = "tableoid";

/// A row source of what `reads` needs, under the table's own name, made of the image or array of images that the SQL
/// expression `images` gives.
pub(super) fn source(table: &Table, reads: &Reads, images: &str, is_many: bool) -> String {
    let alias = identifier(&table.name);
    let columns: Vec<&TableColumn> =
        reads.needed.iter().filter_map(|at| table.columns.get(*at)).collect();
    let source = of_columns(&alias, &columns, reads.table_oid, images, is_many);
    let made: Vec<(&TableColumn, &Generated)> = reads
        .of(&table.columns)
        .filter_map(|column| Some((column, column.generated.as_ref()?)))
        .collect();
    let source = if made.is_empty() {
        source
    } else {
        let made = made.iter().map(|(column, generated)| {
            format!(", {} as {}", generated.expression, identifier(&column.name))
        });
        format!("(select {alias}.*{} from {source}) as {alias}", made.collect::<String>())
    };
    if reads.whole_row { whole_rows(table, &alias, &source) } else { source }
}

/// The same of these columns alone.
pub(super) fn of_columns(
    alias: &str,
    columns: &[&TableColumn],
    has_table_oid: bool,
    images: &str,
    is_many: bool,
) -> String {
    let function = if is_many { "json_to_recordset" } else { "json_to_record" };
    let is_json =
        |column: &TableColumn| matches!(column.sql_type.base().kind, Kind::Json | Kind::Jsonb);
    let mut defined: Vec<String> = columns
        .iter()
        .map(|column| {
            let cast = if is_json(column) { "pg_catalog.text" } else { &*column.cast };
            format!("{} {cast}", identifier(&column.name))
        })
        .collect();
    if has_table_oid {
        defined.push(format!("{TABLE_OID} pg_catalog.oid"));
    }
    if defined.is_empty() {
        // A record has columns. This one is nobody's.
        defined.push("\"relay image\" pg_catalog.text".to_owned());
    }
    let read = format!("pg_catalog.{function}({images}) as {alias} ({})", defined.join(", "));
    if !columns.iter().any(|column| is_json(column)) {
        return read;
    }
    let mut values: Vec<String> = columns
        .iter()
        .map(|column| {
            let name = identifier(&column.name);
            if is_json(column) {
                format!("{alias}.{name}::{} as {name}", column.cast)
            } else {
                format!("{alias}.{name}")
            }
        })
        .collect();
    if has_table_oid {
        values.push(format!("{alias}.{TABLE_OID}"));
    }
    format!("(select {} from {read}) as {alias}", values.join(", "))
}

/// Rows of the table's own type, made of a source of all its columns.
fn whole_rows(table: &Table, alias: &str, source: &str) -> String {
    let value = |column: &TableColumn| format!("{alias}.{}", identifier(&column.name));
    let values: Vec<String> = table.columns.iter().map(value).collect();
    let (values, row_type) = (values.join(", "), qualified(table));
    format!(
        "(select row({values})::{row_type} as \"relay row\" from {source}) as \"relay rows\" \
         cross join lateral pg_catalog.unnest(array[\"relay rows\".\"relay row\"]) as {alias}"
    )
}

/// The statement that computes generated columns of `table` for images given as `$1`, one row of texts for each.
pub(super) fn computing(table: &Table, columns: &[usize]) -> String {
    let columns = columns.iter().filter_map(|at| table.columns.get(*at));
    let names: Vec<Arc<str>> = columns.map(|column| Arc::clone(&column.name)).collect();
    let values: Vec<String> = names.iter().map(|name| as_text(&identifier(name))).collect();
    let reads = Reads::of_columns(names, &table.columns);
    let image = "\"relay asked\".\"image\"";
    fill(
        include_str!("../../sql/queries/visibility_computed.sql"),
        &[("values", &values.join(", ")), ("source", &source(table, &reads, image, false))],
    )
}

/// The text the type's own output gives, which a cast to text does not always (bool, bpchar, inet).
pub(super) fn as_text(expression: &str) -> String {
    format!(
        "case when pg_catalog.num_nulls({expression}) = 0 then pg_catalog.format('%s', {expression}) end"
    )
}

/// The table's name.
pub(super) fn qualified(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}
