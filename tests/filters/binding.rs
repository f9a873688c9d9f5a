//! What binding refuses, in which words, and what it makes of what it takes.

use relay::catalog::bind::Wish;
use relay::model::filter::{Keyword, Operand};
use relay::model::{Event, Target};

use super::{catalog, catalog_for, try_bind, wish};
use crate::support::{Cluster, Database};

const TABLES: &str = r#"
    create type mood as enum ('sad', 'ok', 'happy');
    create domain short as varchar(10) check (value <> '');
    create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create table test (
        id int primary key, details text, tag varchar(20), code char(5), ok boolean, price numeric,
        at timestamptz, feeling mood, raw bytea, doc json, docs jsonb, place point, secret text,
        label short, who name, lax text collate loose);
    create table hidden (id int primary key);
    create table parent (id int, at date) partition by range (at);
    create table leaf partition of parent for values from ('2024-01-01') to ('2025-01-01');
    create table lonely (id int) partition by range (id);
    alter publication supabase_realtime add table test, leaf;
    revoke select on test from anon;
    grant select (id, details, tag, code, ok, price, at, feeling, raw, doc, docs, place, label, who, lax)
        on test to anon;"#;

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLES).await;
    database
}

/// The text of a database's objection to `filter` on `test`.
fn objection(filter: &str, shown: &str, said: &str) -> (String, String) {
    let text = format!(
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
         parameters: [event: *, schema: public, table: test, filters: [{shown}], select: nil]. Exception: ERROR {said}"
    );
    (filter.to_owned(), text)
}

#[tokio::test]
async fn refusals_have_their_known_texts() {
    let database = database().await;
    let catalog = catalog(&database);
    let too_many = (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let like = |filter: &str, word: &str, column: &str, shown: &str| {
        objection(
            filter,
            &format!(r#"{{"{column}", "{word}", "a", false}}"#),
            &format!(
                "P0001 (raise_exception) operator {word} requires a text-compatible column type, got {shown}"
            ),
        )
    };
    for (filter, text) in [
        objection(
            "notacolumn=eq.123",
            r#"{"notacolumn", "eq", "123", false}"#,
            "P0001 (raise_exception) invalid column for filter notacolumn",
        ),
        objection(
            "secret=eq.1",
            r#"{"secret", "eq", "1", false}"#,
            "P0001 (raise_exception) invalid column for filter secret",
        ),
        objection(
            "id=eq.hey",
            r#"{"id", "eq", "hey", false}"#,
            r#"22P02 (invalid_text_representation) invalid input syntax for type integer: "hey""#,
        ),
        objection(
            "id=not.in.(1,hey)",
            r#"{"id", "in", "{1,hey}", true}"#,
            r#"22P02 (invalid_text_representation) invalid input syntax for type integer: "hey""#,
        ),
        objection(
            "id=in.(1,\"2)",
            r#"{"id", "in", "{1,\"2}", false}"#,
            r#"22P02 (invalid_text_representation) malformed array literal: "{1,"2}""#,
        ),
        objection(
            "id=lt.3000000000",
            r#"{"id", "lt", "3000000000", false}"#,
            r#"22003 (numeric_value_out_of_range) value "3000000000" is out of range for type integer"#,
        ),
        objection(
            "at=gt.yesterdayish",
            r#"{"at", "gt", "yesterdayish", false}"#,
            r#"22007 (invalid_datetime_format) invalid input syntax for type timestamp with time zone: "yesterdayish""#,
        ),
        objection(
            "id=isdistinct.null",
            r#"{"id", "isdistinct", "null", false}"#,
            r#"22P02 (invalid_text_representation) invalid input syntax for type integer: "null""#,
        ),
        objection(
            "details=like.a\\",
            r#"{"details", "like", "a\\", false}"#,
            "22025 (invalid_escape_sequence) LIKE pattern must not end with escape character",
        ),
        objection(
            &format!("id=in.({too_many})"),
            &format!(r#"{{"id", "in", "{{{too_many}}}", false}}"#),
            "P0001 (raise_exception) too many values for `in` filter. Maximum 100",
        ),
        objection(
            "details=is.nothing",
            r#"{"details", "is", "nothing", false}"#,
            "P0001 (raise_exception) invalid value for is filter: must be null, true, false, or unknown",
        ),
        objection(
            "id=is.true",
            r#"{"id", "is", "true", false}"#,
            "P0001 (raise_exception) is true filter requires a boolean column, got integer",
        ),
        objection(
            "tag=is.unknown",
            r#"{"tag", "is", "unknown", false}"#,
            "P0001 (raise_exception) is unknown filter requires a boolean column, got character varying",
        ),
        like("id=like.a", "like", "id", "integer"),
        like("price=ilike.a", "ilike", "price", "numeric"),
        like("raw=match.a", "match", "raw", "bytea"),
        like("docs=imatch.a", "imatch", "docs", "jsonb"),
        objection(
            "details=match.a[",
            r#"{"details", "match", "a[", false}"#,
            "P0001 (raise_exception) invalid regular expression for match filter: brackets [] not balanced",
        ),
        objection(
            "tag=not.imatch.(",
            r#"{"tag", "imatch", "(", true}"#,
            "P0001 (raise_exception) invalid regular expression for imatch filter: parentheses () not balanced",
        ),
        objection(
            "doc=eq.{}",
            r#"{"doc", "eq", "{}", false}"#,
            "42883 (undefined_function) operator does not exist: json = json",
        ),
        objection(
            "place=lt.\"(1,2)\"",
            r#"{"place", "lt", "(1,2)", false}"#,
            "42883 (undefined_function) operator does not exist: point < point",
        ),
        objection(
            "place=in.()",
            r#"{"place", "in", "{}", false}"#,
            "42883 (undefined_function) operator does not exist: point = point",
        ),
        objection(
            "lax=match.a",
            r#"{"lax", "match", "a", false}"#,
            "0A000 (feature_not_supported) nondeterministic collations are not supported for regular expressions",
        ),
        objection(
            "details=eq.nul\0",
            r#"{"details", "eq", "nul\0", false}"#,
            "22021 (character_not_in_repertoire) invalid byte sequence for encoding \"UTF8\": 0x00",
        ),
        objection(
            "raw=eq.xyz",
            r#"{"raw", "eq", "xyz", false}"#,
            r#"22023 (invalid_parameter_value) invalid hexadecimal digit: "y""#,
        ),
    ] {
        assert_eq!(try_bind(&catalog, &[wish("test", &filter)]).await, Err(text), "{filter}");
    }
}

#[tokio::test]
async fn the_first_bad_wish_speaks_for_all() {
    let database = database().await;
    let catalog = catalog(&database);
    let refusal = |wishes: Vec<Wish>| {
        let catalog = &catalog;
        async move { try_bind(catalog, &wishes).await.unwrap_err() }
    };
    let (good, bad_value) = (wish("test", "id=eq.1"), wish("test", "id=eq.x"));
    let bad_column = wish("test", "nope=eq.1");
    let text = refusal(vec![good.clone(), bad_value.clone(), bad_column.clone()]).await;
    assert!(text.ends_with(r#"invalid input syntax for type integer: "x""#), "{text}");
    let text = refusal(vec![good.clone(), bad_column.clone(), bad_value.clone()]).await;
    assert!(text.ends_with("invalid column for filter nope"), "{text}");
    // What cannot even be read is noticed before Postgres is asked.
    let text = refusal(vec![bad_value, wish("test", "undefined")]).await;
    assert_eq!(text, r#"Error parsing `filter` params: ["undefined"]"#);
    let text = refusal(vec![wish("test", "id=eq.1,id=in.1,2")]).await;
    assert_eq!(
        text,
        "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"
    );
}

#[tokio::test]
async fn select_is_checked_against_the_roles_columns() {
    let database = database().await;
    let catalog = catalog(&database);
    let selecting = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Wish { select: Some(Ok(names)), ..wish("test", "") }
    };
    let bound = try_bind(&catalog, &[selecting(&["tag", "id", "tag"])]).await.unwrap();
    let select = bound[0].select.clone().unwrap();
    assert_eq!(select.iter().map(|name| &**name).collect::<Vec<_>>(), ["id", "tag"]);
    for column in ["secret", "nope"] {
        let text = try_bind(&catalog, &[selecting(&["id", column])]).await.unwrap_err();
        let start = format!(r#"filters: [], select: ["id", "{column}"]]. Exception: ERROR P0001"#);
        let end = format!("invalid column for select {column}");
        assert!(text.contains(&start) && text.ends_with(&end), "{text}");
    }
}

#[tokio::test]
async fn only_published_tables_can_be_asked_for() {
    let database = database().await;
    let catalog = catalog(&database);
    let long = "x".repeat(64);
    for table in ["hidden", "tes_", "TEST", "%", "lonely", "", "nul\0", &long] {
        let expected = format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
             connect parameters: [event: *, schema: public, table: {table}, filters: [], select: nil]"
        );
        assert_eq!(try_bind(&catalog, &[wish(table, "")]).await, Err(expected));
    }
    let nowhere = Wish { schema: Some("nowhere".to_owned()), ..Wish::default() };
    let text = try_bind(&catalog, &[nowhere]).await.unwrap_err();
    assert!(
        text.ends_with("[event: *, schema: nowhere, table: *, filters: [], select: nil]"),
        "{text}"
    );
    let bound = try_bind(&catalog, &[wish("parent", ""), wish("leaf", "id=eq.1")]).await.unwrap();
    let named = |table: &str| Target::Table { schema: "public".into(), table: table.into() };
    assert_eq!([&bound[0].target, &bound[1].target], [&named("parent"), &named("leaf")]);
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named() {
    let database = database().await;
    let catalog = catalog_for(&database, &["anon", "ghost"]);
    let ghost = relay::model::Principal::new("ghost", "{}");
    let end = r#"ERROR 42704 (undefined_object) role "ghost" does not exist; create it, or take it out of auth.roles"#;
    let schema = Wish { schema: Some("public".to_owned()), ..Wish::default() };
    let all = Wish { schema: Some("*".to_owned()), ..Wish::default() };
    for wish in [wish("test", ""), schema, all] {
        let refused = super::bind_as(&catalog, &ghost, &[wish]).await;
        let Err(relay::catalog::bind::Unbound::Refused(text)) = refused else { panic!("bound") };
        assert!(text.ends_with(end), "{text}");
    }
}

#[tokio::test]
async fn operands_become_canonical() {
    let database = database().await;
    let catalog = catalog(&database);
    let text = |text: &str| Operand::Text(text.into());
    let list = |elements: &[Option<&str>]| {
        Operand::List(elements.iter().map(|element| element.map(Into::into)).collect())
    };
    for (filter, operand) in [
        ("id=eq. 007 ", text("7")),
        ("id=in.(3,NULL, +4)", list(&[Some("3"), None, Some("4")])),
        ("id=in.()", list(&[])),
        (r#"details=in.("a,b",c)"#, list(&[Some("a,b"), Some("c")])),
        (r#"details=eq."a,b""#, text("a,b")),
        ("ok=eq.yes", text("t")),
        ("ok=is.unknown", Operand::Keyword(Keyword::Unknown)),
        ("price=eq.1e2", text("100")),
        ("at=gt.2024-01-01T02:00:00+02", text("2024-01-01 00:00:00+00")),
        ("feeling=gte.ok", text("ok")),
        ("raw=eq.0102", text("\\x0102")),
        ("raw=eq.\\x01FF", text("\\x01ff")),
        (r"raw=in.(01,\\x02,\x03)", list(&[Some("\\x01"), Some("\\x02"), Some("\\x03")])),
        (r#"docs=eq."{\"b\":1, \"a\":2}""#, text(r#"{"a": 2, "b": 1}"#)),
        ("code=eq.cow", text("cow")),
        ("label=eq.", text("")),
        ("label=match.^a", text("^a")),
        ("who=ilike.A%", text("A%")),
        ("tag=like.100\\%", text("100\\%")),
    ] {
        let bound = try_bind(&catalog, &[wish("test", filter)]).await;
        let bound = bound.unwrap_or_else(|text| panic!("{filter}: {text}"));
        assert_eq!(bound[0].filter[0].predicate.operand, operand, "{filter}");
    }
}

#[tokio::test]
async fn equal_wishes_are_equal_and_events_are_read() {
    let database = database().await;
    let catalog = catalog(&database);
    let mut insert = wish("test", "price=eq.1.50,id=gt.0");
    insert.event = Some("insert".to_owned());
    let mut again = wish("test", "price=eq.1.50,id=gt.00");
    again.event = Some("INSERT".to_owned());
    let bound = try_bind(&catalog, &[insert, again]).await.unwrap();
    assert_eq!(bound[0], bound[1]);
    assert_eq!(bound[0].event, Some(Event::Insert));
    assert_eq!(bound[0].filter.len(), 2);
}

#[tokio::test]
async fn a_thousand_conditions_bind_at_once_and_no_more() {
    let database = database().await;
    let catalog = catalog(&database);
    let mut wishes: Vec<_> = (0..1000).map(|n| wish("test", &format!("id=eq.{n}"))).collect();
    assert_eq!(try_bind(&catalog, &wishes).await.unwrap().len(), 1000);
    // The first of those that Postgres objects to is told, wherever they are.
    for (place, word) in [(999, "oops"), (801, "what"), (523, "no"), (0, "first")] {
        wishes[place] = wish("test", &format!("id=eq.{word}"));
        let text = try_bind(&catalog, &wishes).await.unwrap_err();
        assert!(text.ends_with(&format!("integer: \"{word}\"")), "{text}");
    }
    wishes.push(wish("test", "id=eq.1"));
    assert_eq!(
        try_bind(&catalog, &wishes).await.unwrap_err(),
        "Error parsing `filter` params: too many conditions in one channel. Maximum 1000"
    );
    let many = |count: usize| wish("test", &vec!["id=gt.0"; count].join(","));
    assert_eq!(try_bind(&catalog, &[many(100)]).await.unwrap()[0].filter.len(), 100);
    assert_eq!(
        try_bind(&catalog, &[many(101)]).await.unwrap_err(),
        "Error parsing `filter` params: too many conditions. Maximum 100"
    );
}

#[tokio::test]
async fn a_few_letters_that_stand_for_very_many_are_refused() {
    let database = database().await;
    let catalog = catalog(&database);
    let long = "54000 (program_limit_exceeded) a value of the filter is too long when written out";
    let several = |value: &str, count: usize| vec![value; count].join(",");
    for filter in [
        "price=lt.1e131071".to_owned(),
        "price=not.eq.1e5000".to_owned(),
        "price=in.(1,1e131071)".to_owned(),
        format!("price=in.({})", several("1e308", 100)),
        "docs=eq.1e131071".to_owned(),
        "docs=in.(1e131071)".to_owned(),
        // Each is short enough; together they are not.
        several("price=lt.1e4000", 20),
    ] {
        let text = try_bind(&catalog, &[wish("test", &filter)]).await.unwrap_err();
        assert!(text.ends_with(long), "{filter}: {text}");
    }
    // What people write is none of this, nor what is long because they wrote it so.
    let words = "word ".repeat(4_000);
    for filter in [
        "price=lt.1.7976931348623157e+308".to_owned(),
        "price=gt.-1e-300".to_owned(),
        format!("price=in.({})", several("1e30", 100)),
        format!("details=eq.{words}"),
        format!("details=in.({})", several("\"a, b\"", 100)),
        format!(r#"docs=eq."[{}]""#, several("1", 5_000)),
        format!("raw=eq.{}", "01".repeat(10_000)),
        several("at=gt.2024-01-01", 100),
    ] {
        if let Err(text) = try_bind(&catalog, &[wish("test", &filter)]).await {
            panic!("{filter}: {text}");
        }
    }
}
