//! Snapshots that cannot be meant, cannot be read, or must wait: what the client is told, and what comes then.

use serde_json::{Value, json};

use super::{anon, gap, ids, prepare, quiet, read, refusal, snapshot_ids, wish};
use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_in_words() {
    let database = prepare(Cluster::shared()).await;
    database
        .execute(
            "create table keyless (a int); alter publication supabase_realtime add table keyless;
             grant select on keyless to anon",
        )
        .await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__SNAPSHOT_ROWS", "10")]).await;
    let mut client = anon(&relay).await;
    for (wishes, expected) in [
        (
            json!([wish(json!({ "limit": 11 }))]),
            "InvalidJoinPayload: config.postgres_changes: its snapshots ask for 11 rows, the most is 10",
        ),
        (
            json!([wish(json!({ "limit": 6 })), wish(json!({ "limit": 5 }))]),
            "InvalidJoinPayload: config.postgres_changes: its snapshots ask for 11 rows, the most is 10",
        ),
        (
            json!([wish(json!({ "order": "id" }))]),
            "InvalidJoinPayload: config.postgres_changes[0].snapshot.limit: unable to parse, expected a number of rows from 1",
        ),
    ] {
        let reply = client.join("room", json!({ "config": { "postgres_changes": wishes } })).await;
        assert_eq!(
            (&reply["status"], &reply["response"]["reason"]),
            (&json!("error"), &json!(expected))
        );
    }
    assert!(relay.refused("InvalidJoinPayload") >= 3.0);
    let of = |table: &str, event: &str, order: &str| {
        let snapshot = json!({ "limit": 5, "order": order });
        json!([{ "event": event, "schema": "public", "table": table, "snapshot": snapshot }])
    };
    for (wishes, expected) in [
        (of("*", "*", "id"), "a snapshot needs one table; give its schema and its name"),
        (
            of("notes", "UPDATE", "id"),
            "the rows of a snapshot are INSERT events; ask for the event * or INSERT",
        ),
        (of("notes", "*", "nothing.desc"), "invalid column for snapshot order nothing"),
        (
            of("notes", "*", "id; drop table notes"),
            "invalid column for snapshot order id; drop table notes",
        ),
        (of("keyless", "*", "a"), "a snapshot needs a primary key that may be read"),
    ] {
        let text = refusal(&mut client, wishes).await;
        assert!(text.ends_with(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_told_and_the_channel_is_live() {
    let database = prepare(Cluster::shared()).await;
    database
        .execute(
            "create table slow (id int primary key, body text);
             create table large (id int primary key, body text);
             create table odd (id int primary key, j json);
             alter publication supabase_realtime add table slow, large, odd;
             alter table slow enable row level security;
             create policy sleeps on slow for select to authenticated using (pg_sleep(60) is null);
             insert into slow values (1);
             insert into odd values (1, '{}');
             insert into large select i, repeat('x', 1024 * 1024) from generate_series(1, 70) i",
        )
        .await;
    let who = token("authenticated", &json!({}));
    // Only what never ends is given little time: the rest may take what it takes.
    for (id, (table, limit, order, reason, words)) in (1..).zip([
        ("slow", "2s", "", "snapshot_timed_out", "it took too long"),
        ("large", "60s", "", "snapshot_too_large", "more than 64 MiB"),
        ("odd", "60s", "j", "snapshot_failed", "SQLSTATE 42883"),
    ]) {
        let limit = [("RELAY_POSTGRES__CHECK_TIMEOUT", limit)];
        let relay = Relay::start_with(&database, &limit).await;
        let mut client = Client::connect(&relay, &who).await;
        let snapshot = json!({ "limit": 100, "order": order });
        let element =
            json!({ "event": "*", "schema": "public", "table": table, "snapshot": snapshot });
        client.subscribe(table, json!([element, wish(Value::Null)])).await;
        let told = gap(&mut client).await;
        assert_eq!(told["gap"]["reason"], reason, "{told}");
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
        assert!(told["gap"]["to"].is_string(), "{told}");
        database.execute(&format!("insert into notes values ({id})")).await;
        assert_eq!(client.change().await["record"]["id"], id);
        client.leave(table).await;
        assert!(quiet(&mut client).await);
        let counter = format!("relay_gaps_total{{reason=\"{reason}\"}}");
        assert!((relay.metric(&counter) - 1.0).abs() < 0.1, "{counter}");
        // The next snapshot is none the worse for it.
        let newest = wish(json!({ "limit": 1, "order": "id.desc" }));
        assert_eq!(snapshot_ids(&mut client, "room", newest).await, [id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_streamed_before_they_are_visible_are_waited_for() {
    let cluster = Cluster::start(&[]);
    let database = prepare(&cluster).await;
    let relay = Relay::start(&database).await;
    let mut watcher = anon(&relay).await;
    watcher.subscribe("room", json!([wish(Value::Null)])).await;
    database.execute("insert into notes (id) values (1)").await;
    assert_eq!(watcher.change().await["record"]["id"], 1);
    let writer = cluster.hold_commits(&database).await;
    let held =
        tokio::spawn(
            async move { writer.batch_execute("insert into notes (id) values (2)").await },
        );
    assert_eq!(watcher.change().await["record"]["id"], 2, "streamed, and nobody can read it yet");
    // It was told before this client came, and no query sees it: it may be neither in the snapshot nor after it.
    let element = wish(json!({ "limit": 9 }));
    let mut impatient = anon(&relay).await;
    impatient.subscribe("room", json!([element])).await;
    let told = gap(&mut impatient).await;
    assert_eq!(told["gap"]["reason"], "snapshot_early", "{told}");
    let mut patient = anon(&relay).await;
    let snapshots = relay.metric("relay_snapshots_total");
    patient.subscribe("room", json!([element])).await;
    assert!(patient.flush().await.is_empty());
    assert!((relay.metric("relay_snapshots_total") - snapshots).abs() < 0.1);
    cluster.release_commits(&database).await;
    held.await.unwrap().unwrap();
    assert_eq!(ids(&read(&mut patient).await.0), [1, 2]);
    database.execute("insert into notes (id) values (3)").await;
    for client in [&mut impatient, &mut patient] {
        assert_eq!(client.change().await["record"]["id"], 3);
        assert!(client.flush().await.is_empty());
    }
}

#[tokio::test]
async fn what_happens_while_rows_are_read_reaches_the_other_wishes() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table rows (id int primary key);
             create table other (id int primary key);
             insert into rows select generate_series(1, 20);
             alter publication supabase_realtime add table rows, other",
        )
        .await;
    let relay = Relay::start(&database).await;
    for round in 1..=5 {
        let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
        let with_rows = json!({
            "event": "*", "schema": "public", "table": "rows", "snapshot": { "limit": 100 },
        });
        let other = json!({ "event": "*", "schema": "public", "table": "other" });
        client.subscribe("room", json!([with_rows, other])).await;
        // It was told that it is subscribed.
        database.execute(&format!("insert into other values ({round})")).await;
        let is_other = |received: &crate::support::client::Received| {
            received.payload["data"]["table"] == "other"
        };
        let change = client.find("a change of the other table", is_other).await;
        assert_eq!(change.payload["data"]["record"]["id"], round);
    }
}
