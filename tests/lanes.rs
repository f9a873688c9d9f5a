//! Principals' lanes, seen from outside: checks that take their time, tokens that change meanwhile, gaps in their place.

use serde_json::{Value, json};

use crate::support::relay::{token, token_of};
use crate::support::{Client, Cluster, Database, Relay, until};

const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";

/// Rows whose body is `wait` are judged once nobody holds the lock 7.
const TABLES: &str = "
    create table notes (id int primary key, owner uuid, body text);
    alter table notes enable row level security;
    create policy patient on notes for select using (
      case when body = 'wait' then pg_advisory_xact_lock_shared(7) is not null else true end);
    create table open (id int primary key, body text);
    create table computed (id int primary key, twice int generated always as (id * 2) stored);
    alter publication supabase_realtime add table notes, open, computed;";

/// Checks wait for the lock as long as the test holds it, however slow the machine is.
const PATIENT: (&str, &str) = ("RELAY_POSTGRES__CHECK_TIMEOUT", "10m");

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLES).await;
    database
}

async fn watch(relay: &Relay, token: &str, table: &str) -> Client {
    let mut client = Client::connect(relay, token).await;
    let wish = json!([{ "event": "*", "schema": "public", "table": table }]);
    client.subscribe("room", wish).await;
    client
}

fn service() -> String {
    token("service_role", &json!({}))
}

/// Takes the lock 7.
async fn lock(database: &Database) {
    database.execute("select pg_advisory_lock(7)").await;
}

async fn unlock(database: &Database) {
    database.execute("select pg_advisory_unlock(7)").await;
}

async fn refresh(client: &mut Client, token: &str) {
    let payload = json!({ "access_token": token });
    client.push(&json!("1"), "realtime:room", "access_token", payload).await;
    assert_eq!(client.expect("system").await.payload["message"], "Subscribed to PostgreSQL");
}

#[tokio::test]
async fn a_token_that_changes_back_and_forth_keeps_the_order_and_stops_nothing() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[PATIENT]).await;
    let (one, two) = (token_of(ONE), token_of(TWO));
    let mut client = watch(&relay, &one, "notes").await;
    let mut witness = watch(&relay, &service(), "notes").await;
    lock(&database).await;
    database.execute("insert into notes values (1, null, 'wait')").await;
    database.waits_for_lock().await;
    for (id, next) in [(2, &two), (3, &one), (4, &two)] {
        database.execute(&format!("insert into notes values ({id}, null, 'x')")).await;
        while witness.change().await["record"]["id"] != id {}
        refresh(&mut client, next).await;
    }
    unlock(&database).await;
    for id in 1..=4 {
        assert_eq!(client.change().await["record"]["id"], id);
    }
}

#[tokio::test]
async fn checks_that_hold_every_connection_do_not_stop_computed_columns() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_POSTGRES__POOL", "1"), PATIENT]).await;
    let anon = watch(&relay, &token("anon", &json!({})), "notes").await;
    let mut other = watch(&relay, &service(), "computed").await;
    lock(&database).await;
    database.execute("insert into notes values (1, null, 'wait')").await;
    database.waits_for_lock().await;
    database.execute("insert into computed values (1)").await;
    assert_eq!(other.change().await["record"]["twice"], 2);
    unlock(&database).await;
    drop(anon);
}

#[tokio::test]
async fn a_row_that_waited_is_judged_by_the_rules_of_now() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[PATIENT]).await;
    let mut one = watch(&relay, &token_of(ONE), "*").await;
    let mut witness = watch(&relay, &service(), "*").await;
    lock(&database).await;
    database.execute("insert into notes values (1, null, 'wait')").await;
    database.waits_for_lock().await;
    database.execute("insert into notes values (2, null, 'x')").await;
    database.execute("drop policy patient on notes").await;
    database.execute("insert into notes values (3, null, 'x')").await;
    for id in 1..=3 {
        assert_eq!(witness.change().await["record"]["id"], id);
    }
    unlock(&database).await;
    database.execute("insert into open values (4, 'x')").await;
    assert_eq!(one.change().await["record"], json!({ "id": 4, "body": "x" }));
}

#[tokio::test]
async fn a_gap_is_told_after_what_came_before_it() {
    let database = database().await;
    let small = [("RELAY_POSTGRES__MAX_TRANSACTION", "1 MiB"), PATIENT];
    let mut relay = Relay::prepare(&database, &small).ephemeral();
    relay.launch();
    relay.ready().await;
    let mut one = watch(&relay, &token_of(ONE), "*").await;
    let mut witness = watch(&relay, &service(), "open").await;
    lock(&database).await;
    database.execute("insert into notes values (1, null, 'wait')").await;
    database.waits_for_lock().await;
    database
        .execute("insert into open select g, repeat('x', 1000) from generate_series(1, 3000) as g")
        .await;
    database.execute("insert into open values (0, 'x')").await;
    let told = witness.receive().await.unwrap();
    assert_eq!((&*told.event, &told.payload["status"]), ("system", &json!("error")));
    assert_eq!(witness.change().await["record"]["id"], 0);
    unlock(&database).await;
    let mut seen: Vec<Value> = Vec::new();
    for _ in 0..3 {
        let received = one.receive().await.unwrap();
        seen.push(match &*received.event {
            "postgres_changes" => received.payload["data"]["record"]["id"].clone(),
            event => json!(event),
        });
    }
    assert_eq!(seen, [json!(1), json!("system"), json!(0)]);
}

#[tokio::test]
async fn a_large_transaction_of_rows_to_be_judged_is_judged_to_its_end() {
    let database = database().await;
    database
        .execute(
            "drop policy patient on notes;
             create policy own on notes using (owner = (select auth.uid()))",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE), "notes").await;
    database
        .execute(&format!(
            "insert into notes (id, owner)
             select g, case g when 100500 then '{ONE}'::uuid else '{TWO}' end
             from generate_series(1, 100500) as g"
        ))
        .await;
    let first = one.receive().await.unwrap();
    assert_eq!(first.payload["data"]["record"]["id"], 100_500, "{first:?}");
}

#[tokio::test]
async fn a_row_whose_check_raises_is_withheld_alone() {
    let database = database().await;
    database
        .execute(
            "drop policy patient on notes;
             create policy strange on notes using (1 / (case when id = 250 then 0 else 1 end) = 1)",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE), "notes").await;
    database.execute("insert into notes (id) select generate_series(1, 500)").await;
    for id in (1..=500).filter(|id| *id != 250) {
        assert_eq!(one.change().await["record"]["id"], id);
    }
    assert_eq!(relay.metric("relay_withheld_total{reason=\"check_failed\"}"), 1.0);
}

#[tokio::test]
async fn a_slot_that_was_lost_is_told_to_every_subscriber() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE), "open").await;
    let admin = database.connect().await;
    let slot = database.slot();
    until("the slot to be gone", || async {
        let kill = "select pg_terminate_backend(active_pid, 1000) from pg_replication_slots
                    where slot_name = $1 and active_pid is not null";
        admin.query(kill, &[&slot]).await.ok()?;
        admin.query("select pg_drop_replication_slot($1)", &[&slot]).await.ok()
    })
    .await;
    let told = one.expect("system").await;
    assert_eq!(told.payload["status"], "error");
    let text = told.payload["message"].as_str().unwrap();
    assert!(text.starts_with("Changes may be missing"), "{text}");
}
