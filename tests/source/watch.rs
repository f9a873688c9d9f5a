//! What is seen of the slot from outside, and that seeing goes on.

use std::time::Duration;

use super::{Wish, each_once, published};
use crate::support::{Cluster, until};

#[tokio::test]
async fn the_slot_is_measured_as_postgres_sees_it() {
    const WRITTEN: i64 = 8_000_000;
    let cluster = Cluster::start(&[("max_slot_wal_keep_size", "1GB")]);
    let database = published(&cluster).await;
    // A log with room for one: the slot stays behind.
    let mut reader = Wish { log_bytes: 1, ..Wish::on(&database) }.read();
    reader.streaming().await;
    let metrics = &reader.metrics;
    let safe = || metrics.slot_safe_bytes.get(&[]).map(|bytes| bytes.get());
    let before = until("what is safe to be seen", || async { safe() }).await;
    for id in 1..=3 {
        database.execute(&format!("insert into t values ({id})")).await;
    }
    let wal = format!(
        "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, {})",
        WRITTEN / 1_000_000
    );
    database.execute(&wal).await;
    until("the slot to be seen behind", || async {
        let is_behind = WRITTEN < metrics.slot_retained_bytes.get()
            && WRITTEN < metrics.slot_lag_bytes.get()
            && safe().is_some_and(|safe| safe < before);
        is_behind.then_some(())
    })
    .await;
    database.execute("alter system set max_slot_wal_keep_size = -1").await;
    cluster.reload();
    assert_eq!(reader.ids_until(3).await, each_once(3));
    until("the slot to be seen in time, without a limit", || async {
        (metrics.slot_lag_bytes.get() < WRITTEN && safe().is_none()).then_some(())
    })
    .await;
    reader.stop().await;
}

#[tokio::test]
async fn watching_goes_on_when_its_connection_breaks_and_the_stream_does_not_notice() {
    let database = published(Cluster::shared()).await;
    let heartbeat = Duration::from_millis(50);
    let mut reader = Wish { heartbeat, ..Wish::on(&database) }.read();
    reader.streaming().await;
    let watching = "from pg_stat_activity where datname = current_database()
        and application_name = 'relay-source' and backend_type = 'client backend'";
    for _ in 0..3 {
        let first = reader.metrics.heartbeats.get();
        until("a heartbeat", || async { (first < reader.metrics.heartbeats.get()).then_some(()) })
            .await;
        let broken: i32 = database.query(&format!("select pid {watching}")).await[0].get(0);
        database.execute(&format!("select pg_terminate_backend({broken}, 10000)")).await;
        until("another connection", || async {
            let pids = database.query(&format!("select pid {watching}")).await;
            (pids.first()?.get::<_, i32>(0) != broken).then_some(())
        })
        .await;
    }
    let last = reader.metrics.heartbeats.get();
    until("a heartbeat again", || async { (last < reader.metrics.heartbeats.get()).then_some(()) })
        .await;
    assert_eq!(reader.metrics.source_connects.get(), 1);
    database.execute("insert into t values (1)").await;
    assert_eq!(reader.ids_until(1).await, each_once(1));
    reader.stop().await;
}
