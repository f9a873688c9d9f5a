//! What Postgres is told: exactly what the log has, in time, whatever the log is doing.

use std::time::Duration;

use super::proxy::Proxy;
use super::{Wish, each_once, published};
use crate::support::{Cluster, until};

#[tokio::test]
async fn a_commit_right_behind_an_idle_confirmation_is_received() {
    let cluster = Cluster::start(&[("autovacuum", "off")]);
    let database = published(&cluster).await;
    database.execute("create table other (id int)").await;
    let writer = database.connect().await;
    // A slot is only made once the transactions that are open have ended.
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    reader.stop().await;
    for id in 1..=20_i64 {
        writer.batch_execute("begin").await.unwrap();
        writer.execute("insert into t values ($1)", &[&id]).await.unwrap();
        // The open transaction's records are confirmed up to the last byte: its commit comes next.
        let idle = format!(
            "select (confirmed_flush_lsn >= pg_current_wal_insert_lsn())::text from pg_replication_slots where slot_name = '{}'",
            database.slot()
        );
        // Postgres writes something of its own every fifteen seconds; where that was in between, once more.
        until("nothing else to be written in between", || async {
            // A heartbeat would end the idleness.
            let mut reader = Wish { heartbeat: Duration::ZERO, ..Wish::on(&database) }.read();
            reader.streaming().await;
            // A commit of something else flushes the WAL up to here.
            database.execute("insert into other values (1)").await;
            until("an idle confirmation", || async {
                (database.text(&idle).await == "true").then_some(())
            })
            .await;
            reader.stop().await;
            (database.text(&idle).await == "true").then_some(())
        })
        .await;
        writer.batch_execute("commit").await.unwrap();

        let mut reader = Wish { heartbeat: Duration::ZERO, ..Wish::on(&database) }.read();
        reader.streaming().await;
        assert_eq!(super::inserted(&reader.next().await[0]), [id]);
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_is_a_commit_end_or_a_keepalive_exactly() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let (url, heartbeat) = (proxy.url(&database), Duration::from_millis(10));
    let mut reader = Wish { url, heartbeat, ..Wish::on(&database) }.read();
    reader.streaming().await;
    let query = format!(
        "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    let start: u64 = database.text(&query).await.parse().unwrap();
    // Small and large transactions, rolled back ones, and WAL that is not published.
    database.execute("create table other (id int)").await;
    for round in 0..60_i64 {
        let (first, last) = (round * 100 + 1, round * 100 + 100);
        database.execute(&format!("insert into t select generate_series({first}, {last})")).await;
        database.execute("begin; insert into t values (0); rollback").await;
        database.execute("insert into other select generate_series(1, 50)").await;
    }
    assert_eq!(reader.ids_until(6000).await, each_once(6000));
    let end: u64 =
        database.text("select (pg_current_wal_lsn() - '0/0')::text").await.parse().unwrap();
    until("everything to be confirmed", || async {
        let confirmed: u64 = database.text(&query).await.parse().unwrap();
        (confirmed >= end).then_some(())
    })
    .await;
    reader.stop().await;

    let (told, highest) = proxy.exact_confirmations(start);
    assert!(told > 1 && highest >= end, "{told} updates up to {highest:X}");
}

#[tokio::test]
async fn foreign_wal_is_confirmed_so_that_it_can_be_removed() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    database.execute("create table other as select generate_series(1, 10000) as id").await;
    let end = database.text("select pg_current_wal_lsn()::text").await;
    let query = format!(
        "select (confirmed_flush_lsn >= '{end}')::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    until("foreign WAL to be confirmed", || async {
        (database.text(&query).await == "true").then_some(())
    })
    .await;
    reader.stop().await;
}

#[tokio::test]
async fn a_full_log_holds_the_stream_but_not_the_connection() {
    let database = published(Cluster::shared()).await;
    // No machine is so slow that the source says nothing for so long.
    let wal_sender_timeout = Duration::from_secs(4);
    let heartbeat = Duration::from_millis(100);
    let wish = Wish { wal_sender_timeout, heartbeat, log_bytes: 1, ..Wish::on(&database) };
    let mut reader = wish.read();
    reader.streaming().await;
    for id in 1..=5 {
        database.execute(&format!("insert into t values ({id}, repeat('x', 100000))")).await;
    }
    // One transaction fits. The walsender lives on, past several of its timeouts, and hears from us.
    let query = format!(
        "select (now() - r.backend_start > '9 s' and now() - r.reply_time < '2 s')::text
         from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
         where s.slot_name = '{}'",
        database.slot()
    );
    until("the walsender to be older than its timeouts", || async {
        let rows = database.query(&query).await;
        (rows.first()?.get::<_, String>(0) == "true").then_some(())
    })
    .await;
    assert_eq!(reader.ids_until(5).await, each_once(5));
    assert_eq!(reader.metrics.source_connects.get(), 1);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_connection_is_let_go_by_both_sides() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let wal_sender_timeout = Duration::from_secs(1);
    let url = proxy.url(&database);
    let mut reader = Wish { url, wal_sender_timeout, ..Wish::on(&database) }.read();
    reader.streaming().await;
    database.execute("insert into t values (1)").await;
    let holder = format!(
        "select active_pid from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    let first: Option<i32> = database.query(&holder).await[0].get(0);
    proxy.freeze();
    database.execute("insert into t values (2)").await;
    until("Postgres to let go of the slot", || async {
        let now: Option<i32> = database.query(&holder).await[0].get(0);
        (now != first).then_some(())
    })
    .await;
    database.execute("insert into t values (3)").await;
    assert_eq!(reader.ids_until(3).await, each_once(3));
    assert!(reader.metrics.source_connects.get() >= 2);
    reader.stop().await;
}
