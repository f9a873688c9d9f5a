//! `relay log forget`: rows that were deleted for good are served to nobody any more, by a relay that runs and after one.

use serde_json::{Value, json};

use crate::support::program::run_with;
use crate::support::relay::anon;
use crate::support::{Client, Cluster, Database, Relay, until};

const SECRET: &str = "mind-the-deleted-body";

async fn database() -> Database {
    let columns = "id bigint primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("events", columns).await
}

async fn watch(relay: &Relay, since: Option<&Value>) -> Client {
    let mut client = Client::connect(relay, &anon()).await;
    let mut wish = json!({ "event": "*", "schema": "public", "table": "events" });
    if let Some(since) = since {
        wish["since"] = since.clone();
    }
    client.subscribe("room", json!([wish])).await;
    client
}

/// Whether a file of the log holds the deleted text.
fn is_kept(relay: &Relay) -> bool {
    let files = std::fs::read_dir(relay.directory()).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .any(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
}

fn forget(relay: &Relay, further: &[&str]) -> (Option<i32>, String) {
    run_with(&[&["log", "forget"], further].concat(), relay.environment())
}

/// Writes a row and deletes it for good; the position before it, and a client that saw all of it.
async fn write_and_delete(database: &Database, relay: &Relay) -> (Value, Client) {
    let mut client = watch(relay, None).await;
    database.execute("insert into events values (1, 'before')").await;
    let before = client.change().await["id"].clone();
    database.execute(&format!("insert into events values (2, '{SECRET}')")).await;
    database.execute("delete from events").await;
    for _ in 0..3 {
        client.change().await;
    }
    // Changes are delivered from memory, and on disk soon after.
    until("it to be on disk", || std::future::ready(is_kept(relay).then_some(()))).await;
    (before, client)
}

/// Whoever comes back with an older position is told of a gap, and gets nothing that was before.
async fn assert_forgotten(database: &Database, relay: &Relay, before: &Value, next: i64) {
    assert!(!is_kept(relay));
    let mut away = watch(relay, Some(before)).await;
    let told = away.find("a gap", |received| received.payload.get("gap").is_some()).await;
    assert_eq!(told.payload["gap"]["reason"], "retention", "{told:?}");
    database.execute(&format!("insert into events values ({next}, 'after')")).await;
    assert_eq!(away.change().await["record"]["id"], next);
}

#[tokio::test]
async fn a_relay_that_runs_forgets_and_nobody_connected_misses_anything() {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let (before, mut client) = write_and_delete(&database, &relay).await;
    // Without it, a deleted row is served again: that is what the log is for.
    let mut away = watch(&relay, Some(&before)).await;
    assert_eq!(away.change().await["record"]["body"], SECRET);
    drop(away);
    assert!(is_kept(&relay));

    let (code, told) = forget(&relay, &[]);
    assert!(code == Some(2) && told.contains("--yes") && is_kept(&relay), "{told}");
    let (code, told) = forget(&relay, &["--yes"]);
    assert!(code == Some(0) && told.contains("forgotten"), "{told}");
    assert_forgotten(&database, &relay, &before, 10).await;
    assert_eq!(client.change().await["record"]["id"], 10);

    // The history goes on, for whoever has a position in it, over a restart as well.
    let now = {
        database.execute("insert into events values (11, 'x')").await;
        client.change().await["id"].clone()
    };
    database.execute("insert into events values (12, 'x')").await;
    assert_eq!(client.change().await["record"]["id"], 12);
    assert_eq!(relay.terminate().await, Some(0));
    relay.launch();
    relay.ready().await;
    let mut back = watch(&relay, Some(&now)).await;
    assert_eq!(back.change().await["record"]["id"], 12);
}

#[tokio::test]
async fn the_log_of_a_relay_that_does_not_run_is_forgotten_where_it_is() {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let (before, client) = write_and_delete(&database, &relay).await;
    drop(client);
    relay.kill();
    assert!(is_kept(&relay));
    let (code, told) = forget(&relay, &["--yes"]);
    assert!(code == Some(0) && told.contains("forgotten"), "{told}");
    assert!(!is_kept(&relay));
    relay.launch();
    relay.ready().await;
    assert_forgotten(&database, &relay, &before, 10).await;
    assert!(!relay.log_text().contains("history lost"), "{}", relay.log_text());
}

#[tokio::test]
async fn without_a_log_there_is_nothing_to_forget() {
    let database = database().await;
    let relay = Relay::prepare(&database, &[]);
    let (code, told) = forget(&relay, &["--yes"]);
    assert!(code == Some(2) && told.contains("there is no change log in"), "{told}");
}
