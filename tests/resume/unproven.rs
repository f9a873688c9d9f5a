//! What a client may not have read when its connection broke comes again, or is told again: changes and gaps alike.

use serde_json::Value;

use super::{anon, expect_gap, gap, ids, insert, prepare, read_until, resuming, start, until_row};
use super::{until, wishes};
use crate::support::{Client, Database, Relay};

/// A client with a `resume` id that is known to have read everything so far.
async fn settled(relay: &Relay, database: &Database, id: &str, row: i32) -> Client {
    let mut client = resuming(relay, id, &anon()).await;
    client.subscribe("room", wishes(&Value::Null)).await;
    insert(database, row..=row).await;
    until_row(&mut client, row.into()).await;
    read_until(&mut client, relay, "relay_proofs_total").await;
    client
}

/// Another history begins, and everybody is told.
async fn drop_slot(relay: &Relay, database: &Database) {
    let slot = database.slot();
    let sql = format!(
        "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where slot_name = '{slot}';
         select pg_drop_replication_slot('{slot}')"
    );
    // The relay may be back before the slot could be dropped: then once more.
    until("the slot to be dropped", || async { database.client().batch_execute(&sql).await.ok() })
        .await;
    until("everybody to be told", || async {
        (relay.metric("relay_gaps_total{reason=\"slot_dropped\"}") > 0.0).then_some(())
    })
    .await;
    until("the relay to stream again", || async { (relay.get("/readyz").0 == 200).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_after_a_history_that_began_under_a_client_come_again() {
    let (database, relay) = start(&[]).await;
    let mut stalled = settled(&relay, &database, "stalled", 1).await;
    let mut watcher = settled(&relay, &database, "watcher", 2).await;
    until_row(&mut stalled, 2).await;
    drop_slot(&relay, &database).await;
    for client in [&mut stalled, &mut watcher] {
        assert_eq!(gap(&expect_gap(client).await)["reason"], "slot_dropped");
    }
    // Both know it.
    insert(&database, 3..=3).await;
    for client in [&mut stalled, &mut watcher] {
        until_row(client, 3).await;
        read_until(client, &relay, "relay_proofs_total").await;
    }
    // From here on one of them reads nothing.
    insert(&database, 4..=6).await;
    until_row(&mut watcher, 6).await;
    read_until(&mut watcher, &relay, "relay_proofs_total").await;
    drop(stalled);
    let mut again = resuming(&relay, "stalled", &anon()).await;
    again.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 7..=7).await;
    let rows = ids(&until_row(&mut again, 7).await);
    assert!(rows.ends_with(&[4, 5, 6, 7]), "{rows:?}");
    assert!(again.flush().await.is_empty(), "nothing is missing, and no gap is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_was_told_to_a_dead_connection_is_told_again() {
    let (database, relay) = start(&[]).await;
    let stalled = settled(&relay, &database, "stalled", 1).await;
    let mut watcher = settled(&relay, &database, "watcher", 2).await;
    drop_slot(&relay, &database).await;
    expect_gap(&mut watcher).await;
    insert(&database, 3..=3).await;
    until_row(&mut watcher, 3).await;
    read_until(&mut watcher, &relay, "relay_proofs_total").await;
    drop(stalled);
    let mut again = resuming(&relay, "stalled", &anon()).await;
    again.subscribe("room", wishes(&Value::Null)).await;
    assert_eq!(gap(&expect_gap(&mut again).await)["reason"], "slot_dropped");
    // Once that is proven it is over.
    insert(&database, 4..=4).await;
    until_row(&mut again, 4).await;
    read_until(&mut again, &relay, "relay_proofs_total").await;
    drop(again);
    insert(&database, 5..=5).await;
    let mut last = resuming(&relay, "stalled", &anon()).await;
    last.subscribe("room", wishes(&Value::Null)).await;
    assert_eq!(ids(&until_row(&mut last, 5).await), [5]);
    assert!(last.flush().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_withheld_from_a_dead_connection_is_judged_again() {
    let database = prepare().await;
    database
        .execute(
            "alter table notes enable row level security;
             create policy own on notes for select using (coalesce(body, '1')::int > 0)",
        )
        .await;
    let relay = Relay::start(&database).await;
    let stalled = settled(&relay, &database, "stalled", 1).await;
    let mut watcher = settled(&relay, &database, "watcher", 2).await;
    database.execute("insert into notes values (3, 'ann', 'no number')").await;
    let told = watcher.expect("system").await;
    assert_eq!(told.payload["status"], "error", "{told:?}");
    insert(&database, 4..=4).await;
    until_row(&mut watcher, 4).await;
    read_until(&mut watcher, &relay, "relay_proofs_total").await;
    database.execute("alter policy own on notes using (true)").await;
    database.execute("insert into notes values (5, 'ann', 'no number either')").await;
    until_row(&mut watcher, 5).await;
    read_until(&mut watcher, &relay, "relay_proofs_total").await;
    drop(stalled);
    let mut again = resuming(&relay, "stalled", &anon()).await;
    again.subscribe("room", wishes(&Value::Null)).await;
    let rows = ids(&until_row(&mut again, 5).await);
    assert!(rows.ends_with(&[3, 4, 5]), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_place_is_told_until_it_knows() {
    let (database, mut relay) = start(&[]).await;
    settled(&relay, &database, "watcher", 0).await;
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    // It breaks before it has read so; it is still new, and what came meanwhile is not lost on it.
    insert(&database, 1..=2).await;
    drop(first);
    let mut second = resuming(&relay, "tab", &anon()).await;
    second.subscribe("room", wishes(&Value::Null)).await;
    let told = second.expect("system").await.payload;
    assert_eq!((&told["status"], &told["resume"]), (&"ok".into(), &"new".into()), "{told}");
    assert!(ids(&until_row(&mut second, 2).await).ends_with(&[1, 2]));
    read_until(&mut second, &relay, "relay_places_saved_total").await;
    drop(second);
    let mut third = resuming(&relay, "tab", &anon()).await;
    third.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 3..=3).await;
    until_row(&mut third, 3).await;
    assert!(third.flush().await.is_empty(), "it knows, and continues");
    read_until(&mut third, &relay, "relay_proofs_total").await;
    drop(third);
    // A relay without the places of the one before cannot tell it from a stranger, and says so.
    assert_eq!(relay.terminate().await, Some(0));
    std::fs::remove_file(relay.directory().join("resumes")).unwrap();
    insert(&database, 4..=4).await;
    relay.launch();
    relay.ready().await;
    let mut fourth = resuming(&relay, "tab", &anon()).await;
    fourth.subscribe("room", wishes(&Value::Null)).await;
    assert_eq!(fourth.expect("system").await.payload["resume"], "new");
}
