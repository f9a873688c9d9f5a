//! First reads: rows under one snapshot, then what is live, with no change missing between them and none twice.

mod load;
mod trouble;

use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, PATIENCE, Relay, until};

/// A published table of notes that everybody may read.
async fn prepare(cluster: &Cluster) -> Database {
    let database = cluster.database().await.with_roles().await;
    database
        .execute(
            "create table notes (id int primary key, owner text default 'ann', body text, at int);
             alter publication supabase_realtime add table notes;
             grant select on notes to anon, authenticated",
        )
        .await;
    database
}

async fn start() -> (Database, Relay) {
    let database = prepare(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    (database, relay)
}

async fn anon(relay: &Relay) -> Client {
    Client::connect(relay, &token("anon", &json!({}))).await
}

fn wish(snapshot: Value) -> Value {
    json!({ "event": "*", "schema": "public", "table": "notes", "snapshot": snapshot })
}

/// The rows of a snapshot, and the message that ends it.
async fn read(client: &mut Client) -> (Vec<Value>, Value) {
    let mut rows = Vec::new();
    loop {
        let received = client.find("a snapshot", is_of_snapshot).await;
        match received.payload.get("snapshot") {
            Some(end) => {
                assert_eq!(received.payload["status"], "ok", "{received:?}");
                return (rows, end.clone());
            }
            None => rows.push(received.payload["data"].clone()),
        }
    }
}

fn is_of_snapshot(received: &Received) -> bool {
    received.payload.get("snapshot").is_some() || received.payload["data"]["snapshot"] == true
}

fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|data| data["record"]["id"].as_i64().unwrap()).collect()
}

async fn snapshot_ids(client: &mut Client, room: &str, wish: Value) -> Vec<i64> {
    client.subscribe(room, json!([wish])).await;
    let (rows, end) = read(client).await;
    assert_eq!(end["rows"], rows.len());
    client.leave(room).await;
    ids(&rows)
}

/// Whether nothing came but farewells of channels that were left.
async fn quiet(client: &mut Client) -> bool {
    client.flush().await.iter().all(|received| received.event == "phx_close")
}

/// The next `system` message that tells of a gap.
async fn gap(client: &mut Client) -> Value {
    let is_gap = |received: &Received| received.payload.get("gap").is_some();
    let received = client.find("a gap", is_gap).await;
    assert_eq!(received.payload["status"], "error", "{received:?}");
    received.payload
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_rows_come_oldest_first_and_then_what_is_live() {
    let (database, relay) = start().await;
    database.execute("insert into notes (id) select generate_series(1, 5)").await;
    let mut client = anon(&relay).await;
    let element = wish(json!({ "limit": 3, "order": "id.desc" }));
    let bindings = client.subscribe("room", json!([element])).await;
    assert_eq!(bindings[0]["snapshot"], element["snapshot"], "echoed as it was sent");
    let (rows, end) = read(&mut client).await;
    assert_eq!(ids(&rows), [3, 4, 5]);
    for (row, follow) in rows.iter().zip([2, 1, 0]) {
        assert_eq!((&row["type"], &row["errors"]), (&json!("INSERT"), &Value::Null));
        assert!(row["commit_timestamp"].is_string(), "{row}");
        let place = end["id"].as_str().unwrap();
        assert_eq!(row["id"], format!("{place}:s{follow}"));
    }
    assert_eq!(end["rows"], 3);
    database.execute("insert into notes (id) values (6)").await;
    let live = client.change().await;
    assert_eq!((&live["record"]["id"], live.get("snapshot")), (&json!(6), None));
    database.execute("delete from notes where id = 1").await;
    assert_eq!(client.change().await["type"], "DELETE");
    assert!(client.flush().await.is_empty());
    assert!((relay.metric("relay_snapshots_total") - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_limit_and_filter_are_those_of_the_element() {
    let (database, relay) = start().await;
    database
        .execute(
            "insert into notes (id, body, at) values
               (1, 'x', 30), (2, 'y', null), (3, 'x', 10), (4, 'x', 20), (5, 'z', 10)",
        )
        .await;
    let mut client = anon(&relay).await;
    for (snapshot, filter, expected) in [
        (json!({ "limit": 9 }), "", vec![1, 2, 3, 4, 5]),
        (json!({ "limit": 2 }), "", vec![1, 2]),
        (json!({ "limit": 9, "order": "at" }), "", vec![3, 5, 4, 1, 2]),
        (json!({ "limit": 9, "order": "at.desc" }), "", vec![3, 5, 4, 1, 2]),
        (json!({ "limit": 2, "order": "at.desc.nullslast" }), "", vec![4, 1]),
        (json!({ "limit": 9, "order": "at.nullsfirst" }), "", vec![2, 3, 5, 4, 1]),
        (json!({ "limit": 9, "order": "body.asc,at.desc" }), "", vec![1, 4, 3, 2, 5]),
        (json!({ "limit": 9 }), "body=eq.x", vec![1, 3, 4]),
        (json!({ "limit": 2, "order": "id.desc" }), "body=in.(x,z)", vec![4, 5]),
        (json!({ "limit": 9 }), "body=like.x%,at=gte.20", vec![1, 4]),
        (json!({ "limit": 9 }), "at=is.null", vec![2]),
        (json!({ "limit": 9 }), "body=eq.nothing", vec![]),
    ] {
        let mut element = wish(snapshot);
        element["filter"] = json!(filter);
        let what = element.to_string();
        assert_eq!(snapshot_ids(&mut client, "room", element).await, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_reads_as_the_stream_wrote_it() {
    let database = prepare(Cluster::shared()).await;
    database
        .execute(
            "create type mood as enum ('sad', 'so ok');
             create domain positive as int check (value > 0);
             create type pair as (a int, b text);
             create table kinds (
               id int primary key, c char(5), v varchar(9), n numeric(9, 3), f real, d double precision,
               b boolean, t timestamp, tz timestamptz, day date, i interval, bits bit(3), vb varbit,
               j json, jb jsonb, u uuid, y bytea, arr int[], words text[], m mood, p positive, o pair,
               nothing text, r int4range, net inet, big bigint, ts tsvector, ch \"char\",
               twice int generated always as (id * 2) stored, \"Odd \"\"name\" text);
             alter publication supabase_realtime add table kinds;
             grant select on kinds to anon",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut live = anon(&relay).await;
    let kinds = json!({ "event": "*", "schema": "public", "table": "kinds" });
    live.subscribe("room", json!([kinds])).await;
    database
        .execute(
            r#"insert into kinds values (
               1, 'ab', 'x ', 1.5, 0.1, 1e300, true, '2024-01-02 03:04:05.6', '2024-01-02 03:04:05+02',
               '2024-02-29', '1 year 2 days 03:04:05', b'101', b'01', '{"a": [1 ,2]}', '{"b":null}',
               '00000000-0000-0000-0000-000000000001', '\x00ff', '{1,null,3}', '{"a b","c\"d",null}',
               'so ok', 7, (1, null), null, '[1,5)', '10.0.0.0/8', 9007199254740993, 'a b', 'q',
               default, 'ü')"#,
        )
        .await;
    let streamed = live.change().await;
    let mut late = anon(&relay).await;
    let mut element = kinds;
    element["snapshot"] = json!({ "limit": 1 });
    late.subscribe("room", json!([element])).await;
    let (rows, _) = read(&mut late).await;
    for key in ["schema", "table", "columns", "record", "errors", "type"] {
        assert_eq!(rows[0][key], streamed[key], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_privileges_and_select_hold() {
    let database = prepare(Cluster::shared()).await;
    database
        .execute(
            "alter table notes enable row level security;
             create policy own on notes for select to authenticated
               using (owner = auth.jwt() ->> 'name');
             create table secrets (id int primary key, open text, closed text);
             alter publication supabase_realtime add table secrets;
             revoke all on secrets from anon;
             grant select (id, open) on secrets to anon;
             insert into secrets values (1, 'o', 'c');
             insert into notes values (1, 'ann', 'x'), (2, 'bob', 'x'), (3, 'ann', 'y')",
        )
        .await;
    let relay = Relay::start(&database).await;
    let all = wish(json!({ "limit": 10 }));
    for (who, expected) in [
        (token("authenticated", &json!({ "name": "ann" })), vec![1, 3]),
        (token("authenticated", &json!({ "name": "bob" })), vec![2]),
        (token("authenticated", &json!({})), vec![]),
        (token("anon", &json!({})), vec![]),
        (token("service_role", &json!({})), vec![1, 2, 3]),
    ] {
        let mut client = Client::connect(&relay, &who).await;
        assert_eq!(snapshot_ids(&mut client, "room", all.clone()).await, expected);
    }
    let mut client = anon(&relay).await;
    let secrets = json!({ "event": "*", "schema": "public", "table": "secrets" });
    let with = |more: &Value| {
        let mut element = secrets.clone();
        element["snapshot"] = json!({ "limit": 5 });
        for (key, value) in more.as_object().unwrap() {
            element[key] = value.clone();
        }
        json!([element])
    };
    client.subscribe("room", with(&json!({}))).await;
    let (rows, _) = read(&mut client).await;
    assert_eq!(rows[0]["record"], json!({ "id": 1, "open": "o" }));
    client.leave("room").await;
    client.subscribe("room", with(&json!({ "select": ["id"] }))).await;
    let (rows, _) = read(&mut client).await;
    assert_eq!(rows[0]["record"], json!({ "id": 1 }));
    let hidden = with(&json!({ "snapshot": { "limit": 5, "order": "closed" } }));
    let text = refusal(&mut client, hidden).await;
    assert!(text.ends_with("invalid column for snapshot order closed"), "{text}");
}

/// What a channel with these wishes is told instead of "Subscribed to PostgreSQL".
async fn refusal(client: &mut Client, wishes: Value) -> String {
    let reply = client.join("refused", json!({ "config": { "postgres_changes": wishes } })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let told = client.expect("system").await;
    assert_eq!(told.payload["status"], "error");
    client.leave("refused").await;
    told.payload["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_divided_is_read_with_its_parts_and_one_that_is_inherited_without() {
    let database = prepare(Cluster::shared()).await;
    database
        .execute(
            "create table days (id int primary key) partition by range (id);
             create table days_1 partition of days for values from (0) to (10);
             create table days_2 partition of days for values from (10) to (20);
             create table children () inherits (notes);
             alter publication supabase_realtime add table days;
             insert into days values (1), (11);
             insert into notes values (1); insert into children values (2)",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut client = anon(&relay).await;
    let notes = wish(json!({ "limit": 5 }));
    let mut days = notes.clone();
    days["table"] = json!("days");
    assert_eq!(snapshot_ids(&mut client, "room", days).await, [1, 11]);
    assert_eq!(snapshot_ids(&mut client, "room", notes).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_can_be_continued_comes_before_a_snapshot() {
    let (database, relay) = start().await;
    database.execute("insert into notes (id) select generate_series(1, 3)").await;
    let mut client = anon(&relay).await;
    client.subscribe("room", json!([wish(json!({ "limit": 9 }))])).await;
    let (rows, end) = read(&mut client).await;
    assert_eq!(ids(&rows), [1, 2, 3]);
    client.leave("room").await;
    database.execute("insert into notes (id) values (4)").await;
    // Whoever has the last row has them all.
    for since in [rows[2]["id"].clone(), end["id"].clone()] {
        let mut element = wish(json!({ "limit": 9 }));
        element["since"] = since;
        client.subscribe("room", json!([element])).await;
        let missed = client.change().await;
        assert_eq!((&missed["record"]["id"], missed.get("snapshot")), (&json!(4), None));
        client.leave("room").await;
        assert!(quiet(&mut client).await);
    }
    for (since, reason) in [
        (rows[1]["id"].clone(), "snapshot_incomplete"),
        (json!("nonsense"), "unknown_position"),
        (json!("1234:0000000000000001:0"), "history_lost"),
    ] {
        let mut element = wish(json!({ "limit": 9 }));
        element["since"] = since;
        client.subscribe("room", json!([element])).await;
        assert_eq!(gap(&mut client).await["gap"]["reason"], reason);
        let (rows, _) = read(&mut client).await;
        assert_eq!(ids(&rows), [1, 2, 3, 4]);
        client.leave("room").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_resume_id_a_snapshot_is_read_once_it_is_proven_and_again_until_then() {
    let (database, relay) = start().await;
    database.execute("insert into notes (id) select generate_series(1, 3)").await;
    let query = format!("apikey={}&vsn=2.0.0&resume=tab", token("anon", &json!({})));
    let connect = async || Client::try_connect(&relay, &query, "2.0.0").await.unwrap();
    let element = json!([wish(json!({ "limit": 9 }))]);
    let blocker = database.connect().await;
    blocker.batch_execute("begin; lock table notes in access exclusive mode").await.unwrap();
    let mut first = connect().await;
    first.subscribe("room", element.clone()).await;
    waits_for_lock(&database).await;
    drop(first);
    blocker.batch_execute("commit").await.unwrap();
    let mut second = connect().await;
    second.subscribe("room", element.clone()).await;
    assert_eq!(ids(&read(&mut second).await.0), [1, 2, 3]);
    let proofs = relay.metric("relay_proofs_total");
    let proving = async {
        while relay.metric("relay_proofs_total") <= proofs {
            second.flush().await;
        }
    };
    tokio::time::timeout(PATIENCE, proving).await.expect("the snapshot is proven");
    drop(second);
    database.execute("insert into notes (id) values (4)").await;
    let mut third = connect().await;
    third.subscribe("room", element).await;
    let missed = third.change().await;
    assert_eq!((&missed["record"]["id"], missed.get("snapshot")), (&json!(4), None));
}

/// Waits until a reader of first rows waits for a lock.
async fn waits_for_lock(database: &Database) {
    until("a reader to wait", || async {
        let waiting = database
            .text(
                "select count(*)::text from pg_stat_activity
                 where datname = current_database() and application_name = 'relay-check'
                   and wait_event_type = 'Lock'",
            )
            .await;
        (waiting != "0").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_leaves_meanwhile_leaves_nothing_behind() {
    let (database, relay) = start().await;
    database.execute("insert into notes (id) select generate_series(1, 3)").await;
    let blocker = database.connect().await;
    blocker.batch_execute("begin; lock table notes in access exclusive mode").await.unwrap();
    let mut client = anon(&relay).await;
    client.subscribe("room", json!([wish(json!({ "limit": 9 }))])).await;
    waits_for_lock(&database).await;
    client.leave("room").await;
    blocker.batch_execute("commit").await.unwrap();
    until("the read to end", || async {
        (relay.metric("relay_snapshots_total") > 0.5).then_some(())
    })
    .await;
    database.execute("insert into notes (id) values (4)").await;
    let rows = snapshot_ids(&mut client, "again", wish(json!({ "limit": 9 }))).await;
    assert_eq!(rows, [1, 2, 3, 4]);
    assert!(quiet(&mut client).await);
    assert!(relay.metric("relay_bindings").abs() < 0.1);
}
