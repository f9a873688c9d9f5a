//! What is written comes back; when it does not, the stream is left, and only then.

use std::time::Duration;

use relay::source::SourceState;

use super::proxy::Proxy;
use super::{Reader, Wish, each_once, published};
use crate::support::{Cluster, Database, until};

const OFTEN: Duration = Duration::from_millis(50);

/// Waits until `more` heartbeats than now are back.
async fn beats(reader: &Reader, more: u64) {
    let before = reader.metrics.heartbeats.get();
    until("heartbeats to come back", || async {
        (before + more <= reader.metrics.heartbeats.get()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn heartbeats_come_back_and_are_told_to_nobody() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish { heartbeat: OFTEN, ..Wish::on(&database) }.read();
    reader.streaming().await;
    beats(&reader, 3).await;
    assert!(reader.metrics.heartbeat_seconds.get() > 0.0);
    assert_eq!(reader.metrics.transactions.get(), 0);
    // What others write, even under our name, is passed over.
    database
        .execute(
            "select pg_logical_emit_message(false, 'relay', '0000000000000000-0');
             select pg_logical_emit_message(false, 'other', 'x');
             begin;
             insert into t values (1);
             select pg_logical_emit_message(true, 'other', 'x');
             insert into t values (2);
             commit",
        )
        .await;
    let transactions = reader.next().await;
    assert_eq!(super::inserted(&transactions[0]), [1, 2]);
    assert_eq!((reader.metrics.changes.get(), reader.metrics.source_connects.get()), (2, 1));
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_on_an_idle_publication_are_confirmed_by_keepalives_alone() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let url = proxy.url(&database);
    let mut reader = Wish { url, heartbeat: OFTEN, ..Wish::on(&database) }.read();
    reader.streaming().await;
    let query = format!(
        "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    let start: u64 = database.text(&query).await.parse().unwrap();
    beats(&reader, 10).await;
    let end: u64 =
        database.text("select (pg_current_wal_lsn() - '0/0')::text").await.parse().unwrap();
    let confirmed = until("the slot to move", || async {
        let confirmed: u64 = database.text(&query).await.parse().unwrap();
        (end <= confirmed).then_some(confirmed)
    })
    .await;
    reader.stop().await;
    let (told, highest) = proxy.exact_confirmations(start);
    assert!(told > 1 && highest >= confirmed, "{told} updates up to {highest:X}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_swallows_heartbeats_is_left() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let url = proxy.url(&database);
    let mut reader = Wish { url, heartbeat: OFTEN, ..Wish::on(&database) }.read();
    reader.streaming().await;
    beats(&reader, 1).await;
    assert_eq!(reader.metrics.source_connects.get(), 1);
    proxy.swallow_messages(true);
    let slot = database.slot();
    let says_so = |state: &SourceState| {
        let words = format!("the heartbeat did not come back through slot {slot:?}");
        matches!(state, SourceState::Connecting { reason: Some(reason) } if reason.contains(&words))
    };
    reader.state("leaving the stream", says_so).await;
    assert!(3 <= reader.metrics.heartbeats_missed.get());
    database.execute("insert into t values (1)").await;
    proxy.swallow_messages(false);
    beats(&reader, 1).await;
    database.execute("insert into t values (2)").await;
    assert_eq!(reader.ids_until(2).await, each_once(2));
    assert!(2 <= reader.metrics.source_connects.get());
    reader.stop().await;
}

#[tokio::test]
async fn a_role_that_may_not_write_heartbeats_reads_without_them() {
    let cluster = Cluster::start(&[]);
    let database = published(&cluster).await;
    database.execute("create role quiet login replication").await;
    for_the_function(&database, "revoke execute on function %s from public").await;
    let url = database.url_as("quiet");
    let mut reader = Wish { url, heartbeat: OFTEN, ..Wish::on(&database) }.read();
    reader.streaming().await;
    let asked =
        "select from pg_stat_activity where usename = 'quiet' and query like '%may_execute%'";
    until("the right to be asked for", || async {
        (!database.query(asked).await.is_empty()).then_some(())
    })
    .await;
    database.execute("insert into t values (1)").await;
    assert_eq!(reader.ids_until(1).await, each_once(1));
    let metrics = &reader.metrics;
    assert_eq!((metrics.heartbeats.get(), metrics.heartbeats_missed.get()), (0, 0));
    for_the_function(&database, "grant execute on function %s to quiet").await;
    beats(&reader, 1).await;
    assert_eq!(reader.metrics.source_connects.get(), 1);
    reader.stop().await;
    let log = std::fs::read_to_string(cluster.log()).unwrap();
    assert!(!log.contains("permission denied for function"), "{log}");
}

/// Runs `statement` for each form of the function.
async fn for_the_function(database: &Database, statement: &str) {
    let each = format!(
        "do $$ declare f regprocedure; begin
           for f in select oid from pg_proc where proname = 'pg_logical_emit_message' loop
             execute format('{statement}', f);
           end loop;
         end $$"
    );
    database.execute(&each).await;
}
