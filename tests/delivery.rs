//! What a change looks like to the client that asked for it.

use serde_json::{Value, json};

use crate::support::relay::{token, token_of};
use crate::support::{Client, Cluster, Database, Relay};

const TABLE: &str = "
    create table notes (id bigint primary key, body text, tags text[], price numeric, secret text);
    alter publication supabase_realtime add table notes;";

async fn database(sql: &str) -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(sql).await;
    database
}

async fn watch(relay: &Relay, wishes: Value) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    client.subscribe("room", wishes).await;
    client
}

fn all(table: &str) -> Value {
    json!([{ "event": "*", "schema": "public", "table": table }])
}

#[tokio::test]
async fn an_insert_arrives_with_its_columns_and_record() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
    let bindings = client.subscribe("room", all("notes")).await;
    let clock =
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let before = database.text(clock).await;
    database.execute("insert into notes values (9007199254740993, 'hi', '{a,null}', 1.50)").await;
    let after = database.text(clock).await;
    let received = client.expect("postgres_changes").await;
    assert_eq!(received.join_ref, Value::Null);
    assert_eq!(received.payload["ids"], json!([bindings[0]["id"]]));
    let data = &received.payload["data"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&received.payload), ["data", "ids"]);
    // What clients know, and the position of the change, which they ignore.
    let of_an_insert =
        ["columns", "commit_timestamp", "errors", "id", "record", "schema", "table", "type"];
    assert_eq!(keys(data), of_an_insert);
    assert_eq!(data["schema"], "public");
    assert_eq!(data["table"], "notes");
    assert_eq!(data["type"], "INSERT");
    assert_eq!(data["errors"], Value::Null);
    assert_eq!(
        data["columns"],
        json!([
            { "name": "id", "type": "int8" },
            { "name": "body", "type": "text" },
            { "name": "tags", "type": "_text" },
            { "name": "price", "type": "numeric" },
            { "name": "secret", "type": "text" },
        ])
    );
    assert_eq!(data["record"]["id"].to_string(), "9007199254740993");
    assert_eq!(data["record"]["tags"], json!(["a", null]));
    assert_eq!(data["record"].get("secret"), Some(&Value::Null));
    let stamp = data["commit_timestamp"].as_str().unwrap();
    assert_eq!((stamp.len(), &stamp[10..11], &stamp[19..20], &stamp[23..]), (24, "T", ".", "Z"));
    assert!(*before <= *stamp && *stamp <= *after, "{before} {stamp} {after}");
}

#[tokio::test]
async fn old_records_follow_the_replica_identity() {
    let database = database(TABLE).await;
    database
        .execute(
            "create table whole (id int primary key, body text);
             alter table whole replica identity full;
             create table named (id int primary key, code text not null, body text);
             create unique index named_code on named (code);
             alter table named replica identity using index named_code;
             alter publication supabase_realtime add table whole, named;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "*" }]);
    let mut client = watch(&relay, wishes).await;
    let mut old = async |sql: &str| {
        database.execute(sql).await;
        let data = client.change().await;
        assert_eq!(data.get("record").is_none(), data["type"] == "DELETE", "{data}");
        assert_eq!(data.get("old_record").is_none(), data["type"] == "INSERT", "{data}");
        assert!(data["columns"].is_array(), "{data}");
        (
            data["type"].as_str().unwrap().to_owned(),
            data["record"].clone(),
            data["old_record"].clone(),
        )
    };
    old("insert into notes values (1, 'a')").await;
    let (_, new, before) = old("update notes set body = 'b'").await;
    assert_eq!((&new["body"], before), (&json!("b"), json!({ "id": 1 })));
    let (_, new, before) = old("update notes set id = 2").await;
    assert_eq!((&new["id"], before), (&json!(2), json!({ "id": 1 })));
    let (event, record, before) = old("delete from notes").await;
    assert_eq!((event.as_str(), record, before), ("DELETE", Value::Null, json!({ "id": 2 })));
    old("insert into whole values (1, 'a')").await;
    let (.., before) = old("update whole set body = 'b'").await;
    assert_eq!(before, json!({ "id": 1, "body": "a" }));
    let (.., before) = old("delete from whole").await;
    assert_eq!(before, json!({ "id": 1, "body": "b" }));
    old("insert into named values (1, 'x', 'a')").await;
    let (.., before) = old("update named set body = 'b'").await;
    assert_eq!(before, json!({ "code": "x" }));
    let (.., before) = old("delete from named").await;
    assert_eq!(before, json!({ "code": "x" }));
}

#[tokio::test]
async fn an_unchanged_large_value_is_completed_from_a_whole_old_row_and_absent_otherwise() {
    let database = database(
        "create table large (id int primary key, body text, n int);
         alter table large alter body set storage external;
         alter publication supabase_realtime add table large;",
    )
    .await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, all("large")).await;
    database.execute("insert into large values (1, repeat('x', 9000), 1)").await;
    assert_eq!(client.change().await["record"]["body"].as_str().map(str::len), Some(9000));
    database.execute("update large set n = 2").await;
    let data = client.change().await;
    assert_eq!(data["record"], json!({ "id": 1, "n": 2 }));
    database.execute("alter table large replica identity full; update large set n = 3").await;
    let data = client.change().await;
    assert_eq!(data["record"]["body"].as_str().map(str::len), Some(9000));
    assert_eq!(data["record"]["n"], 3);
}

#[tokio::test]
async fn a_truncate_is_not_told_as_rows() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, all("notes")).await;
    database.execute("insert into notes values (1); truncate notes").await;
    database.execute("insert into notes values (2)").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    assert_eq!(client.change().await["record"]["id"], 2);
}

#[tokio::test]
async fn columns_without_a_grant_are_absent_everywhere() {
    let database = database(TABLE).await;
    database
        .execute(
            "alter table notes replica identity full;
             revoke all on notes from anon;
             grant select (id, body) on notes to anon;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, all("notes")).await;
    database.execute("insert into notes values (1, 'a', null, 1, 'hidden')").await;
    let data = client.change().await;
    assert_eq!(
        data["columns"],
        json!([{ "name": "id", "type": "int8" }, { "name": "body", "type": "text" }])
    );
    assert_eq!(data["record"], json!({ "id": 1, "body": "a" }));
    database.execute("update notes set body = 'b'").await;
    let data = client.change().await;
    assert_eq!(data["old_record"], json!({ "id": 1, "body": "a" }));
    assert!(!data.to_string().contains("hidden"));
}

#[tokio::test]
async fn a_table_without_a_key_and_an_unreadable_key_say_so() {
    let database = database(
        "create table keyless (a int);
         create table locked (id int primary key, a int);
         revoke all on locked from anon;
         grant select (a) on locked to anon;
         alter table keyless replica identity full;
         alter publication supabase_realtime add table keyless, locked;",
    )
    .await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, json!([{ "event": "*", "schema": "public" }])).await;
    database.execute("insert into keyless values (1)").await;
    let data = client.change().await;
    assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!((&data["columns"], &data["record"]), (&json!([]), &json!({})));
    assert_eq!(data["commit_timestamp"], Value::Null);
    database.execute("update keyless set a = 2").await;
    let data = client.change().await;
    assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!((&data["record"], &data["old_record"]), (&json!({}), &json!({})));
    database.execute("delete from keyless").await;
    let data = client.change().await;
    assert_eq!((&data["old_record"], &data["errors"]), (&json!({ "a": 2 }), &Value::Null));
    database.execute("insert into locked values (1, 1); update locked set a = 2").await;
    for old_record in [None, Some(&json!({}))] {
        let data = client.change().await;
        assert_eq!(data["errors"], json!(["Error 401: Unauthorized"]));
        assert_eq!((&data["columns"], &data["record"]), (&json!([]), &json!({})));
        assert_eq!((data.get("old_record"), &data["commit_timestamp"]), (old_record, &Value::Null));
    }
    database.execute("delete from locked").await;
    let data = client.change().await;
    assert_eq!((&data["old_record"], &data["errors"]), (&json!({}), &Value::Null));
}

#[tokio::test]
async fn a_row_over_the_limit_keeps_its_small_columns() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, all("notes")).await;
    database.execute("insert into notes values (1, repeat('x', 1100000))").await;
    let data = client.change().await;
    assert_eq!(data["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(data["record"], json!({ "id": 1, "tags": null, "price": null, "secret": null }));
    assert_eq!(data["columns"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn select_limits_the_columns_and_keeps_the_key() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let wishes = json!([
        { "event": "INSERT", "schema": "public", "table": "notes", "select": ["body"] },
        { "event": "*", "schema": "public", "table": "notes" },
    ]);
    let mut client = watch(&relay, wishes).await;
    database.execute("insert into notes values (1, 'a')").await;
    let (one, two) = (client.change().await, client.change().await);
    let narrow = if one["columns"].as_array().unwrap().len() == 2 { &one } else { &two };
    assert_eq!(narrow["record"], json!({ "id": 1, "body": "a" }));
    assert_eq!(
        one["columns"].as_array().unwrap().len() + two["columns"].as_array().unwrap().len(),
        7
    );
}

#[tokio::test]
async fn select_limits_old_records_and_deletes_too() {
    let database = database(TABLE).await;
    database.execute("alter table notes replica identity full").await;
    let relay = Relay::start(&database).await;
    let wishes =
        json!([{ "event": "*", "schema": "public", "table": "notes", "select": ["body"] }]);
    let mut client = watch(&relay, wishes).await;
    let columns = json!([{ "name": "id", "type": "int8" }, { "name": "body", "type": "text" }]);
    database.execute("insert into notes values (1, 'a', '{t}', 1, 's')").await;
    database.execute("update notes set body = 'b'; delete from notes").await;
    let (a, b) = (json!({ "id": 1, "body": "a" }), json!({ "id": 1, "body": "b" }));
    for (record, old_record) in [(Some(&a), None), (Some(&b), Some(&a)), (None, Some(&b))] {
        let data = client.change().await;
        assert_eq!(data["columns"], columns);
        assert_eq!((data.get("record"), data.get("old_record")), (record, old_record));
    }
}

#[tokio::test]
async fn each_event_reaches_those_who_asked_for_it() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
    for event in ["INSERT", "update", "DELETE", "*"] {
        let wish = json!([{ "event": event, "schema": "public", "table": "notes" }]);
        client.subscribe(event, wish).await;
    }
    database.execute("insert into notes values (1, 'a')").await;
    database.execute("update notes set body = 'b'; delete from notes").await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let received = client.expect("postgres_changes").await;
        let event = received.payload["data"]["type"].as_str().unwrap().to_ascii_lowercase();
        seen.push((event, received.topic.replace("realtime:", "").to_ascii_lowercase()));
    }
    seen.sort();
    let expected: Vec<_> = ["delete", "insert", "update"]
        .into_iter()
        .flat_map(|event| {
            [(event.to_owned(), "*".to_owned()), (event.to_owned(), event.to_owned())]
        })
        .collect();
    assert_eq!(seen, expected);
    assert!(client.flush().await.is_empty());
}

#[tokio::test]
async fn bindings_that_a_change_answers_together_come_in_one_message() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let wishes = json!([
        { "event": "INSERT", "schema": "public", "table": "notes" },
        { "event": "*", "schema": "public", "table": "notes" },
        { "event": "UPDATE", "schema": "public", "table": "notes" },
    ]);
    let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
    let bindings = client.subscribe("room", wishes).await;
    database.execute("insert into notes values (1, 'a'); update notes set body = 'b'").await;
    let mut ids = async || {
        let mut ids =
            client.expect("postgres_changes").await.payload["ids"].as_array().unwrap().clone();
        ids.sort_by_key(Value::as_u64);
        ids
    };
    let sorted = |places: [usize; 2]| {
        let mut ids: Vec<_> = places.iter().map(|at| bindings[at]["id"].clone()).collect();
        ids.sort_by_key(Value::as_u64);
        ids
    };
    assert_eq!(ids().await, sorted([0, 1]));
    assert_eq!(ids().await, sorted([1, 2]));
}

#[tokio::test]
async fn a_generated_column_is_present() {
    let database = database(
        "create table sums (id int primary key, a int, twice int generated always as (a * 2) stored);
         do $$ begin
           -- From 18 on, the whole old row includes generated columns, which must then be published.
           if current_setting('server_version_num')::int >= 180000 then
             alter publication supabase_realtime set (publish_generated_columns = stored);
           end if;
         end $$;
         alter table sums replica identity full;
         alter publication supabase_realtime add table sums;",
    )
    .await;
    let relay = Relay::start(&database).await;
    let wishes =
        json!([{ "event": "*", "schema": "public", "table": "sums", "filter": "twice=gte.4" }]);
    let mut client = watch(&relay, wishes).await;
    database.execute("insert into sums values (1, 1), (2, 2)").await;
    let data = client.change().await;
    assert_eq!(data["record"], json!({ "id": 2, "a": 2, "twice": 4 }));
    database.execute("update sums set a = 5 where id = 2").await;
    let data = client.change().await;
    assert_eq!(data["record"]["twice"], 10);
    assert_eq!(data["old_record"]["twice"], 4);
}

#[tokio::test]
async fn a_partition_is_seen_under_its_own_name_and_under_its_parents() {
    let database = database(
        "create table logs (id int, day date, primary key (id, day)) partition by range (day);
         create table logs_2026 partition of logs for values from ('2026-01-01') to ('2027-01-01');
         alter publication supabase_realtime add table logs;",
    )
    .await;
    let relay = Relay::start(&database).await;
    let mut parent = watch(&relay, all("logs")).await;
    let mut leaf = watch(&relay, all("logs_2026")).await;
    let mut every = watch(&relay, json!([{ "event": "*", "schema": "*" }])).await;
    database.execute("insert into logs values (1, '2026-05-01')").await;
    assert_eq!(parent.change().await["table"], "logs");
    assert_eq!(leaf.change().await["table"], "logs_2026");
    assert_eq!(every.change().await["table"], "logs_2026");
    assert!(every.flush().await.is_empty());
}

#[tokio::test]
async fn an_altered_table_is_told_as_it_was_at_each_change() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, all("notes")).await;
    let columns = |data: &Value| {
        let columns = data["columns"].as_array().unwrap().iter();
        columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    database.execute("insert into notes (id) values (1)").await;
    assert_eq!(columns(&client.change().await), ["id", "body", "tags", "price", "secret"]);
    database.execute("alter table notes add column extra int default 7").await;
    database.execute("insert into notes (id) values (2)").await;
    let data = client.change().await;
    assert_eq!(data["record"]["extra"], 7);
    assert_eq!(columns(&data), ["id", "body", "tags", "price", "secret", "extra"]);
    database.execute("alter table notes rename column extra to more").await;
    database.execute("insert into notes (id) values (3)").await;
    let data = client.change().await;
    assert_eq!(data["record"]["more"], 7);
    assert_eq!(columns(&data), ["id", "body", "tags", "price", "secret", "more"]);
    assert!(data["record"].get("extra").is_none());
    database.execute("alter table notes drop column more, alter column price type text").await;
    database.execute("insert into notes (id, price) values (4, 'dear')").await;
    let data = client.change().await;
    assert_eq!(data["record"]["price"], "dear");
    assert_eq!(columns(&data), ["id", "body", "tags", "price", "secret"]);
    assert_eq!(data["columns"][3]["type"], "text");
    assert!(data["record"].get("more").is_none());
}

#[tokio::test]
async fn a_table_added_to_the_publication_reaches_wildcards() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, json!([{ "event": "*", "schema": "public" }])).await;
    database.execute("create table later (id int primary key)").await;
    database.execute("alter publication supabase_realtime add table later").await;
    database.execute("insert into later values (1)").await;
    assert_eq!(client.change().await["table"], "later");
}

#[tokio::test]
async fn both_serializers_tell_the_same() {
    let database = database(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut old = Client::connect_as(&relay, &token_of("a"), "1.0.0").await;
    old.subscribe("room", all("notes")).await;
    let mut new = Client::connect(&relay, &token_of("a")).await;
    new.subscribe("room", all("notes")).await;
    database.execute("insert into notes values (1, 'é\"\\\n')").await;
    let (one, two) = (old.expect("postgres_changes").await, new.expect("postgres_changes").await);
    assert_eq!(one.payload, two.payload);
    assert_eq!(one.payload["data"]["record"]["body"], "é\"\\\n");
}

#[tokio::test]
async fn changes_can_be_held_so_that_the_writer_s_own_answer_comes_first() {
    let database = database(TABLE).await;
    let relay = Relay::start_with(&database, &[("RELAY_REALTIME__HOLD", "1s")]).await;
    let mut client = watch(&relay, all("notes")).await;
    let mut other = Client::connect(&relay, &token("anon", &json!({}))).await;
    other.join("room", json!({ "config": {} })).await;
    database.execute("insert into notes (id) values (1)").await;
    let message = json!({ "type": "broadcast", "event": "committed", "payload": {} });
    other.push(&json!("1"), "realtime:room", "broadcast", message).await;
    for event in ["broadcast", "postgres_changes"] {
        assert_eq!(client.receive().await.unwrap().event, event);
    }
}
