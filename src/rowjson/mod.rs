//! A row as JSON text, straight from Postgres' text form, once per change and column set.

use crate::model::{Cell, SqlType};

/// Appends `{"name":value,…}` for the given cells; unchanged cells are left out.
pub fn push_record<'a>(
    _out: &mut String,
    _cells: impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)>,
) {
    todo!()
}

/// Appends one value by the rules of its type.
pub fn push_value(_out: &mut String, _sql_type: &SqlType, _text: &str) {
    todo!()
}

/// Appends `[{"name":"id","type":"int8"},…]`.
pub fn push_columns<'a>(_out: &mut String, _columns: impl Iterator<Item = (&'a str, &'a str)>) {
    todo!()
}

/// Appends the row image for `jsonb_populate_recordset`: json and jsonb cells as JSON, every other cell as its text
/// in a JSON string, null as null; unchanged cells are left out.
pub fn push_image<'a>(
    _out: &mut String,
    _cells: impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)>,
) {
    todo!()
}

/// Appends `text` as a JSON string, escaped.
pub fn push_string(_out: &mut String, _text: &str) {
    todo!()
}
