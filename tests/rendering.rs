//! Values go through a real replication stream and are rendered; Postgres' own `to_json` is the judge.

mod live;

use std::sync::Arc;

use relay::catalog::Catalog;
use relay::model::{Cell, SqlType, Table};
use relay::pgoutput::Assembler;
use relay::postgres::Target;
use relay::rowjson::{push_image, push_record};
use relay::shutdown::Stage;
use tokio_postgres::Client;

use crate::support::{Cluster, Database, PATIENCE};

/// What rendering may differ in from `to_json`.
#[derive(Clone, Copy, Debug)]
enum Judge {
    /// Nothing but the blanks between tokens.
    Text,
    /// What clients are used to instead: this.
    Instead(&'static str),
}

use Judge::{Instead, Text};

/// A column type, values of it as SQL, and the judge of each.
type Case = (&'static str, &'static [(&'static str, Judge)]);

const SETUP: &str = "
    create extension hstore;
    create extension citext;
    create type mood as enum ('sad', 'so so', 'very \"happy\"');
    create domain rating as int check (value between 1 and 5);
    create domain key as bytea;
    create domain ratio as float8;
    create domain doc as jsonb;
    create domain tags as text[];
    create type point3 as (x int, \"y \"\"q\"\"\" text, at timestamptz, raw bytea, moods mood[]);
    create type line3 as (\"from\" point3, \"to\" point3, \"done?\" bool);
    create domain start as point3;
    create type hollow as ();
    create type floats as range (subtype = float8);
";

const CASES: &[Case] = &[
    ("int2", &[("-32768", Text), ("0", Text)]),
    ("int4", &[("2147483647", Text)]),
    ("int8", &[("9223372036854775807", Text), ("'-9223372036854775808'", Text)]),
    (
        "numeric",
        &[
            ("1.50", Text),
            ("0.00", Text),
            ("-0.1", Text),
            ("1e40", Text),
            ("1234567890123456789012345678901234567890.123456789", Text),
            ("'NaN'", Instead("null")),
            ("'Infinity'", Instead("null")),
            ("'-Infinity'", Instead("null")),
        ],
    ),
    ("numeric(10,2)", &[("3.1", Text), ("1e7", Text)]),
    ("float4", &[("1.1", Text), ("1e-20", Text), ("'NaN'", Instead("null"))]),
    (
        "float8",
        &[
            ("0.1", Text),
            ("1e300", Text),
            ("5e-324", Text),
            ("-1.5e308", Text),
            ("'-0'", Text),
            ("'Infinity'", Instead("null")),
            ("'-Infinity'", Instead("null")),
        ],
    ),
    ("bool", &[("true", Text), ("false", Text)]),
    (
        "text",
        &[
            ("''", Text),
            ("'null'", Text),
            (r#"E'a"b\\c\n\t\r\x01\x1f\x7f'"#, Text),
            ("'漢字 🙂 \u{2028}'", Text),
            ("repeat('x', 100) || '\"' || repeat('ü', 5000)", Text),
        ],
    ),
    ("varchar(9)", &[("'a b'", Text), ("''", Text)]),
    ("char(5)", &[("'ch'", Text), ("''", Text)]),
    ("\"char\"", &[("'c'", Text), ("''", Text)]),
    ("name", &[("'n'", Text)]),
    ("citext", &[("'MiXed'", Text)]),
    ("uuid", &[("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", Text)]),
    ("xml", &[("'<a b=\"c\">d</a>'", Text)]),
    ("inet", &[("'10.0.0.1/8'", Text), ("'::1'", Text)]),
    ("cidr", &[("'10.0.0.0/8'", Text)]),
    ("macaddr", &[("'08:00:2b:01:02:03'", Text)]),
    ("point", &[("'(1.5,2)'", Text)]),
    ("box", &[("'(1,1),(0,0)'", Text)]),
    ("polygon", &[("'((0,0),(1,1),(2,0))'", Text)]),
    ("tsvector", &[("'a:1 ''b c'':2'", Text)]),
    ("tsquery", &[("'a & !b'", Text)]),
    ("jsonpath", &[("'$.a[*] ? (@ > 1)'", Text)]),
    ("regclass", &[("'pg_class'", Text)]),
    ("pg_lsn", &[("'16/B374D848'", Text)]),
    ("oid", &[("4294967295", Text)]),
    ("money", &[("12.34", Text)]),
    ("bit(3)", &[("b'101'", Text)]),
    ("varbit", &[("b'10101'", Text), ("b''", Text)]),
    (
        "date",
        &[
            ("'2024-01-02'", Text),
            ("'0044-03-15 BC'", Text),
            ("'12024-01-02'", Text),
            ("'infinity'", Text),
            ("'-infinity'", Text),
        ],
    ),
    (
        "timestamp",
        &[
            ("'2024-01-02 03:04:05.123456'", Text),
            ("'2024-01-02'", Text),
            ("'0044-03-15 03:04:05.5 BC'", Text),
            ("'12024-01-02 03:04:05'", Text),
            ("'infinity'", Text),
            ("'-infinity'", Text),
        ],
    ),
    ("timestamp(3)", &[("'2024-01-02 03:04:05.120'", Text)]),
    (
        "timestamptz",
        &[
            ("'2024-01-02 03:04:05.123456+02'", Text),
            ("'2024-01-02 03:04:05+00'", Text),
            ("'0044-03-15 03:04:05+00 BC'", Text),
            ("'12024-01-02 03:04:05+00'", Text),
            ("'infinity'", Text),
            ("'-infinity'", Text),
        ],
    ),
    ("time", &[("'03:04:05.5'", Text), ("'24:00'", Text)]),
    ("timetz", &[("'03:04:05+02'", Text), ("'03:04:05-03:30'", Text)]),
    ("interval", &[("'1 day 02:00'", Text), ("'-1 year 3 mons -00:00:00.5'", Text)]),
    (
        "json",
        &[
            ("'{\"b\" : 1,\n\t\"a\":[ ], \"b\": 2}'", Text),
            ("'null'", Text),
            ("'\"5\"'", Text),
            ("' 1e2 '", Text),
            (r#"'"\ud83d\ude00"'"#, Text),
            (r#"'"\u00e9"'"#, Text),
        ],
    ),
    (
        "jsonb",
        &[
            ("'{\"b\": 1.50, \"a\": [true, null, \"x\\ny\"]}'", Text),
            ("'null'", Text),
            ("'\"a\\\"b\"'", Text),
            ("'{}'", Text),
        ],
    ),
    ("bytea", &[(r"'\x0102ff'", Instead("\"0102ff\"")), ("''", Instead("\"\""))]),
    ("int4range", &[("'[1,10)'", Text), ("'empty'", Text), ("'(,)'", Text)]),
    ("tstzrange", &[("'[2024-01-01 00:00+00,2024-02-01 00:00+00)'", Text)]),
    ("floats", &[("'[1.5,2.5)'", Text)]),
    ("int4multirange", &[("'{[1,3),[5,7)}'", Text)]),
    ("hstore", &[(r#"'a=>1, "b \"q\""=>NULL, c=>"NULL", d=>"x, y"'"#, Text), ("''", Text)]),
    ("mood", &[("'sad'", Text), ("'very \"happy\"'", Text)]),
    ("rating", &[("5", Text)]),
    ("key", &[(r"'\x0a0b'", Text)]),
    ("ratio", &[("1.5", Text), ("'NaN'", Text)]),
    ("doc", &[("'{\"a\": [1]}'", Text)]),
    ("tags", &[("'{a,\"b c\"}'", Text)]),
    ("int4[]", &[("'{}'", Text), ("'{1,NULL,3}'", Text), ("'{{1,2},{3,4}}'", Text)]),
    ("int8[]", &[("'[0:1]={1,2}'", Text), ("'[-2:-2][5:6]={{1,2}}'", Text)]),
    ("int4[][][]", &[("'{{{1},{2}},{{3},{4}}}'", Text)]),
    (
        "text[]",
        &[(
            r#"array['a', null, 'NULL', 'null', '', ' ', 'b c', 'q"\', '{x}', 'a,b', E'\n', 'é'] "#,
            Text,
        )],
    ),
    ("char(3)[]", &[("'{a,bcd}'", Text)]),
    ("numeric[]", &[("'{1.50,NaN}'", Text)]),
    ("float8[]", &[("'{0.5,Infinity,-Infinity}'", Text)]),
    ("bool[]", &[("'{t,f,NULL}'", Text)]),
    ("date[]", &[("'{2024-01-02,infinity}'", Text)]),
    ("timestamp[]", &[("'{2024-01-02 03:04:05,infinity}'", Text)]),
    ("timestamptz[]", &[("'{2024-01-02 03:04:05+02,0044-03-15 03:04:05+00 BC}'", Text)]),
    ("uuid[]", &[("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", Text)]),
    ("json[]", &[(r#"array['{"a": 1}', '[1, 2]']::json[]"#, Text)]),
    ("jsonb[]", &[(r#"array['{"a": "x\"y"}', '"s"', 'null', null]::jsonb[]"#, Text)]),
    ("bytea[]", &[(r"array['\x01', '']::bytea[]", Text)]),
    ("box[]", &[("'{(1,1),(0,0);(2,2),(1,1)}'", Text)]),
    ("point[]", &[(r#"'{"(1,2)","(3,4)"}'"#, Text)]),
    ("int4range[]", &[(r#"'{"[1,2)",empty}'"#, Text)]),
    ("hstore[]", &[(r#"array['a=>1', 'b=>"x\"y"']::hstore[]"#, Text)]),
    ("mood[]", &[("array['sad', 'very \"happy\"', null]::mood[]", Text)]),
    ("rating[]", &[("'{1,5}'", Text)]),
    ("key[]", &[(r"array['\x01']::key[]", Text)]),
    ("tags[]", &[("array[array['a', 'b c']::tags, array[]::text[]::tags]", Text)]),
    (
        "point3",
        &[
            (
                "row(1, 'a \"b\" \\c, (d)', '2024-01-02 03:04:05+02', '\\x01', array['sad', null, 'so so']::mood[])",
                Text,
            ),
            ("row(null, '', null, null, '{}')", Text),
            ("row(null, null, null, null, null)", Text),
        ],
    ),
    ("line3", &[("row(row(1, 'a \"b\"', null, '\\x', '{}'), null, true)", Text)]),
    ("start", &[("row(1, '', null, '\\x01', null)", Text)]),
    ("point3[]", &[("array[row(1, 'a \"b\\', null, '\\x01', '{sad}')::point3, null]", Text)]),
    ("hollow", &[("row()", Text)]),
    ("int2vector", &[("'1 2'", Instead("\"1 2\""))]),
];

/// What the catalog knows of a published table.
async fn described(database: &Database, name: &str) -> Arc<Table> {
    let (target, stage) = (Target::parse(&database.url).unwrap(), Stage::new());
    let catalog = Catalog::new(target, "p", &["postgres".to_owned()], stage.clone());
    let table = catalog.find("public", name).await.unwrap().unwrap();
    stage.stop(PATIENCE).await;
    table
}

/// A database with the types of [`SETUP`] and a table `r` with one column for each case.
async fn database() -> (Database, Client) {
    let database = Cluster::shared().database().await;
    database.execute(SETUP).await;
    let columns: Vec<String> =
        CASES.iter().enumerate().map(|(index, (of, _))| format!("c{index} {of}")).collect();
    database.execute(&format!("create table r (id int, {})", columns.join(", "))).await;
    database.execute("create publication p for table r").await;
    let pinned = database.connect().await;
    pinned
        .batch_execute(
            "set datestyle = 'ISO'; set timezone = 'UTC'; set intervalstyle = 'postgres';
             set bytea_output = 'hex'; set extra_float_digits = 1",
        )
        .await
        .unwrap();
    (database, pinned)
}

/// Inserts every value, each in a row of its own, and calls `visit` with case, value, type and cell as they came
/// out of the stream.
async fn stream(
    database: &Database,
    pinned: &Client,
    mut visit: impl FnMut(usize, usize, &SqlType, &Cell),
) {
    let slot = database.slot();
    pinned
        .query("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot])
        .await
        .unwrap();
    let mut places = Vec::new();
    for (index, (_, values)) in CASES.iter().enumerate() {
        for (nth, (value, _)) in values.iter().enumerate() {
            database
                .execute(&format!(
                    "insert into r (id, c{index}) values ({}, {value})",
                    places.len()
                ))
                .await;
            places.push((index, nth));
        }
    }
    let table = described(database, "r").await;
    let messages = pinned
        .query(
            "select data from pg_logical_slot_get_binary_changes($1, null, null,
                 'proto_version', '1', 'publication_names', 'p')",
            &[&slot],
        )
        .await
        .unwrap();
    let mut assembler = Assembler::new(usize::MAX, 0);
    let mut seen = 0;
    for message in messages {
        let message: Vec<u8> = message.get(0);
        let Some(transaction) = assembler.push(message.into()).unwrap() else { continue };
        for change in &transaction.changes {
            let (index, nth) = places[seen];
            seen += 1;
            let place = index + 1;
            let sql_type = &table.columns[place].sql_type;
            visit(index, nth, sql_type, change.subject().unwrap().cell(place).unwrap());
        }
    }
    assert_eq!(seen, places.len());
    pinned.query("select pg_drop_replication_slot($1)", &[&slot]).await.unwrap();
}

/// The JSON without blanks between its tokens.
fn compact(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for character in json.chars() {
        match character {
            '"' if !escaped => in_string = !in_string,
            ' ' if !in_string => continue,
            _ => (),
        }
        escaped = character == '\\' && !escaped;
        out.push(character);
    }
    out
}

#[tokio::test]
async fn every_type_reads_as_postgres_itself_would_write_it() {
    let (database, pinned) = database().await;
    let mut rendered = Vec::new();
    stream(&database, &pinned, |index, nth, sql_type, cell| {
        let mut out = String::new();
        push_record(&mut out, [("v", sql_type, cell)].into_iter());
        rendered.push((index, nth, out));
    })
    .await;
    let mut wrong = Vec::new();
    for (id, (index, nth, ours)) in rendered.iter().enumerate() {
        let (of, values) = CASES[*index];
        let (value, judge) = values[*nth];
        let query = format!("select json_build_object('v', c{index})::text from r where id = {id}");
        let theirs = pinned.query_one(&query, &[]).await.unwrap().get::<_, String>(0);
        let (fits, theirs) = match judge {
            Text => (compact(ours) == compact(&theirs), theirs),
            Instead(expected) => {
                let expected = format!("{{\"v\":{expected}}}");
                (*ours == expected, expected)
            }
        };
        if !fits {
            wrong.push(format!("{of} {value}: {ours}, not {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_image_reads_back_as_the_row_it_was_made_of() {
    let (database, pinned) = database().await;
    let mut images = Vec::new();
    stream(&database, &pinned, |index, nth, sql_type, cell| {
        let mut out = String::new();
        push_image(&mut out, [(&*format!("c{index}"), sql_type, cell)].into_iter());
        images.push((index, nth, out));
    })
    .await;
    let mut wrong = Vec::new();
    for (id, (index, nth, image)) in images.iter().enumerate() {
        let (of, values) = CASES[*index];
        let same = format!(
            "(i.c{index} is not distinct from null) = (r.c{index} is not distinct from null)
                 and format('%s', i.c{index}) = format('%s', r.c{index})"
        );
        // JSON is read from its text.
        let cast = if ["json", "jsonb", "doc"].contains(&of) { "text" } else { of };
        let query = format!(
            "select {same} from r, (select x.c{index}::{of} from json_to_record($1::text::json) as x (c{index} {cast})) as i where r.id = {id}"
        );
        let answer = pinned.query_opt(&query, &[image]).await;
        if !matches!(&answer, Ok(Some(row)) if row.get(0)) {
            wrong.push(format!("{of} {}: {image} {answer:?}", values[*nth].0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn null_empty_and_unchanged_stay_three_different_things() {
    let database = Cluster::shared().database().await;
    database
        .execute(
            "create table notes (id int primary key, body text, title text, label text);
             alter table notes alter body set storage external;
             insert into notes values (1, repeat('x', 9000), '', null);
             create publication p for table notes",
        )
        .await;
    let slot = database.slot();
    let client = database.client();
    client
        .query("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot])
        .await
        .unwrap();
    database.execute("update notes set id = 2").await;
    let messages = client
        .query(
            "select data from pg_logical_slot_get_binary_changes($1, null, null,
                 'proto_version', '1', 'publication_names', 'p')",
            &[&slot],
        )
        .await
        .unwrap();
    client.query("select pg_drop_replication_slot($1)", &[&slot]).await.unwrap();
    let table = described(&database, "notes").await;
    let mut assembler = Assembler::new(usize::MAX, 0);
    let mut out = String::new();
    for message in messages {
        let message: Vec<u8> = message.get(0);
        let Some(transaction) = assembler.push(message.into()).unwrap() else { continue };
        let change = &transaction.changes[0];
        let cells = table.columns.iter().zip(&change.subject().unwrap().cells);
        push_record(&mut out, cells.map(|(column, cell)| (&*column.name, &column.sql_type, cell)));
    }
    assert_eq!(out, r#"{"id":2,"title":"","label":null}"#);
}
