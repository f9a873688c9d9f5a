//! Two relays on one slot: one reads, the other waits, and takes over when the first dies or hangs.

use std::process::Command;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::support::cluster::{bin_dir, command};
use crate::support::relay::anon;
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database(cluster: &Cluster) -> Database {
    let columns = "id bigserial primary key";
    cluster.database().await.with_roles().await.with_table("events", columns).await
}

fn events() -> Value {
    json!([{ "event": "*", "schema": "public", "table": "events" }])
}

/// A second relay on the slot that another reads, once it stands by.
async fn stand_by(database: &Database) -> Relay {
    let mut relay = Relay::prepare(database, &[]);
    relay.launch();
    standing_by(&relay).await;
    relay
}

async fn standing_by(relay: &Relay) {
    let port = relay.port();
    until("the relay to stand by", || async move {
        let (status, text) = crate::support::relay::get(port, "/readyz")?;
        (status == 503 && text.starts_with("standby: slot ")).then_some(())
    })
    .await;
}

/// Connects as a client does that is told to try again.
async fn connect_when_it_may(relay: &Relay) -> Client {
    let query = format!("apikey={}&vsn=2.0.0", anon());
    until("the relay to take clients", || async {
        Client::try_connect(relay, &query, "2.0.0").await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stands_by_takes_over_when_the_first_is_killed() {
    let database = database(Cluster::shared()).await;
    let mut first = Relay::start(&database).await;
    let second = stand_by(&database).await;
    assert_eq!(second.get("/healthz").0, 200);
    assert!((second.metric("relay_standby") - 1.0).abs() < f64::EPSILON);

    let mut client = Client::connect(&first, &anon()).await;
    client.subscribe("room", events()).await;
    let writer = database.connect().await;
    let writing = tokio::spawn(async move {
        for _ in 0.. {
            writer.batch_execute("insert into events default values").await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..20 {
        client.change().await;
    }
    first.kill();
    let mut client = connect_when_it_may(&second).await;
    client.subscribe("room", events()).await;
    let id = client.change().await["record"]["id"].as_i64().unwrap();
    for later in id + 1..id + 50 {
        assert_eq!(client.change().await["record"]["id"], later);
    }
    assert_eq!(second.get("/readyz"), (200, "ok".to_owned()));
    assert!(second.metric("relay_standby").abs() < f64::EPSILON);
    writing.abort();
}

#[tokio::test]
async fn a_relay_that_stands_by_tells_clients_to_try_again() {
    let database = database(Cluster::shared()).await;
    let mut first = Relay::start(&database).await;
    let second = stand_by(&database).await;
    let query = format!("apikey={}&vsn=2.0.0", anon());
    let Err(Error::Http(refused)) = Client::try_connect(&second, &query, "2.0.0").await else {
        panic!("not refused");
    };
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let message = json!({ "messages": [{ "topic": "room", "event": "e", "payload": {} }] });
    let answer = second.request(
        "POST",
        "/api/broadcast",
        &[("apikey", &anon())],
        message.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(2.0 <= second.refused("Standby"));
    // When the first stops as asked, the second is there at once.
    assert_eq!(first.terminate().await, Some(0));
    connect_when_it_may(&second).await.subscribe("room", events()).await;
}

#[tokio::test]
async fn a_frozen_relay_is_replaced_and_sends_its_clients_away_when_it_thaws() {
    let database = database(Cluster::shared()).await;
    let first = Relay::start(&database).await;
    let second = stand_by(&database).await;
    let mut stranded = Client::connect(&first, &anon()).await;
    stranded.subscribe("room", events()).await;
    first.signal("STOP");
    let mut client = connect_when_it_may(&second).await;
    client.subscribe("room", events()).await;
    database.execute("insert into events default values").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    first.signal("CONT");
    assert_eq!(stranded.closed().await, Some(1012));
    standing_by(&first).await;
    assert!(1.0 <= first.metric("relay_closed_total{reason=\"drain\"}"));
}

#[tokio::test]
async fn a_frozen_relay_does_not_hold_up_a_shutdown_of_postgres() {
    let cluster = Cluster::start(&[]);
    let database = database(&cluster).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", events()).await;
    relay.signal("STOP");
    database.execute("insert into events select from generate_series(1, 100000)").await;
    // By itself Postgres would wait a minute for it, and pg_ctl gives up before.
    let mut stop: Command = command(bin_dir().join("pg_ctl"));
    stop.args(["stop", "-w", "-t", "45", "-m", "fast", "-D"]).arg(cluster.data());
    let stopped = stop.output().unwrap();
    relay.signal("CONT");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    cluster.start_again();
    let mut seen = 0;
    while seen < 100_000 {
        client.change().await;
        seen += 1;
    }
}

/// A second relay with the log of the first, once it stands by.
async fn stand_by_for_the_log(database: &Database, first: &Relay) -> Relay {
    let directory = first.directory().display().to_string();
    let mut relay = Relay::prepare(database, &[("RELAY_LOG__DIR", &directory)]);
    relay.launch();
    let told = format!("standby: log.dir {directory} is in use by process {};", first.pid());
    let port = relay.port();
    until("the relay to stand by", || async {
        let (status, text) = crate::support::relay::get(port, "/readyz")?;
        (status == 503 && text.starts_with(&told)).then_some(())
    })
    .await;
    relay
}

fn events_since(since: &Value) -> Value {
    json!([{ "event": "*", "schema": "public", "table": "events", "since": since }])
}

#[tokio::test]
async fn a_relay_with_the_same_log_waits_for_it_and_goes_on_with_what_is_in_it() {
    let database = database(Cluster::shared()).await;
    let mut first = Relay::start(&database).await;
    let mut second = stand_by_for_the_log(&database, &first).await;
    assert_eq!(second.get("/healthz").0, 200);
    assert!((second.metric("relay_standby") - 1.0).abs() < f64::EPSILON);
    let authorization = format!("Bearer {}", anon());
    let headers = [("authorization", &*authorization)];
    let health = second.request("GET", "/api/tenants/any/health", &headers, b"");
    let told: Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!(
        (&told["data"]["healthy"], &told["data"]["db_connected"]),
        (&false.into(), &true.into())
    );
    let query = format!("apikey={}&vsn=2.0.0", anon());
    let Err(Error::Http(refused)) = Client::try_connect(&second, &query, "2.0.0").await else {
        panic!("not refused");
    };
    assert_eq!(refused.status(), 503);
    // It stops as any other when it is told to, and can wait again.
    assert_eq!(second.terminate().await, Some(0));
    let second = stand_by_for_the_log(&database, &first).await;

    let mut client = Client::connect(&first, &anon()).await;
    client.subscribe("room", events()).await;
    database.execute("insert into events select from generate_series(1, 3)").await;
    let known = client.change().await["id"].clone();
    client.change().await;
    client.change().await;
    first.kill();
    database.execute("insert into events default values").await;
    let mut client = connect_when_it_may(&second).await;
    client.subscribe("room", events_since(&known)).await;
    for id in 2..=4 {
        assert_eq!(client.change().await["record"]["id"], id);
    }
    assert!(client.flush().await.is_empty(), "nothing is told to be missing");
    assert_eq!(second.get("/readyz"), (200, "ok".to_owned()));
    assert!(second.metric("relay_standby").abs() < f64::EPSILON);
    assert!(!second.log_text().contains("history lost"));
}

#[tokio::test]
async fn a_relay_with_a_log_of_its_own_has_what_comes_after_it_took_over() {
    let database = database(Cluster::shared()).await;
    let mut first = Relay::start(&database).await;
    let second = stand_by(&database).await;
    let mut client = Client::connect(&first, &anon()).await;
    client.subscribe("room", events()).await;
    database.execute("insert into events select from generate_series(1, 2)").await;
    let known = client.change().await["id"].clone();
    client.change().await;
    let is_confirmed = format!(
        "select (confirmed_flush_lsn >= '{}'::pg_lsn)::text from pg_replication_slots where slot_name = '{}'",
        database.text("select pg_current_wal_lsn()::text").await,
        database.slot()
    );
    until("both rows to be confirmed", || async {
        (database.text(&is_confirmed).await == "true").then_some(())
    })
    .await;
    first.kill();
    let mut client = connect_when_it_may(&second).await;
    client.subscribe("room", events_since(&known)).await;
    let told = client.find("a gap", |received| received.payload.get("gap").is_some()).await;
    assert_eq!(told.payload["gap"]["reason"], "retention", "{told:?}");
    database.execute("insert into events default values").await;
    let new = client.change().await;
    assert_eq!(new["record"]["id"], 3);
    // From there on it is as good as the other's.
    database.execute("insert into events default values").await;
    let mut client = Client::connect(&second, &anon()).await;
    client.subscribe("room", events_since(&new["id"])).await;
    assert_eq!(client.change().await["record"]["id"], 4);
    assert!(client.flush().await.is_empty());
}
