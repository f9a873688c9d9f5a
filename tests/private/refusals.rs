//! What a private channel is refused with when Postgres cannot say who may: in the original's words, to its client only.

use serde_json::{Value, json};

use crate::support::relay::token_of;
use crate::support::{Client, Cluster, Database, Relay};

const ALL: &str = "create policy r on realtime.messages for select to authenticated using (true)";

async fn database(cluster: &Cluster, sql: &str) -> Database {
    let database = cluster.database().await.with_roles().await.with_realtime();
    database.execute(sql).await;
    database
}

fn private() -> Value {
    json!({ "config": { "private": true } })
}

/// The reason why a join of a private channel is refused.
async fn refused(client: &mut Client) -> String {
    let reply = client.join("room", private()).await;
    assert_eq!(reply["status"], "error", "{reply}");
    reply["response"]["reason"].as_str().unwrap().to_owned()
}

async fn connect(relay: &Relay) -> Client {
    Client::connect(relay, &token_of("ann")).await
}

#[tokio::test]
async fn a_policy_that_takes_too_long_is_cancelled() {
    let sleeps = "create policy r on realtime.messages for select to authenticated
                  using (pg_sleep(60) is not null)";
    let database = database(Cluster::shared(), sleeps).await;
    let settings = [("RELAY_POSTGRES__CHECK_TIMEOUT", "100ms")];
    let relay = Relay::start_with(&database, &settings).await;
    let mut client = connect(&relay).await;
    let text = "QueryCanceled: canceling statement due to statement timeout";
    assert_eq!(refused(&mut client).await, text);
    assert_eq!(client.join("public", json!({ "config": {} })).await["status"], "ok");
}

#[tokio::test]
async fn without_a_partition_for_today_it_is_said() {
    // Nobody makes the partitions again.
    let database = database(
        Cluster::shared(),
        "revoke execute on function realtime.keep_partitions() from relay, public",
    )
    .await;
    let relay = Relay::start(&database).await;
    let drop = "do $$ declare part regclass; begin
                  for part in select inhrelid from pg_inherits where inhparent = 'realtime.messages'::regclass loop
                    execute format('drop table %s', part);
                  end loop;
                end $$";
    database.execute(drop).await;
    let text = "MissingPartition: Realtime was unable to find the expected messages partition";
    assert_eq!(refused(&mut connect(&relay).await).await, text);
}

#[tokio::test]
async fn a_postgres_without_room_is_said() {
    let database = database(Cluster::shared(), ALL).await;
    let relay = Relay::start(&database).await;
    let mut client = connect(&relay).await;
    let name = &database.name;
    database.execute(&format!("alter database {name} connection limit 0")).await;
    hang_up(&database).await;
    let text =
        "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect";
    assert_eq!(refused(&mut client).await, text);
    database.execute(&format!("alter database {name} connection limit -1")).await;
    assert_eq!(client.join("room", private()).await["status"], "ok");
}

#[tokio::test]
async fn a_database_that_was_made_read_only_still_says_who_may() {
    let database = database(Cluster::shared(), ALL).await;
    let relay = Relay::start(&database).await;
    let name = &database.name;
    database
        .execute(&format!("alter database {name} set default_transaction_read_only = on"))
        .await;
    hang_up(&database).await;
    // What is tried is rolled back, so it may be.
    let reply = connect(&relay).await.join("room", private()).await;
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn a_server_that_fails_is_said() {
    let fails = "create function fails() returns bool language plpgsql as
                   $$ begin raise 'no more disk' using errcode = '58030'; end $$;
                 create policy r on realtime.messages for select to authenticated using (fails())";
    let database = database(Cluster::shared(), fails).await;
    let relay = Relay::start(&database).await;
    let text = "Realtime was unable to connect to the project database";
    assert_eq!(refused(&mut connect(&relay).await).await, text);
}

/// Ends the connections that policies are asked on, so that a new one is opened.
async fn hang_up(database: &Database) {
    let sql = "select pg_terminate_backend(pid, 30000) from pg_stat_activity
               where application_name = 'relay-policy' and datname = current_database()";
    database.query(sql).await;
}

#[tokio::test]
async fn a_postgres_that_is_away_or_starting_is_said() {
    let cluster = Cluster::start(&[]);
    let database = database(&cluster, ALL).await;
    let relay = Relay::start(&database).await;
    let mut client = connect(&relay).await;
    assert_eq!(client.join("room", private()).await["status"], "ok");
    cluster.stop("fast");
    let text = "UnableToConnectToProject: Realtime was unable to connect to the project database";
    assert_eq!(refused(&mut client).await, text);
    // A standby that nobody may read from is starting for ever. Newer versions do not start one with logical slots.
    let settings = cluster.data().join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{before}hot_standby = off\n")).unwrap();
    std::fs::write(cluster.data().join("standby.signal"), "").unwrap();
    for slot in std::fs::read_dir(cluster.data().join("pg_replslot")).unwrap() {
        std::fs::remove_dir_all(slot.unwrap().path()).unwrap();
    }
    cluster.start_again();
    let text = "InitializingProjectConnection: Connecting to the project database";
    assert_eq!(refused(&mut client).await, text);
    cluster.stop("fast");
    std::fs::write(&settings, before).unwrap();
    std::fs::remove_file(cluster.data().join("standby.signal")).unwrap();
    cluster.start_again();
    assert_eq!(client.join("room", private()).await["status"], "ok");
}

#[tokio::test]
async fn joins_that_wait_for_a_connection_in_vain_are_told_to_raise_the_pool() {
    // A server of its own: some statements wait for every process of the server.
    let cluster = Cluster::start(&[]);
    let database = database(&cluster, ALL).await;
    let settings = [("RELAY_POSTGRES__POOL", "1"), ("RELAY_POSTGRES__CHECK_TIMEOUT", "1s")];
    let relay = Relay::start_with(&database, &settings).await;
    let mut client = connect(&relay).await;
    assert_eq!(client.join("first", private()).await["status"], "ok");
    let pid = "select pid::text from pg_stat_activity
               where application_name = 'relay-policy' and datname = current_database()";
    let pid = database.text(pid).await;
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    };
    signal("STOP");
    let waiting = client.push(&json!("w"), "realtime:waiting", "phx_join", private()).await;
    let text = "IncreaseConnectionPool: Please increase your connection pool size";
    assert_eq!(refused(&mut client).await, text);
    signal("CONT");
    client.reply(&waiting).await;
    assert_eq!(client.join("room", private()).await["status"], "ok");
}

#[tokio::test]
async fn a_past_that_cannot_be_read_is_said() {
    let revoke = "do $$ begin
        execute format('revoke execute on function %s from relay, public',
          (select oid::regprocedure from pg_proc where proname = 'replay' and pronamespace = 'realtime'::regnamespace));
      end $$";
    let database = database(Cluster::shared(), &format!("{ALL}; {revoke}")).await;
    let relay = Relay::start(&database).await;
    let mut client = connect(&relay).await;
    let replay = json!({ "replay": { "since": 0 } });
    let reply =
        client.join("room", json!({ "config": { "private": true, "broadcast": replay } })).await;
    let text = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": text } }));
}

#[tokio::test]
async fn where_only_private_channels_are_allowed_public_ones_are_refused() {
    let database = database(Cluster::shared(), ALL).await;
    let relay = Relay::start_with(&database, &[("RELAY_REALTIME__PRIVATE_ONLY", "true")]).await;
    let mut client = connect(&relay).await;
    let reply = client.join("room", json!({ "config": {} })).await;
    let text = "PrivateOnly: This project only allows private channels";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": text } }));
    assert_eq!(client.join("room", private()).await["status"], "ok");
}
