//! What is said of the slot, and dropping it.

use super::{check, healthy, on};
use crate::support::relay::get;
use crate::support::{Relay, until};

#[tokio::test]
async fn a_slot_is_shown_and_dropped_only_when_told_to() {
    let database = healthy().await;
    check(on(&database, &["slot", "status"]), 0, &["does not exist"]);
    check(on(&database, &["slot", "drop", "--yes"]), 0, &["nothing to drop"]);
    let slot = database.slot();
    let create = format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    database.query(&create).await;
    let words = [
        slot.as_str(),
        "held by    nobody",
        "retained",
        "0 % used of 10 GB",
        "next       WAL is kept until somebody reads it or the disk is full: start the relay",
    ];
    check(on(&database, &["slot", "status"]), 0, &words);
    let unlimited = on(&database, &["slot", "status", "--json"]);
    check(unlimited, 0, &["\"wal_status\"", "\"keep_bytes\":-1", "\"is_standby\":false"]);
    check(on(&database, &["slot", "drop"]), 2, &["--yes"]);
    check(on(&database, &["slot", "drop", "--yes"]), 0, &["dropped"]);
    let count =
        format!("select count(*)::text from pg_replication_slots where slot_name = '{slot}'");
    assert_eq!(database.text(&count).await, "0");
}

#[tokio::test]
async fn a_held_slot_is_not_dropped_and_its_holder_is_named() {
    let database = healthy().await;
    let mut relay = Relay::start(&database).await;
    let slot = database.slot();
    let holder =
        format!("select active_pid::text from pg_replication_slots where slot_name = '{slot}'");
    let pid = database.text(&holder).await;
    check(on(&database, &["slot", "drop", "--yes"]), 69, &[&format!("pid {pid}"), "--force"]);
    relay.kill();
    check(on(&database, &["slot", "drop", "--yes", "--force"]), 0, &["dropped"]);
}

#[tokio::test]
async fn a_relay_that_stands_by_is_no_fault_and_a_slot_far_behind_is_explained() {
    let database = healthy().await;
    // It keeps the slot while it is frozen below.
    let patient = [("RELAY_POSTGRES__WAL_SENDER_TIMEOUT", "60s")];
    let first = Relay::start_with(&database, &patient).await;
    let mut second = Relay::prepare(&database, &[]);
    second.launch();
    let port = second.port();
    until("the second relay to stand by", || async move {
        let (_, text) = get(port, "/readyz")?;
        text.starts_with("standby: ").then_some(())
    })
    .await;
    let listen = format!("127.0.0.1:{port}");
    let mut found = on(&database, &["check"]);
    found.env("RELAY_HTTP__LISTEN", &listen);
    check(found, 0, &["stands by, at 127.0.0.1", "of 10 GB that it may lag"]);
    second.kill();
    first.signal("STOP");
    let wal = "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, 80)";
    database.execute(wal).await;
    let mut found = on(&database, &["check"]);
    found.env("RELAY_POSTGRES__MAX_SLOT_LAG", "100 MiB");
    let words = ["% used of 100 MB", "the relay gives it up", "tells subscribers of the gap"];
    check(found, 0, &words);
    first.signal("CONT");
}
