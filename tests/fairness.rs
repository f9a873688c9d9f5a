//! What one caller asks for, however much and however costly, takes nothing from the others. The tests look at what comes
//! before what, never at how long it takes.

use serde_json::{Value, json};

use crate::support::relay::{anon, token, token_of};
use crate::support::{Client, Cluster, Database, Relay};

const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";

/// Rows of `patient` are judged once nobody holds the lock 7, for whoever has a subject that ends in 1.
const TABLES: &str = "
    create table patient (id int primary key);
    alter table patient enable row level security;
    create policy patient on patient for select using (
      case when auth.jwt() ->> 'sub' like '%1' then pg_advisory_xact_lock_shared(7) is not null else true end);
    create table texts (id int primary key, body text);
    insert into patient values (0);
    insert into texts values (0, 'x');
    alter publication supabase_realtime add table patient, texts;";

/// Checks wait for the lock as long as the test holds it, however slow the machine is.
const PATIENT: (&str, &str) = ("RELAY_POSTGRES__CHECK_TIMEOUT", "10m");

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLES).await;
    database
}

fn subscription(table: &str, filter: &str) -> Value {
    json!({ "event": "*", "schema": "public", "table": table, "filter": filter })
}

#[tokio::test(flavor = "multi_thread")]
async fn costly_filters_of_one_socket_hold_up_nobody_else_s_rows() {
    let database = database().await;
    // The only connection of `anon` is taken, so that nothing more is decided by Postgres for that role.
    let one = [("RELAY_POSTGRES__POOL", "1"), PATIENT];
    let relay = Relay::start_with(&database, &one).await;
    let mut holder = Client::connect(&relay, &token("anon", &json!({ "sub": ONE }))).await;
    holder.subscribe("room", json!([subscription("patient", "")])).await;
    let anon = anon();
    let mut greedy = Client::connect(&relay, &anon).await;
    const ROOMS: usize = 4;
    for room in 0..ROOMS {
        let filter = |number: usize| format!("body=not.like.%b{}%", room * 100 + number);
        let wishes: Vec<Value> =
            (0..100).map(|number| subscription("texts", &filter(number))).collect();
        greedy.subscribe(&format!("room{room}"), json!(wishes)).await;
    }
    let mut canary = Client::connect(&relay, &anon).await;
    canary.subscribe("room", json!([subscription("texts", "")])).await;
    let mut modest = Client::connect_from(&relay, "127.0.0.2", &anon).await;
    modest.subscribe("room", json!([subscription("texts", "body=like.%aa%")])).await;
    database.execute("select pg_advisory_lock(7)").await;
    database.execute("insert into patient values (1)").await;
    database.waits_for_lock().await;
    for id in 1..=3 {
        let sql = format!("insert into texts values ({id}, repeat('a', 8000))");
        database.execute(&sql).await;
        assert_eq!(canary.change().await["record"]["id"], id);
        assert_eq!(modest.change().await["record"]["id"], id);
    }
    let early = greedy.flush().await;
    assert!(early.iter().all(|received| received.event != "postgres_changes"), "{early:?}");
    database.execute("select pg_advisory_unlock(7)").await;
    // What the budget did not allow was asked of Postgres, and nothing is missing.
    for _ in 0..3 * ROOMS {
        let change = greedy.expect("postgres_changes").await;
        assert_eq!(change.payload["ids"].as_array().map(Vec::len), Some(100), "{change:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_with_many_filters_count_as_two_callers() {
    let database = database().await;
    database
        .execute(
            "create table held (id int primary key, body text);
             alter table held enable row level security;
             create policy held on held for select using (
               case when id > 0 then pg_advisory_xact_lock_shared(7) is not null end);
             create table open (id int primary key);
             alter table open enable row level security;
             create policy open on open for select using (id > 0);
             alter publication supabase_realtime add table held, open;",
        )
        .await;
    // Two callers have two connections each at most, which leaves one; what waits for a connection is ahead of the canary.
    let relay = Relay::start_with(&database, &[("RELAY_POSTGRES__POOL", "5"), PATIENT]).await;
    let anon = anon();
    let mut greedy = Vec::new();
    for number in 0..6 {
        for address in ["127.0.0.2", "127.0.0.3"] {
            let forwarded = [("x-forwarded-for", address)];
            let mut client = Client::try_connect_from_with(&relay, "127.0.0.1", &anon, &forwarded)
                .await
                .unwrap();
            let filter = format!(r"body=match.\mx{number}?");
            client.subscribe("room", json!([subscription("held", &filter)])).await;
            greedy.push(client);
        }
    }
    let mut canary = Client::connect(&relay, &anon).await;
    canary.subscribe("room", json!([subscription("open", "")])).await;
    database.execute("select pg_advisory_lock(7)").await;
    database.execute("insert into held values (1, 'x')").await;
    database.waits_for_lock().await;
    database.execute("insert into open values (1)").await;
    assert_eq!(canary.change().await["record"]["id"], 1);
    database.execute("select pg_advisory_unlock(7)").await;
    for client in &mut greedy {
        assert_eq!(client.change().await["record"]["id"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_snapshots_of_one_subject_leave_room_for_the_others() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[PATIENT]).await;
    database.execute("select pg_advisory_lock(7)").await;
    let snapshot = |table: &str| json!([{ "event": "*", "schema": "public", "table": table, "snapshot": { "limit": 5 } }]);
    let mut greedy = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&relay, &token_of(ONE)).await;
        client.subscribe("room", snapshot("patient")).await;
        greedy.push(client);
    }
    database.waits_for_lock().await;
    let mut other = Client::connect(&relay, &token_of(TWO)).await;
    other.subscribe("room", snapshot("patient")).await;
    let shown = other.expect("postgres_changes").await;
    assert_eq!(shown.payload["data"]["record"]["id"], 0);
    database.execute("select pg_advisory_unlock(7)").await;
    for client in &mut greedy {
        assert_eq!(client.change().await["record"]["id"], 0);
    }
}

/// A database with a table `loud`, whose policy runs these statements of PL/pgSQL and then shows every row.
async fn loud_database(statements: &str) -> Database {
    let database = database().await.with_table("loud", "id int primary key, body text").await;
    database
        .execute(&format!(
            "create function shown(body text) returns boolean language plpgsql as
               $$ begin {statements} return true; end $$;
             alter table loud enable row level security;
             create policy loud on loud for select using (shown(body));"
        ))
        .await;
    database
}

/// Lines of a relay's log that have this in them.
fn lines(relay: &Relay, words: &str) -> Vec<String> {
    relay.log_text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policies_say_is_not_logged_and_what_clients_cause_is_logged_once() {
    let database = loud_database(
        "raise notice 'canary %', body; raise warning 'canary %', body;
         if body = 'bad' then raise exception 'canary %', body using errcode = 'P0099'; end if;",
    )
    .await;
    let relay = Relay::start(&database).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let anon = token("anon", &json!({ "sub": format!("user {number}") }));
        let mut client = Client::connect(&relay, &anon).await;
        client.subscribe("room", json!([subscription("loud", "")])).await;
        clients.push(client);
    }
    database.execute("insert into loud values (1, 'good'), (2, 'bad')").await;
    for client in &mut clients {
        assert_eq!(client.change().await["record"]["id"], 1);
        let told = client.expect("system").await;
        assert!(told.payload["message"].as_str().unwrap().contains("P0099"), "{told:?}");
    }
    let withheld = lines(&relay, "withheld rows");
    assert_eq!(withheld.len(), 1, "{withheld:?}");
    for word in ["loud", "anon", "P0099", "check_failed"] {
        assert!(withheld[0].contains(word), "{word} in {withheld:?}");
    }
    // A snapshot of the table fails for the same reason, for everybody.
    let snapshot =
        json!([{ "event": "*", "schema": "public", "table": "loud", "snapshot": { "limit": 5 } }]);
    for client in &mut clients {
        client.subscribe("snapshot", snapshot.clone()).await;
        client.find("a gap", |received| received.payload["gap"].is_object()).await;
    }
    let failed = lines(&relay, "a snapshot could not be read");
    assert_eq!(failed.len(), 1, "{failed:?}");
    for word in ["public.loud", "anon", "P0099", "snapshot_failed"] {
        assert!(failed[0].contains(word), "{word} in {failed:?}");
    }
    // Nothing can be asked about private topics in this database.
    for client in &mut clients {
        let reply = client.join("secret", json!({ "config": { "private": true } })).await;
        assert_eq!(reply["status"], "error");
    }
    let closed = lines(&relay, "private topics stay closed");
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert!(closed[0].contains("anon"), "{closed:?}");
    assert!(!relay.log_text().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_even_a_detailed_log_has_what_policies_say_or_what_is_asked_about() {
    let database = loud_database("raise warning '%', body;").await;
    let relay = Relay::start_with(&database, &[("RUST_LOG", "trace")]).await;
    let anon = token("anon", &json!({ "sub": "canary in a claim" }));
    let mut client = Client::connect(&relay, &anon).await;
    client.subscribe("room", json!([subscription("loud", "body=like.canary%")])).await;
    database.execute("insert into loud values (1, 'canary in a row')").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let log = relay.log_text();
    assert!(log.contains("Postgres sent a notice"), "{log}");
    assert!(!log.contains("canary in a"), "{log}");
}
