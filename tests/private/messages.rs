//! What the database says: who hears it, and what it looks like.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    let open = "create policy \"everybody hears\" on realtime.messages for select using (true)";
    database.execute(open).await;
    database
}

/// A client in `room`.
async fn member(relay: &Relay, version: &'static str, room: &str, is_private: bool) -> Client {
    let mut client = Client::connect_as(relay, &token("anon", &json!({})), version).await;
    let reply = client.join(room, json!({ "config": { "private": is_private } })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client
}

async fn heard(client: &mut Client) -> Value {
    client.expect("broadcast").await.payload
}

#[tokio::test]
async fn what_the_database_sends_reaches_its_topic_with_an_id() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut private = Vec::new();
    for version in ["2.0.0", "1.0.0"] {
        private.push(member(&relay, version, "room", true).await);
    }
    let mut public = member(&relay, "2.0.0", "room", false).await;
    let mut elsewhere = member(&relay, "2.0.0", "other", true).await;

    database.execute("select realtime.send('{\"n\": 1.50}', 'e', 'room')").await;
    for client in &mut private {
        let message = heard(client).await;
        let id = message["payload"]["id"].clone();
        assert_eq!(id.as_str().map(str::len), Some(36));
        let expected = json!({
            "type": "broadcast", "event": "e", "payload": { "n": 1.5, "id": id }, "meta": { "id": id }
        });
        assert_eq!(message, expected);
    }
    database.execute("select realtime.send('{\"id\": \"own\"}', 'e', 'room', false)").await;
    let message = heard(&mut public).await;
    assert_eq!(message["payload"], json!({ "id": "own" }));
    assert_eq!(message["meta"]["id"].as_str().map(str::len), Some(36));

    database.execute("select realtime.send('{}', 'last', 'other')").await;
    assert_eq!(heard(&mut elsewhere).await["event"], "last");
    for client in private.iter_mut().chain([&mut public]) {
        assert!(client.flush().await.iter().all(|received| received.event != "broadcast"));
    }
}

#[tokio::test]
async fn bytes_reach_those_who_can_read_them() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut new = member(&relay, "2.0.0", "room", true).await;
    let mut old = member(&relay, "1.0.0", "room", true).await;
    database
        .execute("select realtime.send_binary('\\x00ff10', 'b', 'room'); select realtime.send('{}', 'j', 'room')")
        .await;
    let message = heard(&mut new).await;
    assert_eq!(message["event"], "b");
    assert_eq!(message["payload"], json!({ "bytes": [0, 255, 16] }));
    assert_eq!(message["meta"]["id"].as_str().map(str::len), Some(36));
    assert_eq!(heard(&mut new).await["event"], "j");
    assert_eq!(heard(&mut old).await["event"], "j");
}

#[tokio::test]
async fn only_what_commits_is_said_and_never_as_a_change_of_a_table() {
    let database = database().await;
    database
        .execute(
            "create table things (id int primary key, c char(4), n numeric);
             create function announce() returns trigger language plpgsql as $$
             begin
               perform realtime.broadcast_changes('things', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $$;
             create trigger announce after insert or update or delete on things
               for each row execute function announce();
             alter publication supabase_realtime add table things;
             grant usage on schema realtime to anon;
             grant select on realtime.messages to anon",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
    let wishes = json!([{ "event": "*", "schema": "*" }]);
    let config = json!({ "config": { "private": true, "postgres_changes": wishes } });
    assert_eq!(client.join("things", config).await["status"], "ok");
    assert_eq!(client.expect("system").await.payload["status"], "ok");

    database.execute("begin; insert into things values (7, 'no', 0); rollback").await;
    database.execute("insert into things values (1, 'ab', 1.50)").await;
    let message = heard(&mut client).await;
    let id = &message["meta"]["id"];
    let row = json!({ "id": 1, "c": "ab  ", "n": 1.5 });
    assert_eq!(
        message["payload"],
        json!({
            "id": id, "schema": "public", "table": "things", "operation": "INSERT",
            "record": row, "old_record": null
        })
    );
    assert_eq!(client.change().await["table"], "things");
    database.execute("delete from things").await;
    let message = heard(&mut client).await;
    assert_eq!((&message["event"], &message["payload"]["old_record"]), (&json!("DELETE"), &row));
    assert_eq!(client.change().await["type"], "DELETE");
    assert!(client.flush().await.is_empty());
}

#[tokio::test]
async fn messages_begin_when_the_schema_is_made_under_a_running_relay() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table t (id int primary key); alter publication supabase_realtime add table t",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("service_role", &json!({}))).await;
    let ready = json!({ "config": { "broadcast": { "replication_ready": true } } });
    assert_eq!(client.join("room", ready).await["status"], "ok");
    client.subscribe("table", json!([{ "event": "*", "schema": "public", "table": "t" }])).await;

    let database = database.with_realtime();
    // Older than the publication in the slot's eyes as well.
    database.execute("insert into t select generate_series(1, 100)").await;
    for id in 1..=100 {
        assert_eq!(client.change().await["record"]["id"], id);
    }
    let system = client.expect("system").await;
    assert_eq!(
        system.payload,
        json!({
            "extension": "system", "status": "ok", "channel": "room",
            "message": "Replication connection established"
        })
    );
    database.execute("select realtime.send('{}', 'e', 'room', false)").await;
    assert_eq!(heard(&mut client).await["event"], "e");
    database.execute("insert into t values (101)").await;
    assert_eq!(client.change().await["record"]["id"], 101);
    assert!(client.flush().await.iter().all(|received| received.event != "system"));
}

#[tokio::test]
async fn a_slot_older_than_the_publication_goes_on() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table t (id int primary key); alter publication supabase_realtime add table t",
        )
        .await;
    let mut relay = Relay::start(&database).await;
    relay.kill();
    database.execute("insert into t values (1)").await;
    let database = database.with_realtime();
    relay.launch();
    relay.ready().await;
    // A walsender from version 18 on skips a publication that did not exist yet.
    let version = "select current_setting('server_version_num')";
    let skips = database.text(version).await.parse::<u32>().unwrap() >= 180_000;
    until("the stream to go on without the database's broadcasts", || {
        let log = relay.log_text();
        let refused = log.contains("going on without the database's broadcasts");
        std::future::ready((skips || refused).then_some(()))
    })
    .await;
    let mut client = Client::connect(&relay, &token("service_role", &json!({}))).await;
    // The original's way: any word is a yes.
    let ready = json!({ "config": { "broadcast": { "replication_ready": "false" } } });
    assert_eq!(client.join("room", ready).await["status"], "ok");
    assert_eq!(client.expect("system").await.payload["status"], "ok");
    database.execute("select realtime.send('{}', 'e', 'room', false)").await;
    assert_eq!(heard(&mut client).await["event"], "e");
}

#[tokio::test]
async fn the_relay_keeps_the_partitions() {
    let database = database().await;
    let days =
        "select count(*)::text from pg_inherits where inhparent = 'realtime.messages'::regclass";
    let drop = "select format('drop table %s', inhrelid::regclass) from pg_inherits
                where inhparent = 'realtime.messages'::regclass limit 1";
    let statement = database.text(drop).await;
    database.execute(&statement).await;
    assert_eq!(database.text(days).await, "4");
    let _relay = Relay::start(&database).await;
    until("the missing day", || async { (database.text(days).await == "5").then_some(()) }).await;
}
