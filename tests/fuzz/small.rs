//! Filters, configurations, and bodies of the chat API.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use relay::config::{Effective, MANUAL};
use relay::egress::chat::readings;
use relay::model::filter::{Collation, Condition, Operator, Spelling, parse};
use relay::model::{
    Cell, Column, Event, Kind, Relation, ReplicaIdentity, Row, SqlType, Subscription, Target,
};
use relay::router::{CallerKey, Router, StepBudget};

use super::runner::{outcome, words};

/// Words of filters.
pub const FILTER_WORDS: &[&str] = &[
    "=eq.",
    "=neq.",
    "=in.(",
    "=like.",
    "=ilike.",
    "=match.",
    "=imatch.",
    "=is.null",
    "=isdistinct.",
    "not.",
    "body",
    "id",
    ",",
    ")",
    "\"",
    "\\",
    "%",
    "_",
    "*",
    "(a|b){3}",
    "[^a-z]",
    "\\d",
    "\\1",
    "(?=",
    "{255}",
    "NaN",
    "Infinity",
    "-0",
    "1e400",
    "\u{130}",
    "\0",
];

/// A filter, a zero byte, and the value it is tried on.
pub fn filters() -> Vec<Vec<u8>> {
    [
        "body=eq.hello\0hello",
        "body=in.(\"a,b\",c)\0c",
        "body=like.%a_c%\0xxabc",
        "body=ilike.A\\%%\0a%b",
        "body=match.^(a|b)+[0-9]{2,3}$\0ab12",
        "body=imatch.h.*o\0HELLO",
        "body=not.is.null,body=gte.a\0b",
        "body=isdistinct.x,id=lt.5\0y",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Reads a filter, and has the router try it on a row as if Postgres had taken its operands.
pub fn read_filter(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let (filter, value) = text.split_once('\0').unwrap_or((&text, ""));
    let predicates = match parse(filter) {
        Ok(predicates) => predicates,
        Err(error) => {
            let _ = error.to_string();
            return outcome(std::mem::discriminant(&error));
        }
    };
    let operators: Vec<Operator> = predicates.iter().map(|one| one.operator).collect();
    let _ = relay::model::filter::inspect::predicates(&predicates);
    let kinds = [Kind::Text, Kind::Integer, Kind::Other];
    let mut passed = Vec::new();
    for kind in kinds {
        let sql_type = SqlType { oid: 25, name: "text".into(), kind };
        let conditions = predicates.iter().cloned().map(|predicate| Condition {
            predicate,
            sql_type: sql_type.clone(),
            collation: Collation::Bytes,
            spelling: Spelling { type_name: "text".into(), ..Spelling::default() },
        });
        let subscription = Subscription {
            target: Target::Table { schema: "public".into(), table: "notes".into() },
            event: None,
            filter: conditions.collect(),
            select: None,
        };
        let mut router = Router::default();
        let binding = router.insert(&Arc::new(subscription), CallerKey(1));
        let (relation, row) = row(value);
        let mut found = Vec::new();
        let mut budget = StepBudget::of_change(value.len());
        let table = ("public", "notes");
        router.candidates(table, Event::Insert, &relation, &row, &mut budget, &mut found);
        passed.push(found.len());
        assert!(router.remove(binding));
    }
    outcome((operators.iter().take(3).map(|one| one.word()).collect::<Vec<_>>(), passed))
}

fn row(value: &str) -> (Relation, Row) {
    let columns = ["id", "body"].map(|name| Column {
        name: name.into(),
        type_oid: 25,
        typmod: -1,
        is_key: name == "id",
    });
    let relation = Relation {
        oid: 1,
        generation: 1,
        schema: "public".into(),
        name: "notes".into(),
        identity: ReplicaIdentity::Full,
        columns: Box::new(columns),
    };
    let cells = ["1", value].map(|text| Cell::Text(bytes::Bytes::copy_from_slice(text.as_bytes())));
    (relation, Row { cells: Box::new(cells) })
}

/// Words of configurations.
pub const CONFIG_WORDS: &[&str] = &[
    "[http]",
    "[limits]",
    "[chat]",
    "listen = ",
    "url = ",
    "\"10s\"",
    "\"1 MiB\"",
    "\"0s\"",
    "\"99999999999h\"",
    "18446744073709551615",
    "-1",
    "1e400",
    "true",
    "[]",
    "{}",
    "\"\"",
    "'''",
    "\\u0000",
    "RELAY_LIMITS__FRAME=",
    "RELAY_HTTP__LISTEN=",
    "\u{1F600}",
    "postgres://u:p@h:5432/d?sslmode=require",
    "host=/tmp port=x",
];

/// A file, a zero byte, and variables by line.
pub fn configs() -> Vec<Vec<u8>> {
    let auth = "[auth]\njwt_secret = \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"\n";
    [
        format!("[postgres]\nurl = \"postgres://relay@127.0.0.1:5432/app\"\n{auth}\0"),
        format!("[http]\nlisten = \"[::1]:4000\"\ndrain = \"1m\"\n{auth}\0RELAY_POSTGRES__URL=host=a dbname=b"),
        format!("[limits]\nframe = \"1 KiB\"\noutbox = \"2 GB\"\n{auth}\0RELAY_AUTH__ROLES=anon,x"),
        format!("[chat]\npreset = \"gre\"\nwords = [\"active=open\"]\nsession_columns = [\"visitor=c\"]\n{auth}\0"),
        // Every key; the comments would only make it slow.
        MANUAL.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// A file of this process, on which configurations are written in turn.
fn file() -> &'static (tempfile::TempDir, PathBuf) {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        (folder, path)
    })
}

/// Reads a configuration, and says what it means or why it means nothing. Long ones are left out: a name that is none is
/// compared with every name that there is.
pub fn read_config(input: &[u8]) -> u64 {
    if 4_096 < input.len() {
        return 0;
    }
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, variables) = input.split_at(at);
    std::fs::write(&file().1, text).unwrap();
    let variables = String::from_utf8_lossy(variables);
    let variables: Vec<(&str, &str)> = variables
        .trim_start_matches('\0')
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let given = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let effective = match Effective::read(Some(&file().1), &given) {
        Ok(effective) => effective,
        Err(faults) => return outcome(faults.iter().map(|one| &one.key).collect::<Vec<_>>()),
    };
    let shown = effective.settings().len();
    match effective.check() {
        Ok(config) => outcome((shown, words(&format!("{:?}", config.limits)))),
        Err(faults) => outcome(faults.iter().map(|one| &one.key).collect::<Vec<_>>()),
    }
}

/// Words of bodies.
pub const BODY_WORDS: &[&str] = &[
    "\"type\":",
    "\"authenticate\"",
    "\"send\"",
    "\"history\"",
    "\"close\"",
    "\"ping\"",
    "\"message\":",
    "\"body\":",
    "\"playerId\":",
    "\"player_id\":",
    "\"text\":",
    "\"rating\":",
    "256",
    "-1",
    "null",
    "\\u200b",
    "\\ud800",
    "\"as\":\"gre\"",
    "[",
    "{",
    "\u{200b}",
];

/// Bodies and frames of both older chats and of the newer one.
pub fn bodies() -> Vec<Vec<u8>> {
    [
        r#"{"id":"0a000000-0000-4000-8000-000000000001","name":"Vera","email":"v@example.org","subject":"s"}"#,
        r#"{"id":null,"body":"hello","sender_name":"Vera"}"#,
        r#"{"rating":5,"feedback":"good"}"#,
        r#"{"playerId":"p","playerName":"Vera","message":"hello","sender":"player"}"#,
        r#"{"type":"authenticate","token":"a.b.c","as":"player"}"#,
        r#"{"type":"send","message":"hello","id":"x"}"#,
        r#"{"type":"history","player_id":"p","before":"2026-01-01T00:00:00Z"}"#,
        r#"{"type":"close"}"#,
        r#"{"type":"ping"}"#,
        "\u{200b}\u{2800}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Reads a body as everything that it could be.
pub fn read_body(input: &[u8]) -> u64 {
    outcome(readings(input))
}
