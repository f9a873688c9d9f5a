//! `relay gaptest`, as somebody runs it against a deployment: it finds nothing when nothing is lost, and it finds what is.

use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::support::relay::token;
use crate::support::{Cluster, Database, Relay, until};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table notes (id bigint generated always as identity primary key, body text);
             grant select on notes to anon;
             alter publication supabase_realtime add table notes",
        )
        .await;
    database
}

/// Its connections last and are away for about so many seconds.
fn gaptest(relay: &Relay, [lasts, away]: [&str; 2]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args([
        "gaptest",
        "notes",
        "--url",
        &relay.url(),
        "--token",
        &token("anon", &json!({})),
    ]);
    command.args(["--clients", "6", "--seconds", "8", "--break-every", lasts, "--away", away]);
    command.current_dir(std::env::temp_dir()).kill_on_drop(true);
    command
}

async fn check(mut command: Command, code: i32, words: &[&str]) {
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

/// Waits until a counter of the relay has come so far.
async fn counted(relay: &Relay, counter: &str, far: f64) {
    until(counter, || async { (far <= relay.metric(counter)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_nothing_when_nothing_is_lost() {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let mut command = gaptest(&relay, ["1.5", "0.3"]);
    command.args(["--writer", &database.url, "--rate", "100"]);
    command.args(["--insert", "insert into notes (body) values ('{mark}')"]);
    let testing = tokio::spawn(check(command, 0, &["nothing was lost", "since 1", "resume 2"]));
    // Of three clients the relay keeps the places, on disk every second: each was saved by now.
    counted(&relay, "relay_places_saved_total", 9.0).await;
    relay.restart().await;
    testing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_nothing_yet_stays_until_it_has_a_position() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    // Connections are over before the first row is written.
    let mut command = gaptest(&relay, ["0.02", "0.3"]);
    command.args(["--writer", &database.url, "--rate", "5"]);
    command.args(["--insert", "insert into notes (body) values ('{mark}')"]);
    check(command, 0, &["nothing was lost"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_what_a_relay_without_a_memory_loses() {
    let database = database().await;
    let mut relay = Relay::prepare(&database, &[]).ephemeral();
    relay.launch();
    relay.ready().await;
    // Whoever is there when it is killed may miss nothing: so most are away.
    let mut command = gaptest(&relay, ["0.4", "2"]);
    command.args(["--writer", &database.url, "--rate", "100", "--patience", "3"]);
    command.args(["--insert", "insert into notes (body) values ('{mark}')"]);
    let testing = tokio::spawn(check(command, 70, &["changes were lost"]));
    // It writes, and its clients are given what it writes.
    counted(&relay, "relay_deliveries_total", 500.0).await;
    relay.restart().await;
    testing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_compares_with_a_client_that_stays_when_somebody_else_writes() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let testing = tokio::spawn(check(
        gaptest(&relay, ["0.4", "0.3"]),
        0,
        &["seen by the client that stays", "nothing was lost"],
    ));
    while !testing.is_finished() {
        database.execute("insert into notes (body) values ('x')").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    testing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_there_is_nothing_to_compare() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    check(gaptest(&relay, ["0.4", "0.3"]), 2, &["no change was seen or written"]).await;
}
