//! A row as JSON text, straight from Postgres' text form, once per change and column set.
//!
//! Promises: what comes out is always valid JSON; a value reads as `to_json` would write it, but for two old habits
//! clients rely on, which hold for a column's own type only, not inside arrays, composites and domains:
//!
//! - `bytea` loses its `\x`: `"0102ff"`;
//! - a number that JSON cannot say (`NaN`, `Infinity`) is `null`.
//!
//! A composite is read by the attributes it has now, and where their number does not fit by the latest earlier ones that
//! do. `json` is not normalised: spacing, order and duplicate keys stay as they were stored. A text that does not read as
//! its type says (the type was changed since) becomes a JSON string.

mod nested;
mod scalar;
mod string;
#[cfg(test)]
mod validity;

use crate::model::sqltype::Composite;
use crate::model::{Cell, Kind, SqlType};

pub use string::push_string;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is a column's value, by the column's own type.
    Column,
    /// It is in an array or composite, or its type is a domain.
    Inside,
}

/// Appends `{"name":value,…}` for the given cells; unchanged cells are left out.
pub fn push_record<'a>(
    out: &mut String,
    cells: impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)>,
) {
    push_object(out, cells, push_value);
}

/// Appends one value by the rules of its type.
pub fn push_value(out: &mut String, sql_type: &SqlType, text: &str) {
    push_placed(out, sql_type, text, Place::Column);
}

/// Appends `[{"name":"id","type":"int8"},…]`.
pub fn push_columns<'a>(out: &mut String, columns: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('[');
    for (index, (name, type_name)) in columns.enumerate() {
        out.push_str(if index == 0 { r#"{"name":"# } else { r#",{"name":"# });
        push_string(out, name);
        out.push_str(r#","type":"#);
        push_string(out, type_name);
        out.push('}');
    }
    out.push(']');
}

/// Appends the image of a row: every cell as Postgres' text in a JSON string, JSON as well, because JSON null and SQL null
/// differ; null as null; unchanged cells are left out.
pub fn push_image<'a>(
    out: &mut String,
    cells: impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)>,
) {
    push_object(out, cells, |out, _, text| push_string(out, text));
}

fn push_object<'a>(
    out: &mut String,
    cells: impl Iterator<Item = (&'a str, &'a SqlType, &'a Cell)>,
    push: impl Fn(&mut String, &SqlType, &str),
) {
    out.push('{');
    let mut separator = "";
    for (name, sql_type, cell) in cells {
        if matches!(cell, Cell::Unchanged) {
            continue;
        }
        out.push_str(separator);
        separator = ",";
        push_string(out, name);
        out.push(':');
        match cell.text() {
            Some(text) => push(out, sql_type, text),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

fn push_placed(out: &mut String, sql_type: &SqlType, text: &str, place: Place) {
    match &sql_type.kind {
        Kind::Integer | Kind::Numeric | Kind::Float => scalar::push_number(out, text, place),
        Kind::Bool => scalar::push_bool(out, text),
        Kind::Json | Kind::Jsonb => scalar::push_json(out, text),
        Kind::Bytea => scalar::push_bytea(out, text, place),
        Kind::Timestamp => scalar::push_timestamp(out, text),
        Kind::TimestampTz => scalar::push_timestamptz(out, text),
        Kind::Date | Kind::Uuid | Kind::Text | Kind::BlankPadded | Kind::Enum(_) | Kind::Other => {
            push_string(out, text);
        }
        Kind::Domain(base) => push_placed(out, base, text, Place::Inside),
        Kind::Array { element, delimiter } => {
            or_string(out, text, |out| nested::array(out, element, *delimiter, text));
        }
        Kind::Composite(Composite { attributes, earlier }) => {
            // A value of before the type was altered has as many attributes as it had then.
            let start = out.len();
            let read = std::iter::once(attributes).chain(earlier.iter()).any(|attributes| {
                out.truncate(start);
                nested::composite(out, attributes, text).is_some()
            });
            if !read {
                out.truncate(start);
                push_string(out, text);
            }
        }
        Kind::Hstore => or_string(out, text, |out| nested::hstore(out, text)),
    }
}

/// What `push` appends, or the text as a string when it gave up half way.
fn or_string(out: &mut String, text: &str, push: impl FnOnce(&mut String) -> Option<()>) {
    let start = out.len();
    if push(out).is_none() {
        out.truncate(start);
        push_string(out, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn of(kind: Kind) -> SqlType {
        SqlType { oid: 0, name: Arc::from("t"), kind }
    }

    fn array(kind: Kind) -> SqlType {
        of(array_of(of(kind), ','))
    }

    fn array_of(element: SqlType, delimiter: char) -> Kind {
        Kind::Array { element: Arc::new(element), delimiter }
    }

    fn domain(kind: Kind) -> SqlType {
        of(Kind::Domain(Arc::new(of(kind))))
    }

    fn composite(attributes: Vec<(&str, SqlType)>) -> SqlType {
        let attributes: Vec<_> =
            attributes.into_iter().map(|(name, of)| (Box::from(name), of)).collect();
        of(Kind::Composite(Composite { attributes: attributes.into(), earlier: Arc::default() }))
    }

    fn check(sql_type: &SqlType, text: &str, expected: &str) {
        let mut out = String::from(">");
        push_value(&mut out, sql_type, text);
        assert_eq!(&out[1..], expected, "{text}");
    }

    #[test]
    fn numbers_keep_every_digit() {
        check(&of(Kind::Integer), "9223372036854775807", "9223372036854775807");
        check(&of(Kind::Integer), "-1", "-1");
        check(&of(Kind::Numeric), "1.50", "1.50");
        check(&of(Kind::Float), "1e-05", "1e-05");
        check(&of(Kind::Float), "1e+20", "1e+20");
        check(&of(Kind::Float), "-0", "-0");
    }

    #[test]
    fn a_number_json_cannot_say_is_null_in_a_column_and_text_elsewhere() {
        for text in ["NaN", "Infinity", "-Infinity"] {
            check(&of(Kind::Float), text, "null");
            check(&of(Kind::Numeric), text, "null");
            check(&domain(Kind::Numeric), text, &format!("\"{text}\""));
            check(&array(Kind::Float), &format!("{{1,{text}}}"), &format!("[1,\"{text}\"]"));
        }
    }

    #[test]
    fn a_text_that_is_not_of_its_type_is_a_string() {
        for kind in [Kind::Integer, Kind::Numeric, Kind::Float] {
            for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "1,5", "0x10", " 1", "1 "] {
                check(&of(kind.clone()), text, &format!("\"{text}\""));
            }
        }
        check(&of(Kind::Bool), "true", "\"true\"");
        check(&of(Kind::Jsonb), "{", "\"{\"");
        check(&of(Kind::Json), "", "\"\"");
        check(&of(Kind::Json), "1 2", "\"1 2\"");
        check(&of(Kind::Bytea), "abc", "\"abc\"");
        check(&of(Kind::Bytea), "\\x0\"", r#""\\x0\"""#);
        check(&of(Kind::Hstore), "\"a\"=>", r#""\"a\"=>""#);
        for text in ["", "{", "}", "{1", "{1,}", "{,1}", "{1}}", "{1}x", "{{1}", "{\"1}", "1"] {
            check(&array(Kind::Integer), text, &format!("\"{}\"", text.replace('"', "\\\"")));
        }
        check(&array(Kind::Integer), "{{{{{{{1}}}}}}}", "\"{{{{{{{1}}}}}}}\"");
        for text in ["", "(", "1", "(1", "(1,2)", "(1)x", "(\"1)"] {
            check(
                &composite(vec![("a", of(Kind::Integer))]),
                text,
                &format!("\"{}\"", text.replace('"', "\\\"")),
            );
        }
    }

    #[test]
    fn times_are_iso_with_a_t_and_a_full_offset() {
        check(&of(Kind::Date), "2024-01-02", "\"2024-01-02\"");
        check(&of(Kind::Date), "0044-03-15 BC", "\"0044-03-15 BC\"");
        check(&of(Kind::Timestamp), "2024-01-02 03:04:05.1", "\"2024-01-02T03:04:05.1\"");
        check(&of(Kind::Timestamp), "0044-03-15 03:04:05 BC", "\"0044-03-15T03:04:05 BC\"");
        check(&of(Kind::Timestamp), "-infinity", "\"-infinity\"");
        let with_zone = of(Kind::TimestampTz);
        check(&with_zone, "2024-01-02 03:04:05+00", "\"2024-01-02T03:04:05+00:00\"");
        check(&with_zone, "2024-01-02 03:04:05.5-03:30", "\"2024-01-02T03:04:05.5-03:30\"");
        check(&with_zone, "0044-03-15 03:04:05+00 BC", "\"0044-03-15T03:04:05+00:00 BC\"");
        check(&with_zone, "infinity", "\"infinity\"");
        check(
            &array(Kind::TimestampTz),
            r#"{"2024-01-02 03:04:05+00",NULL}"#,
            r#"["2024-01-02T03:04:05+00:00",null]"#,
        );
    }

    #[test]
    fn bytea_loses_its_prefix_in_a_column_only() {
        check(&of(Kind::Bytea), "\\x0102ff", "\"0102ff\"");
        check(&of(Kind::Bytea), "\\x", "\"\"");
        check(&domain(Kind::Bytea), "\\x0a0b", r#""\\x0a0b""#);
        check(&array(Kind::Bytea), r#"{"\\x01"}"#, r#"["\\x01"]"#);
        check(&composite(vec![("a", of(Kind::Bytea))]), r#"("\\x01")"#, r#"{"a":"\\x01"}"#);
    }

    #[test]
    fn json_stays_as_it_was_stored() {
        check(&of(Kind::Json), "{\"b\" :1,\n \"a\":[ ]}", "{\"b\" :1,\n \"a\":[ ]}");
        check(&of(Kind::Json), r#""\u0000\ud800""#, r#""\u0000\ud800""#);
        check(&of(Kind::Jsonb), "null", "null");
        check(&domain(Kind::Jsonb), "\"5\"", "\"5\"");
        check(&array(Kind::Jsonb), r#"{"{\"a\": 1}",NULL,2}"#, r#"[{"a": 1},null,2]"#);
    }

    #[test]
    fn arrays_nest_quote_and_may_start_anywhere() {
        check(&array(Kind::Text), "{}", "[]");
        check(
            &array(Kind::Text),
            r#"{a,NULL,"NULL","","b c","q\"\\",null}"#,
            r#"["a",null,"NULL","","b c","q\"\\",null]"#,
        );
        check(&array(Kind::Integer), "{{1,2},{3,4}}", "[[1,2],[3,4]]");
        check(&array(Kind::Integer), "[0:1]={1,2}", "[1,2]");
        check(&array(Kind::Integer), "[-1:0][2:3]={{1,2},{3,4}}", "[[1,2],[3,4]]");
        check(&array(Kind::Bool), "{t,f}", "[true,false]");
        let boxes = of(array_of(of(Kind::Other), ';'));
        check(&boxes, "{(1,1),(0,0);(2,2),(1,1)}", r#"["(1,1),(0,0)","(2,2),(1,1)"]"#);
    }

    #[test]
    fn composites_are_objects_by_attribute() {
        let point = composite(vec![("x", of(Kind::Integer)), ("y", of(Kind::Text))]);
        check(&point, r#"(1,"a ""b"" \\c")"#, r#"{"x":1,"y":"a \"b\" \\c"}"#);
        check(&point, "(,)", r#"{"x":null,"y":null}"#);
        check(&point, r#"(1,"")"#, r#"{"x":1,"y":""}"#);
        check(&composite(vec![("x", of(Kind::Integer))]), "()", r#"{"x":null}"#);
        check(&composite(vec![]), "()", "{}");
        let segment = composite(vec![("to", point.clone()), ("tags", array(Kind::Text))]);
        check(
            &segment,
            r#"("(1,""a b"")","{a,""b c""}")"#,
            r#"{"to":{"x":1,"y":"a b"},"tags":["a","b c"]}"#,
        );
        check(
            &of(array_of(point, ',')),
            r#"{"(1,a)","(2,\"b c\")"}"#,
            r#"[{"x":1,"y":"a"},{"x":2,"y":"b c"}]"#,
        );
    }

    #[test]
    fn elements_are_split_where_their_type_says() {
        let shapes = of(array_of(of(Kind::Other), ':'));
        check(&shapes, "{0101AA:0101BB}", r#"["0101AA","0101BB"]"#);
        check(&shapes, r#"{{a,b:"c:d"}:{NULL:;}}"#, r#"[["a,b","c:d"],[null,";"]]"#);
        check(&shapes, "[0:1]={a:b}", r#"["a","b"]"#);
        check(&shapes, "{a,b}", r#"["a,b"]"#);
        let sketches = of(array_of(composite(vec![("a", shapes)]), ','));
        check(&sketches, r#"{(a),"({b:c})"}"#, r#"[{"a":"a"},{"a":["b","c"]}]"#);
    }

    #[test]
    fn a_composite_of_the_past_is_read_by_the_attributes_it_had() {
        let attributes = |names: &[&str]| {
            let named = names.iter().map(|&name| (Box::from(name), of(Kind::Text)));
            named.collect::<Vec<_>>().into()
        };
        let spot = of(Kind::Composite(Composite {
            attributes: attributes(&["name", "area", "fax"]),
            earlier: [attributes(&["name", "zone", "fax"]), attributes(&["name", "zone"])].into(),
        }));
        check(&spot, "(x,2,08)", r#"{"name":"x","area":"2","fax":"08"}"#);
        check(&spot, "(x,2)", r#"{"name":"x","zone":"2"}"#);
        check(&spot, "(x)", "\"(x)\"");
        check(&of(array_of(spot, ',')), r#"{"(x,2)"}"#, r#"[{"name":"x","zone":"2"}]"#);
    }

    #[test]
    fn hstore_is_an_object_of_strings() {
        check(&of(Kind::Hstore), "", "{}");
        check(
            &of(Kind::Hstore),
            r#""a"=>"1", "b \"q\""=>NULL, "c"=>"NULL""#,
            r#"{"a":"1","b \"q\"":null,"c":"NULL"}"#,
        );
    }

    #[test]
    fn a_record_leaves_unchanged_cells_out_and_keeps_nulls() {
        let (number, text) = (of(Kind::Integer), of(Kind::Text));
        let one = Cell::Text(Bytes::from_static(b"1"));
        let cells = [
            ("kept \"back\"", &text, &Cell::Unchanged),
            ("id", &number, &one),
            ("a \"b\"", &text, &one),
            ("gone", &text, &Cell::Null),
            ("large", &text, &Cell::Unchanged),
        ];
        let mut out = String::new();
        push_record(&mut out, cells.into_iter());
        assert_eq!(out, r#"{"id":1,"a \"b\"":"1","gone":null}"#);
        out.clear();
        push_record(&mut out, std::iter::empty());
        assert_eq!(out, "{}");
    }

    #[test]
    fn an_image_is_text_but_for_json() {
        let (number, json, over_json) = (of(Kind::Integer), of(Kind::Json), domain(Kind::Jsonb));
        let bytes = of(Kind::Bytea);
        let text = |text: &'static str| Cell::Text(Bytes::from_static(text.as_bytes()));
        let cells = [
            ("id", &number, &text("1")),
            ("a", &json, &text("[1]")),
            ("b", &over_json, &text("{\"c\": 2}")),
            ("d", &bytes, &text("\\x01")),
            ("e", &number, &Cell::Null),
            ("f", &number, &Cell::Unchanged),
        ];
        let mut out = String::new();
        push_image(&mut out, cells.into_iter());
        assert_eq!(out, r#"{"id":"1","a":"[1]","b":"{\"c\": 2}","d":"\\x01","e":null}"#);
    }

    #[test]
    fn columns_are_names_and_types() {
        let mut out = String::new();
        push_columns(&mut out, [("id", "int8"), ("a \"b\"", "_text")].into_iter());
        assert_eq!(out, r#"[{"name":"id","type":"int8"},{"name":"a \"b\"","type":"_text"}]"#);
        out.clear();
        push_columns(&mut out, std::iter::empty());
        assert_eq!(out, "[]");
    }
}
